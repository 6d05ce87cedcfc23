//! Tokens of `locate`: the keys that sign them, and hands that forge them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::process::{Launch, kinetic, run};

/// A folder of signing keys, made by `kinetic token new`.
#[derive(Debug)]
pub struct TokenKeys {
    folder: PathBuf,
}

impl TokenKeys {
    /// An empty one.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// For `--token-keys`.
    #[must_use]
    pub fn folder(&self) -> String {
        self.folder.to_string_lossy().into_owned()
    }

    /// Makes a key; returns its public half, as the schema has it.
    ///
    /// # Panics
    /// If that does not work.
    #[must_use]
    pub fn make(&self, kid: &str) -> String {
        let said = run(Launch::new(kinetic()).args(["token", "new", kid, "--keys", &self.folder()]));
        let public = said.lines().find_map(|line| line.trim().strip_prefix("public = \""));
        public.unwrap_or_else(|| panic!("no public half: {said}")).trim_end_matches('"').to_owned()
    }

    /// What RabbitMQ verifies by.
    #[must_use]
    pub fn public_pem(&self, kid: &str) -> PathBuf {
        self.folder.join(format!("{kid}.pub.pem"))
    }

    /// Signs whatever it is given.
    ///
    /// # Panics
    /// If the key is not there.
    #[must_use]
    pub fn sign(&self, kid: &str, header: &Value, claims: &Value) -> String {
        let random = SystemRandom::new();
        let der = der(&self.folder.join(format!("{kid}.pem")));
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).expect("a key");
        let text = format!("{}.{}", part(header), part(claims));
        let signature = pair.sign(&random, text.as_bytes()).expect("random numbers");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// The header of a token, as we make it.
#[must_use]
pub fn header(kid: &str) -> Value {
    json!({"alg": "ES256", "typ": "JWT", "kid": kid})
}

/// What a token's second part says.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn claims(token: &str) -> Value {
    decoded(token.split('.').nth(1).expect("three parts"))
}

/// The name of the key that a token says it is signed with.
///
/// # Panics
/// If it says none.
#[must_use]
pub fn kid(token: &str) -> String {
    decoded(token.split('.').next().expect("three parts"))["kid"].as_str().expect("a name").to_owned()
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// A part of a token.
#[must_use]
pub fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn der(path: &Path) -> Vec<u8> {
    let pem = std::fs::read_to_string(path).expect("the key");
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    STANDARD.decode(lines.collect::<String>()).expect("PEM")
}

/// Seconds since the Unix epoch, after so long.
///
/// # Panics
/// If the clock stands before that.
#[must_use]
pub fn in_secs(wait: Duration) -> u64 {
    (SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + wait).as_secs()
}

/// The same as the schema writes it (RFC 3339, UTC).
#[must_use]
pub fn written(secs: u64) -> String {
    run(Launch::new("/bin/date").args(["-u", "-d", &format!("@{secs}"), "+%Y-%m-%dT%H:%M:%SZ"]))
        .trim()
        .to_owned()
}
