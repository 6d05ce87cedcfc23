//! Signs e-mails (DKIM, RFC 6376; Ed25519 by RFC 8463): relaxed canonicalization of headers and body, SHA-256.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kinetic_schema::schema::Dkim;
use ring::rand::SystemRandom;
use ring::signature::{self, Ed25519KeyPair, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::adapter::file;

/// Headers that a signature covers, as far as a mail has them.
const SIGNED: [&str; 20] = [
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "reply-to",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "auto-submitted",
    "precedence",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "x-kinetic-customer",
    "x-kinetic-rule",
    "x-kinetic-state",
    "x-kinetic-reason",
];
/// Headers of which nobody may add another: named once more than a mail has them (RFC 6376 section 8.15).
const SEALED: [&str; 9] = [
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "content-type",
    "list-unsubscribe",
    "list-unsubscribe-post",
];
/// Characters of the signature on one line.
const LINE_MAX: usize = 72;

/// A domain's key.
pub(crate) struct Signer {
    domain: String,
    selector: String,
    key: Key,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

/// Says whose key it is, not the key.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}._domainkey.{})", self.selector, self.domain)
    }
}

impl Signer {
    /// Reads the key: PEM, PKCS #8 or PKCS #1, in a file that only its owner may read.
    pub(crate) fn new(declared: &Dkim) -> Result<Self> {
        let path = &declared.key_file;
        let pem = file::read_secret_text(path)?;
        let key = Key::read(&pem).with_context(|| format!("cannot sign mail with {}", path.display()))?;
        Ok(Self { domain: declared.domain.clone(), selector: declared.selector.clone(), key })
    }

    /// The message with its signature in front.
    pub(crate) fn sign(&self, message: &[u8], at_secs: u64) -> Result<Vec<u8>> {
        let text = std::str::from_utf8(message).context("the message to be signed is not text")?;
        let (head, body) = text.split_once("\r\n\r\n").context("the message to be signed has no body")?;
        let headers = headers(head);
        let body_hash = ring::digest::digest(&ring::digest::SHA256, relaxed_body(body).as_bytes());
        let (names, mut covered) = covered(&headers);
        let mut value = format!(
            " v=1; a={}; c=relaxed/relaxed; d={}; s={};\r\n t={at_secs}; h=",
            self.key.algorithm(),
            self.domain,
            self.selector
        );
        for (index, name) in names.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            let fold = if index > 0 && index % 4 == 0 { "\r\n  " } else { "" };
            write!(value, "{colon}{fold}{name}")?;
        }
        write!(value, ";\r\n bh={};\r\n b=", BASE64.encode(body_hash))?;
        covered.push_str(&relaxed_header("dkim-signature", &value));
        let signature = BASE64.encode(self.key.sign(covered.as_bytes())?);
        let mut signed = format!("DKIM-Signature:{value}");
        for (index, line) in signature.as_bytes().chunks(LINE_MAX).enumerate() {
            let fold = if index == 0 { "" } else { "\r\n  " };
            write!(signed, "{fold}{}", String::from_utf8_lossy(line))?;
        }
        signed.push_str("\r\n");
        let mut signed = signed.into_bytes();
        signed.extend_from_slice(message);
        Ok(signed)
    }
}

impl Key {
    fn read(pem: &str) -> Result<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| anyhow::anyhow!("it holds no private key in PEM: {error}"))?;
        let der = match &der {
            PrivateKeyDer::Pkcs1(der) => {
                let key = RsaKeyPair::from_der(der.secret_pkcs1_der());
                return key.map(|key| Self::Rsa(Box::new(key))).map_err(unfit);
            }
            PrivateKeyDer::Pkcs8(der) => der.secret_pkcs8_der(),
            _ => bail!("it is neither PKCS #8 nor PKCS #1"),
        };
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::Ed25519(key));
        }
        RsaKeyPair::from_pkcs8(der).map(|key| Self::Rsa(Box::new(key))).map_err(unfit)
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519(_) => "ed25519-sha256",
        }
    }

    fn sign(&self, covered: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), covered, &mut signature)
                    .map_err(|_| anyhow::anyhow!("the RSA signature failed"))?;
                Ok(signature)
            }
            // RFC 8463: what is signed is the hash.
            Self::Ed25519(key) => {
                let hash = ring::digest::digest(&ring::digest::SHA256, covered);
                Ok(key.sign(hash.as_ref()).as_ref().to_vec())
            }
        }
    }
}

