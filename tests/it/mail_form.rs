//! The mail as others read it: Python's parser takes it apart, and the signature is checked by code that is not ours. No broker
//! is needed: `kinetic mail preview` makes the mail as the alert node does.

use std::fs;
use std::path::{Path, PathBuf};

use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic, run};
use kinetic_tests::tool::python_with;
use serde_json::Value;

const SCHEMA: &str = r##"
region "local" {}
mail {
  relay      = "localhost:25"
  tls        = "none"
  from       = "Kinetic <alerts@kinetic.example>"
  public_url = "https://alerts.kinetic.example"
  dkim {
    domain   = "kinetic.example"
    selector = "test"
    key_file = "KEY"
  }
}
customer "acme" {
  region = region.local
  key "first" { salted_sha256 = "29c3851de2186dbdb1bb4193608605e84f33208765b5693b55edd4f730a719a100eeea6f" }
  source "hosts" {
    data_type = "statsd"
    routing   = ["#"]
  }
  service "shop" {
    cluster "hosts" {
      source  = source.hosts
      members = ["web-*"]
    }
  }
  analytic "slow-host" {
    on          = service.shop.cluster.hosts
    metric      = "request.time"
    window      = "10s"
    description = "Take the host out of the pool. Größe zählt."
    rule "deviates" {
      deviations = 3
      min_feeds  = 11
    }
  }
  alert "me" {
    analytics = [analytic.slow-host]
    to        = ["me@acme.example"]
  }
}
"##;

#[expect(clippy::disallowed_methods, reason = "a test sets up its files")]
fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

#[expect(clippy::disallowed_methods, reason = "a test looks at what was written")]
fn text_of(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

/// A schema folder with a key that only its owner may read; returns the folder and the key's DNS record.
fn made(dir: &Path) -> (PathBuf, String) {
    let key = dir.join("dkim.pem").to_string_lossy().into_owned();
    run(Launch::new("/bin/sh").args(["-c", &format!("umask 077; openssl genrsa -out {key} 2048")]));
    let public = format!("openssl rsa -in {key} -pubout -outform DER | openssl base64 -A");
    let public = run(Launch::new("/bin/sh").args(["-c", &public]));
    let schema = dir.join("schema");
    fs::create_dir_all(schema.join("customers/acme/templates")).expect("a folder");
    let text = SCHEMA.replace("KEY", &key);
    write(&schema.join("kinetic.hcl"), &text);
    (schema, format!("v=DKIM1; k=rsa; p={}", public.trim()))
}

fn preview(schema: &Path, out: &Path) -> String {
    let [schema, out] = [schema, out].map(|path| path.to_string_lossy().into_owned());
    let args = ["mail", "preview", &schema, "--customer", "acme", "--alert", "me", "--out", &out];
    run(Launch::new(kinetic()).args(args))
}

/// What the other parser says of a message.
fn read(eml: &Path, record: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/it/mail_check.py");
    let python = python_with("dkim").unwrap_or("python3");
    let said = run(Launch::new(python).args([script, &eml.to_string_lossy(), record]));
    serde_json::from_str(&said).expect("JSON")
}

#[test]
fn others_read_the_mail_as_it_is_meant() {
    if !all_here("mail_form", &[Need::Python]) {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let (schema, record) = made(dir.path());
    let out = dir.path().join("out");
    let printed = preview(&schema, &out);
    let eml = out.join("mail.eml");
    let said = read(&eml, &record);
    assert_eq!((&said["defects"], &said["bare"]), (&serde_json::json!([]), &serde_json::json!(0)), "{said}");
    assert!(said["longest"].as_u64().is_some_and(|longest| longest <= 998), "{said}");
    let kinds: Vec<&str> =
        said["parts"].as_array().expect("parts").iter().filter_map(|part| part["type"].as_str()).collect();
    assert_eq!(
        kinds,
        ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"],
        "{said}"
    );
    let picture = &said["parts"][4];
    let id = picture["id"].as_str().expect("an id").trim_matches(['<', '>']);
    assert!(said["html"].as_str().is_some_and(|html| html.contains(&format!("cid:{id}"))), "{said}");
    assert_eq!(picture["disposition"], "inline");
    assert!(picture["bytes"].as_u64().is_some_and(|bytes| (1_000..100_000).contains(&bytes)), "{picture}");
    assert!(
        printed.contains("Größe zählt") && said["text"].as_str().is_some_and(|text| text.contains("Größe"))
    );
    for (name, value) in [
        ("Auto-Submitted", "auto-generated"),
        ("X-Kinetic-Preview", "yes"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ] {
        assert_eq!(said["headers"][name], value, "{said}");
    }
    let link = said["headers"]["List-Unsubscribe"].as_str().expect("a link").trim_matches(['<', '>']);
    assert!(link.starts_with("https://alerts.kinetic.example/l/"), "{link}");
    for part in ["text", "html"] {
        assert!(said[part].as_str().is_some_and(|text| text.contains(link)), "{part} without {link}: {said}");
    }
    assert_eq!(said["dkim"], "good", "{said}");
    assert_eq!(said["dkimpy"] == true, python_with("dkim").is_some(), "{said}");

    // What is changed on the way is noticed.
    let message = text_of(&eml);
    for (what, changed) in [
        ("signature", message.replace("Auto-Submitted: auto-generated", "Auto-Submitted: no")),
        ("signature", message.replace("\r\nFrom:", "\r\nFrom: x@elsewhere.example\r\nFrom:")),
        ("signature", message.replace("List-Unsubscribe=One-Click", "List-Unsubscribe=No")),
        (
            "signature",
            message.replace("List-Unsubscribe: <https://alerts", "List-Unsubscribe: <https://elsewhere"),
        ),
        ("signature", message.replace("MIME-Version: 1.0", "MIME-Version: 1.1")),
        ("body", message.replace("preview: the", "message: the")),
    ] {
        assert_ne!(changed, message);
        write(&eml, &changed);
        let said = read(&eml, &record);
        assert_eq!(said["dkim"], what, "{said}");
        assert_ne!(said["dkimpy"], true, "{said}");
    }
}

#[test]
fn a_template_is_shown_and_one_that_fails_is_named() {
    if !all_here("mail_form", &[Need::Python]) {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let (schema, _) = made(dir.path());
    let template = schema.join("customers/acme/templates/text.j2");
    write(&template, "Call 555: {{ firing[0].origin }} has {{ firing[0].value }}\n");
    let printed = preview(&schema, &dir.path().join("out"));
    assert!(printed.contains("\nCall 555: web-7 has "), "{printed}");
    write(&template, "{{ firing[0].origin.no.such }}");
    let printed = preview(&schema, &dir.path().join("out"));
    assert!(printed.contains("The template text.j2 could not be used"), "{printed}");
    assert!(printed.contains("Firing (1)"), "{printed}");
}
