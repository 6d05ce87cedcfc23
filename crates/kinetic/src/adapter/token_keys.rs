//! Keys that sign tokens: a folder with a file of mode 600 for each, `<name>.pem` (PKCS #8); ECDSA on P-256 with SHA-256.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinetic_access::token::SIGNATURE_BYTES;
use kinetic_schema::schema::TokenKey;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use crate::adapter::file;

/// A point of P-256, uncompressed (SEC 1, section 2.3.3).
type Point = [u8; 65];

/// What stands before the point in a public key's DER: a SubjectPublicKeyInfo (RFC 5480) of id-ecPublicKey on secp256r1.
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Characters of a line of PEM (RFC 7468, section 2).
const PEM_LINE: usize = 64;

/// A private key.
pub(crate) struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// The key of that name, where the folder has it and only its owner may read it.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = private_file(folder, name)?;
        let text = file::read_secret_text(&path)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| anyhow!("{} holds no private key (PKCS #8, PEM)", path.display()))?;
        Self::of(der.secret_pkcs8_der())
            .with_context(|| format!("{} holds no key of P-256 (PKCS #8)", path.display()))
    }

    fn of(pkcs8: &[u8]) -> Result<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|refused| anyhow!("{refused}"))?;
        Ok(Self { pair, random })
    }

    /// Its public half.
    pub(crate) fn public(&self) -> Point {
        self.pair.public_key().as_ref().try_into().expect("an uncompressed point of P-256 has 65 bytes")
    }

    /// R and S; nothing where the system has no random numbers.
    pub(crate) fn sign(&self, text: &str) -> Option<Vec<u8>> {
        let signature = self.pair.sign(&self.random, text.as_bytes()).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

/// Makes a pair: `<name>.pem` for redirectors, `<name>.pub.pem` for RabbitMQ. What is there already is not touched.
pub(crate) fn make(folder: &Path, name: &str) -> Result<Signer> {
    let (private, public) = (private_file(folder, name)?, public_file(folder, name)?);
    for path in [&private, &public] {
        ensure!(!path.exists(), "{} is there already: a key has a name of its own", path.display());
    }
    file::make_private_dir(folder)?;
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
        .map_err(|_| anyhow!("the system has no random numbers"))?;
    let signer = Signer::of(pkcs8.as_ref())?;
    file::write_secret(&private, pem("PRIVATE KEY", pkcs8.as_ref()).trim_end())?;
    file::write_atomically(&public, public_pem(&signer.public()).as_bytes())?;
    file::set_public(&public)?;
    Ok(signer)
}

/// The public half as RabbitMQ reads it.
pub(crate) fn public_pem(point: &Point) -> String {
    pem("PUBLIC KEY", &[&SPKI[..], point].concat())
}

/// Whether a key of the schema made the signature.
pub(crate) fn has_signed(key: &TokenKey, text: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public).verify(text, signature).is_ok()
}

/// The file of a private key.
pub(crate) fn private_file(folder: &Path, name: &str) -> Result<PathBuf> {
    Ok(folder.join(format!("{}.pem", checked(name)?)))
}

/// The file of its public half.
pub(crate) fn public_file(folder: &Path, name: &str) -> Result<PathBuf> {
    Ok(folder.join(format!("{}.pub.pem", checked(name)?)))
}

/// A name that leads nowhere else.
fn checked(name: &str) -> Result<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    ensure!(
        (1..=64).contains(&name.len()) && name.bytes().all(plain),
        "a key's name has 1 to 64 letters, digits, - or _"
    );
    Ok(name)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(PEM_LINE).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_a_key_signs_its_public_half_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path(), "2026-a").unwrap();
        let read = Signer::read(dir.path(), "2026-a").unwrap();
        assert_eq!(made.public(), read.public());
        let key = TokenKey { name: "2026-a".to_owned(), public: read.public(), starts_ms: None };
        let signature: [u8; SIGNATURE_BYTES] = read.sign("text").unwrap().try_into().unwrap();
        assert!(has_signed(&key, b"text", &signature));
        assert!(!has_signed(&key, b"texT", &signature));
        let other = make(dir.path(), "other").unwrap().public();
        assert!(!has_signed(&TokenKey { public: other, ..key.clone() }, b"text", &signature));
        assert!(!has_signed(&TokenKey { public: [4; 65], ..key }, b"text", &signature), "no point at all");
    }

    #[test]
    fn a_key_is_its_owner_s_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("keys");
        make(&folder, "a").unwrap();
        let path = private_file(&folder, "a").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert_eq!(mode(&public_file(&folder, "a").unwrap()), 0o644, "RabbitMQ reads it");
        make(&folder, "a").unwrap_err();
        for name in ["", "../a", "a/b", ".", "a b"] {
            make(&folder, name).unwrap_err();
        }
        path.metadata()
            .map(|known| {
                let mut open = known.permissions();
                open.set_mode(0o640);
                std::fs::set_permissions(&path, open).unwrap();
            })
            .unwrap();
        let error = Signer::read(&folder, "a").unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
