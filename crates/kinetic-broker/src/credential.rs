//! What somebody is known by: passwords, client certificates, tokens.

use crate::permission::User;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// A secret that is compared in constant time and never shown.
#[derive(Clone)]
pub enum Password {
    /// The password itself.
    Plain(String),
    /// SHA-256 of a salt and the password behind it.
    Salted {
        /// The salt.
        salt: [u8; 4],
        /// SHA-256 of both.
        digest: [u8; 32],
    },
}

impl Password {
    /// Whether `given` is the password. Takes the same time wherever a difference lies.
    pub fn matches(&self, given: &[u8]) -> bool {
        let (wanted, given): ([u8; 32], [u8; 32]) = match self {
            Self::Plain(password) => {
                (Sha256::digest(password.as_bytes()).into(), Sha256::digest(given).into())
            }
            Self::Salted { salt, digest } => {
                (*digest, Sha256::new().chain_update(salt).chain_update(given).finalize().into())
            }
        };
        bool::from(wanted.ct_eq(&given))
    }

    /// Whether both are known to accept the same password.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(own), other) => other.matches(own.as_bytes()),
            (own, Self::Plain(other)) => own.matches(other.as_bytes()),
            (Self::Salted { salt, digest }, Self::Salted { salt: other_salt, digest: other }) => {
                salt == other_salt && bool::from(digest.ct_eq(other))
            }
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// One of the things that a user is known by.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Whoever knows it (SASL PLAIN, AMQPLAIN).
    Password(Password),
    /// Whoever proves by TLS that he holds the certificate of this SHA-256 (over its DER), whose subject has the user's
    /// name as its only common name (SASL EXTERNAL).
    Certificate([u8; 32]),
}

impl Credential {
    /// Whether both let the same in.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password(own), Self::Password(other)) => own.same(other),
            (Self::Certificate(own), Self::Certificate(other)) => own == other,
            _ => false,
        }
    }
}

/// Reads signed tokens that come as passwords. The broker knows their outer form alone.
pub trait TokenVerifier: fmt::Debug + Send + Sync {
    /// What a token grants. Called on a connection's task with no lock held: it may compute, and must not wait. `login`
    /// is what the client gave, `now_ms` counts from the Unix epoch.
    ///
    /// # Errors
    /// Why not, for the log and never for the client. It must not hold the token.
    fn verify(&self, login: &str, token: &str, now_ms: i64) -> Result<TokenGrant, String>;

    /// Whether a grant that was given still holds, apart from its time: asked for every open connection when access
    /// changes.
    fn stands(&self, grant: &TokenGrant) -> bool;
}

/// What a token grants.
#[derive(Debug, Clone)]
pub struct TokenGrant {
    /// Whose it is. Limits count by it, and only a token of the same renews a connection.
    pub login: String,
    /// Name of the key that signed it.
    pub key: String,
    /// What it allows; its credentials are not looked at.
    pub user: User,
    /// The first moment at which it is good no more, milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// Whether a password has the form of a signed token: three parts of base64url, the first of which begins a JSON object.
pub(crate) fn token(password: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(password).ok()?;
    (text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_compare_and_hide() {
        let plain = Password::Plain("s3cret".into());
        let salted = |salt: [u8; 4]| Password::Salted {
            salt,
            digest: Sha256::new().chain_update(salt).chain_update(b"s3cret").finalize().into(),
        };
        let digest = salted(*b"salt");
        assert!(plain.matches(b"s3cret") && digest.matches(b"s3cret"));
        assert!(!plain.matches(b"s3cre") && !digest.matches(b""));
        assert!(plain.same(&digest) && digest.same(&plain) && !plain.same(&Password::Plain("other".into())));
        assert!(digest.same(&digest.clone()) && !digest.same(&salted(*b"mlas")));
        assert!(!format!("{plain:?}{digest:?}").contains("s3cret"));
    }

    #[test]
    fn credentials_are_the_same_by_kind_and_value() {
        let password = Credential::Password(Password::Plain("s3cret".into()));
        let (one, other) = (Credential::Certificate([1; 32]), Credential::Certificate([2; 32]));
        assert!(password.same(&password) && one.same(&one));
        assert!(!one.same(&other) && !one.same(&password) && !password.same(&one));
    }

    #[test]
    fn tokens_are_told_from_passwords() {
        assert_eq!(token(b"eyJh.eyJi.c"), Some("eyJh.eyJi.c"));
        for password in [&b"eyJh.eyJi"[..], b"eyJ.a.b.c", b"s3.cr.et", b"eyJ\xff..", b""] {
            assert_eq!(token(password), None);
        }
    }
}
