//! Certificates of the stories: an authority made by `kinetic ca`, and what openssl makes of it that `kinetic ca` would not.

use std::path::{Path, PathBuf};

use kinetic_amqp::Identity;

use crate::process::{Launch, kinetic, run};

/// An authority in a folder.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Its login.
    pub login: String,
    /// PEM of the certificate.
    pub cert: PathBuf,
    /// PEM of the key.
    pub key: PathBuf,
    /// The block that stands for it in the schema.
    pub block: String,
}

impl Issued {
    /// For a client of ours.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { cert_file: self.cert.clone(), key_file: self.key.clone() }
    }

    /// Puts this one where another lies, each file at once, as whoever renews certificates should.
    ///
    /// # Panics
    /// If that does not work.
    pub fn replaces(&self, other: &Self) {
        for (new, old) in [(&self.cert, &other.cert), (&self.key, &other.key)] {
            let beside = old.with_extension("new");
            std::fs::copy(new, &beside).expect("copy with its mode");
            std::fs::rename(&beside, old).expect("rename");
        }
    }

    /// Words of a command line.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        vec!["--client-cert".into(), text(&self.cert), "--client-key".into(), text(&self.key)]
    }
}

impl Authority {
    /// A new one in a folder.
    #[must_use]
    pub fn init(dir: &Path) -> Self {
        run(Launch::new(kinetic()).args(["ca", "init", &text(dir)]));
        Self { dir: dir.to_owned() }
    }

    /// Its certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A client's certificate, in a folder.
    ///
    /// # Panics
    /// If it is not issued.
    #[must_use]
    pub fn issue(&self, customer: &str, name: &str, out: &Path) -> Issued {
        let words = ["ca", "issue", &text(&self.dir), customer, name, "--json", "--out", &text(out)];
        let said = run(Launch::new(kinetic()).args(words));
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let of = |field: &str| said[field].as_str().expect("a text").to_owned();
        let block = format!(
            "certificate \"{name}\" {{\n    sha256  = \"{}\"\n    expires = \"{}\"\n  }}",
            of("sha256"),
            of("expires")
        );
        let login = of("login");
        let file = |kind: &str| out.join(format!("{login}.{kind}"));
        Issued { cert: file("pem"), key: file("key"), block, login }
    }

    /// A broker's certificate for loopback, in a folder.
    ///
    /// # Panics
    /// If it is not issued.
    #[must_use]
    pub fn issue_server(&self, out: &Path) -> Issued {
        let dir = text(&self.dir);
        run(Launch::new(kinetic())
            .args(["ca", "issue-server", &dir, "localhost", "127.0.0.1", "--out"])
            .args([text(out)]));
        let (cert, key) = (out.join("localhost.pem"), out.join("localhost.key"));
        Issued { login: "localhost".to_owned(), cert, key, block: String::new() }
    }

    /// A client's certificate that is good for the second in which it is made.
    ///
    /// # Panics
    /// If openssl does not make it.
    #[must_use]
    pub fn issue_expired(&self, login: &str, out: &Path) -> Issued {
        let dir = text(&self.dir);
        let script = "umask 077 && mkdir -p \"$3\" && cd \"$3\" && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                      -keyout \"$2.key\" -subj \"/CN=$2\" -out \"$2.csr\" && \
                      echo extendedKeyUsage=clientAuth >ext && openssl x509 -req -extfile ext -in \"$2.csr\" -CA \"$1/ca.pem\" -CAkey \"$1/ca.key\" -days 0 -out \"$2.pem\"";
        run(Launch::new("/bin/sh").args(["-c", script, "sh", &dir, login, &text(out)]));
        let file = |kind: &str| out.join(format!("{login}.{kind}"));
        Issued { login: login.to_owned(), cert: file("pem"), key: file("key"), block: String::new() }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
