//! Who may log in, to which vhost, and what they may configure, write and read there.

use crate::credential::{Credential, Password, TokenVerifier};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The vhosts that exist and the users who may use them. Swapped as a whole.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Names of the vhosts.
    pub vhosts: BTreeSet<String>,
    /// Users by login.
    pub users: BTreeMap<String, User>,
    /// Reads tokens; without it there are none.
    pub tokens: Option<Arc<dyn TokenVerifier>>,
}

/// One login.
#[derive(Debug, Clone)]
pub struct User {
    /// Whose login it is. Memory is shared out between owners, and refusals are counted by them.
    pub owner: Arc<str>,
    /// Any of these lets it in.
    pub credentials: Vec<Credential>,
    /// Permission per vhost; a vhost that is not named refuses the user.
    pub permissions: BTreeMap<String, Permission>,
    /// How much of the broker it may take.
    pub limits: UserLimits,
}

impl User {
    /// A user with a password and without limits.
    pub fn new(owner: &str, password: Password, permissions: BTreeMap<String, Permission>) -> Self {
        Self {
            owner: owner.into(),
            credentials: vec![Credential::Password(password)],
            permissions,
            limits: UserLimits::default(),
        }
    }
}

/// How much of the broker one user may take; `None` for no limit but the broker's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Open connections; one more is refused with 530.
    pub connections_max: Option<usize>,
    /// Open channels over all connections; one more closes its connection with 530.
    pub channels_max: Option<usize>,
    /// Bytes of one message's body; a larger one closes its channel with 406.
    pub message_bytes_max: Option<usize>,
}

/// What a user may do in one vhost, as RabbitMQ divides it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

    /// Whether any operation on `name` is allowed: then its existence is no secret.
    pub(crate) fn knows(&self, name: &str) -> bool {
        [Right::Configure, Right::Write, Right::Read].into_iter().any(|right| self.allows(right, name))
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
}