fn unfit(why: ring::error::KeyRejected) -> anyhow::Error {
    anyhow::anyhow!("the key is neither RSA of 2048 to 4096 bits nor Ed25519: {why}")
}

/// Names and values, in order; a value still has its folds.
fn headers(head: &str) -> Vec<(&str, &str)> {
    let mut headers = Vec::new();
    let mut rest = head;
    while !rest.is_empty() {
        let mut end = 0;
        // A line that begins with white space goes on with the header before it.
        let length = loop {
            match rest[end..].find("\r\n") {
                Some(at) if rest[end + at + 2..].starts_with([' ', '\t']) => end += at + 2,
                Some(at) => break end + at,
                None => break rest.len(),
            }
        };
        let (header, after) = rest.split_at(length);
        if let Some((name, value)) = header.split_once(':') {
            headers.push((name, value));
        }
        rest = after.strip_prefix("\r\n").unwrap_or(after);
    }
    headers
}

/// The list of names, and the covered headers in their canonical form; of several alike the last is first.
fn covered(headers: &[(&str, &str)]) -> (Vec<&'static str>, String) {
    let (mut names, mut text) = (Vec::new(), String::new());
    for name in SIGNED {
        for (_, value) in headers.iter().rev().filter(|(header, _)| header.eq_ignore_ascii_case(name)) {
            names.push(name);
            text.push_str(&relaxed_header(name, value));
            text.push_str("\r\n");
        }
        if SEALED.contains(&name) {
            names.push(name);
        }
    }
    (names, text)
}

/// RFC 6376 section 3.4.2, without the line's end. `name` is in lower case.
fn relaxed_header(name: &str, value: &str) -> String {
    let words: Vec<&str> = value.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()).collect();
    format!("{name}:{}", words.join(" "))
}

/// RFC 6376 section 3.4.4.
fn relaxed_body(body: &str) -> String {
    let mut relaxed = String::with_capacity(body.len());
    for line in body.split("\r\n") {
        let mut gap = false;
        for c in line.trim_end_matches([' ', '\t']).chars() {
            let blank = matches!(c, ' ' | '\t');
            if !blank || !gap {
                relaxed.push(if blank { ' ' } else { c });
            }
            gap = blank;
        }
        relaxed.push_str("\r\n");
    }
    let kept = relaxed.trim_end_matches("\r\n").len();
    relaxed.truncate(kept);
    if !relaxed.is_empty() {
        relaxed.push_str("\r\n");
    }
    relaxed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 6376 section 3.4.5 and 3.4.6.
    #[test]
    fn canonical_forms_are_those_of_the_rfc() {
        let headers = headers("A: X\r\nB : Y\t\r\n\tZ  ");
        assert_eq!(headers, [("A", " X"), ("B ", " Y\t\r\n\tZ  ")]);
        assert_eq!(relaxed_header("b", headers[1].1), "b:Y Z");
        assert_eq!(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!((relaxed_body("").as_str(), relaxed_body("\r\n\r\n").as_str()), ("", ""));
        assert_eq!(relaxed_body("no end"), "no end\r\n");
    }

    #[test]
    fn a_sealed_header_is_named_once_more_than_it_stands_there() {
        let (names, text) =
            covered(&headers("List-Unsubscribe: <https://a.example>\r\nFrom: a\r\nX-Other: b"));
        let count = |name: &str| names.iter().filter(|named| **named == name).count();
        assert_eq!(
            (count("from"), count("list-unsubscribe"), count("subject"), count("x-other")),
            (2, 2, 1, 0)
        );
        assert_eq!(text, "from:a\r\nlist-unsubscribe:<https://a.example>\r\n");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for pem in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(Key::read(pem).is_err(), "{pem}");
        }
    }

    #[test]
    fn an_ed25519_key_signs_the_hash() {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(&made));
        let key = Key::read(&pem).expect("reads");
        let Key::Ed25519(pair) = &key else { panic!("an Ed25519 key") };
        let public = signature::KeyPair::public_key(pair).as_ref().to_vec();
        let signed = key.sign(b"from:a\r\n").expect("signs");
        let hash = ring::digest::digest(&ring::digest::SHA256, b"from:a\r\n");
        signature::UnparsedPublicKey::new(&signature::ED25519, public)
            .verify(hash.as_ref(), &signed)
            .expect("the signature is of the hash");
        assert_eq!(key.algorithm(), "ed25519-sha256");
    }
}
