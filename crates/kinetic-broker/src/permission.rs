//! Who may log in, to which vhost, and what they may configure, write and read there.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use subtle::ConstantTimeEq;

/// The vhosts that exist and the users who may use them. Swapped as a whole.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Names of the vhosts.
    pub vhosts: BTreeSet<String>,
    /// Users by login.
    pub users: BTreeMap<String, User>,
}

/// One login.
#[derive(Debug, Clone)]
pub struct User {
    /// What the user must present.
    pub password: Password,
    /// Permission per vhost; a vhost that is not named refuses the user.
    pub permissions: BTreeMap<String, Permission>,
    /// Open connections of this user; `None` for no limit but the broker's.
    pub connections_max: Option<usize>,
}

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
    pub(crate) fn same(&self, other: &Self) -> bool {
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

/// What a user may do in one vhost, as RabbitMQ divides it.
#[derive(Debug, Clone, Default)]
pub struct Permission {
    /// Declare and delete.
    pub configure: Names,
    /// Publish to an exchange; be the destination of a binding.
    pub write: Names,
    /// Consume, get, purge; be the source of a binding.
    pub read: Names,
}

impl Permission {
    /// Everything in the vhost.
    pub fn all() -> Self {
        Self { configure: Names::All, write: Names::All, read: Names::All }
    }
}

/// A set of exchange and queue names. The default exchange is called `amq.default` here.
#[derive(Debug, Clone, Default)]
pub enum Names {
    /// No name.
    #[default]
    None,
    /// Every name.
    All,
    /// Exact names, and prefixes written `prefix*`.
    Some(Vec<String>),
}

impl Names {
    /// Whether `name` is in the set. The empty name is the default exchange, `amq.default`.
    pub fn allows(&self, name: &str) -> bool {
        let name = if name.is_empty() { "amq.default" } else { name };
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(entries) => entries.iter().any(|entry| match entry.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => entry == name,
            }),
        }
    }

    /// Whether every name is in the set.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

/// Which of the three permissions an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Declare and delete.
    Configure,
    /// Publish, bind to.
    Write,
    /// Consume, bind from.
    Read,
}

impl Permission {
    /// Whether the operation on `name` is allowed.
    pub(crate) fn allows(&self, right: Right, name: &str) -> bool {
        match right {
            Right::Configure => self.configure.allows(name),
            Right::Write => self.write.allows(name),
            Right::Read => self.read.allows(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_or_prefixes() {
        let check =
            |names: &Names, name: &str, expect: bool| assert_eq!(names.allows(name), expect, "{name}");
        check(&Names::None, "a", false);
        check(&Names::All, "", true);
        let some = Names::Some(vec!["in.acme".into(), "src.acme.*".into()]);
        check(&some, "in.acme", true);
        check(&some, "in.acme2", false);
        check(&some, "in.acm", false);
        check(&some, "src.acme.web", true);
        check(&some, "src.acme", false);
        check(&some, "", false);
        check(&Names::Some(vec!["amq.default".into()]), "", true);
        check(&Names::Some(vec![String::new()]), "", false);
    }

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
}
