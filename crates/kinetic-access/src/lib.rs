//! Who may do what on a broker. The schema says it; [`logins`] reads it out, for the embedded broker, for the tokens that
//! `locate` hands out and for the reconciler, which makes a RabbitMQ so.

mod login;
pub mod token;

pub use login::{Credential, Grant, Login, login, logins, next_change_ms, reads_notifications};
