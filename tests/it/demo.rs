//! `kinetic demo`: the first thing that people type.

use kinetic_tests::process::{Launch, kinetic};

#[test]
fn the_demo_mails_about_the_slow_host_and_ends_well() {
    let output = Launch::new(kinetic()).args(["demo", "--once", "--json", "--timeout", "120"]).output();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    let report: serde_json::Value =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
    let feed = report["feed"].as_str().unwrap_or_default();
    assert!(feed.starts_with("web-"), "{report}");
    let header = |name: &str| {
        let headers = report["headers"].as_object().expect("headers");
        let found = headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found
            .and_then(|(_, value)| value.as_str())
            .unwrap_or_else(|| panic!("no {name}: {report}"))
            .to_owned()
    };
    assert!(header("subject").contains(feed.split(['/', ' ']).next().unwrap_or(feed)), "{report}");
    for name in ["message-id", "from", "to", "date", "auto-submitted"] {
        assert!(!header(name).is_empty(), "{name}: {report}");
    }
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name}: {report}"));
    assert!(
        number("first_sample_ms") <= number("alert_ms") && number("alert_ms") <= number("mail_ms"),
        "{report}"
    );
    assert!(number("samples") > 0 && number("mails") >= 1, "{report}");
}

#[test]
fn a_demo_without_time_says_why_it_failed() {
    let output = Launch::new(kinetic()).args(["demo", "--once", "--timeout", "1"]).output();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("within 1 s"), "{said}");
}
