//! What can go wrong with a broker, one variant per decision of the caller.

use std::sync::Arc;

use lapin::ErrorKind;
use lapin::protocol::AMQPErrorKind;

/// Why something with a broker failed. The text says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AmqpError {
    /// The address is not one.
    #[error("{problem}")]
    Address {
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answered, or not in AMQP.
    #[error("no broker at {place}: check that it runs and that this host may reach it")]
    Unreachable {
        /// `host:port`.
        place: String,
        /// What the system said.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// TLS to the broker failed: one of the two does not trust the other's certificate, or it is no TLS that answers.
    #[error(
        "no TLS with the broker at {place}: check --ca-file against its certificate, and whether it takes ours"
    )]
    Tls {
        /// `host:port`.
        place: String,
        /// What TLS said.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// AMQP without TLS would leave this machine.
    #[error(
        "amqp:// to {place} would show password and data to everyone on the way: write amqps://, or add --allow-plain \
         where the network itself keeps them"
    )]
    Plain {
        /// `host:port`.
        place: String,
    },
    /// A client certificate cannot be used.
    #[error("{problem}")]
    Certificate {
        /// What is wrong with it, and with which file.
        problem: String,
    },
    /// The broker does not know the login, or the password is wrong.
    #[error("login {login} refused by the broker at {place}: check the key or the certificate")]
    LoginRefused {
        /// `host:port`.
        place: String,
        /// The login that was tried.
        login: String,
    },
    /// The vhost does not exist there, or the login may not enter it.
    #[error(
        "vhost {vhost} refused by the broker at {place}: check that it exists and that {login} may use it ({text})"
    )]
    VhostRefused {
        /// `host:port`.
        place: String,
        /// The vhost.
        vhost: String,
        /// The login.
        login: String,
        /// What the broker said.
        text: String,
    },
    /// The broker refused an operation and closed the channel or the connection.
    #[error("the broker refused to {doing}: {text}{}", hint(*.code))]
    Refused {
        /// AMQP reply code: 403, 404, 405, 406 and so on.
        code: u16,
        /// What the broker said.
        text: String,
        /// What we were doing.
        doing: String,
    },
    /// The connection or channel ended, or went silent.
    #[error("connection to the broker lost: {reason}")]
    Lost {
        /// What is known about it.
        reason: String,
    },
    /// A name or property does not fit into AMQP's 255 bytes.
    #[error("{what} is {size_bytes} bytes long, and AMQP carries 255")]
    TooLong {
        /// Which one.
        what: &'static str,
        /// Its length in bytes.
        size_bytes: usize,
    },
}

/// What an operator does about a reply code.
fn hint(code: u16) -> &'static str {
    match code {
        403 => " (give the login that permission)",
        404 => " (declare it first)",
        405 => " (somebody else has it exclusively)",
        406 => " (it exists with other arguments: delete it, or use what is there)",
        _ => "",
    }
}

impl AmqpError {
    /// Whether the same attempt may succeed later without anybody changing anything but the network or the broker's state.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            // 405: an exclusive owner may leave. 311, 313, 320 and 5xx but not_allowed: the broker's state, not ours.
            Self::Refused { code, .. } => matches!(code, 311 | 313 | 320 | 405 | 506 | 541),
            Self::Address { .. }
            | Self::Tls { .. }
            | Self::Plain { .. }
            | Self::Certificate { .. }
            | Self::LoginRefused { .. }
            | Self::VhostRefused { .. }
            | Self::TooLong { .. } => false,
        }
    }

    /// The error of an operation on an open connection.
    pub(crate) fn of(error: &lapin::Error, doing: &str) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(amqp) => match amqp.kind() {
                AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => Self::Refused {
                    code: amqp.get_id(),
                    text: amqp.get_message().to_string(),
                    doing: doing.to_owned(),
                },
            },
            _ => Self::Lost { reason: error.to_string() },
        }
    }

    /// The error with its causes, in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
