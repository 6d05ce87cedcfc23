//! One thing that is done to a broker, and why.

use std::fmt;

use crate::objects::{Binding, Exchange, Queue, Rights, User};

/// One thing that is done to a broker, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it amounts to.
    pub change: Change,
    /// What is done.
    pub action: Action,
    /// Why, for people.
    pub reason: String,
}

impl Step {
    pub(crate) fn new(change: Change, action: Action, reason: &str) -> Self {
        Self { change, action, reason: reason.to_owned() }
    }
}

/// What a step amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Something is there that was not.
    Create,
    /// Something is other than it was.
    Change,
    /// Something is there no more.
    Remove,
}

impl Change {
    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Remove => "remove",
        }
    }
}

/// What is done. All of them may be done to what is so already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A vhost is made. None is ever removed.
    CreateVhost {
        /// Its name.
        vhost: String,
    },
    /// A login is made, or made other than it was.
    PutUser {
        /// Its name.
        name: String,
        /// What it is to be.
        user: User,
    },
    /// All connections of a login are closed.
    CloseConnections {
        /// The login.
        user: String,
    },
    /// A login is removed.
    RemoveUser {
        /// Its name.
        name: String,
    },
    /// A login may do this, and nothing else, in a vhost.
    PutRights {
        /// The vhost.
        vhost: String,
        /// The login.
        user: String,
        /// What it may do.
        rights: Rights,
    },
    /// A login may do nothing in a vhost, nor open it.
    RemoveRights {
        /// The vhost.
        vhost: String,
        /// The login.
        user: String,
    },
    /// An exchange is made.
    CreateExchange {
        /// Where.
        vhost: String,
        /// Its name.
        name: String,
        /// What it is to be.
        exchange: Exchange,
    },
    /// An exchange is removed with its bindings.
    RemoveExchange {
        /// Where.
        vhost: String,
        /// Its name.
        name: String,
    },
    /// A queue is made.
    CreateQueue {
        /// Where.
        vhost: String,
        /// Its name.
        name: String,
        /// What it is to be.
        queue: Queue,
    },
    /// A queue is removed with its messages.
    RemoveQueue {
        /// Where.
        vhost: String,
        /// Its name.
        name: String,
        /// How many messages go with it, where that is known.
        messages: Option<u64>,
    },
    /// A binding is made.
    CreateBinding {
        /// Where.
        vhost: String,
        /// What is bound to what.
        binding: Binding,
    },
    /// A binding is removed.
    RemoveBinding {
        /// Where.
        vhost: String,
        /// What was bound to what.
        binding: Binding,
    },
}

impl Action {
    /// What it is done to, in one word.
    #[must_use]
    pub fn object(&self) -> &'static str {
        match self {
            Self::CreateVhost { .. } => "vhost",
            Self::PutUser { .. } | Self::RemoveUser { .. } => "login",
            Self::CloseConnections { .. } => "connections",
            Self::PutRights { .. } | Self::RemoveRights { .. } => "rights",
            Self::CreateExchange { .. } | Self::RemoveExchange { .. } => "exchange",
            Self::CreateQueue { .. } | Self::RemoveQueue { .. } => "queue",
            Self::CreateBinding { .. } | Self::RemoveBinding { .. } => "binding",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateVhost { vhost } => write!(f, "vhost {vhost}"),
            Self::PutUser { name, .. } | Self::RemoveUser { name } => write!(f, "login {name}"),
            Self::CloseConnections { user } => write!(f, "connections of {user}"),
            Self::PutRights { vhost, user, .. } | Self::RemoveRights { vhost, user } => {
                write!(f, "rights of {user} in {vhost}")
            }
            Self::CreateExchange { vhost, name, .. } | Self::RemoveExchange { vhost, name } => {
                write!(f, "exchange {name} in {vhost}")
            }
            Self::CreateQueue { vhost, name, .. } => write!(f, "queue {name} in {vhost}"),
            Self::RemoveQueue { vhost, name, messages } => {
                write!(f, "queue {name} in {vhost}")?;
                match messages {
                    Some(0) => write!(f, ", empty"),
                    Some(count) => write!(f, " with {count} messages"),
                    None => Ok(()),
                }
            }
            Self::CreateBinding { vhost, binding } | Self::RemoveBinding { vhost, binding } => {
                let Binding { source, to, key, .. } = binding;
                write!(f, "binding {source} → {} by {key:?} in {vhost}", to.name())
            }
        }
    }
}
