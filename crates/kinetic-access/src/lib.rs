//! Who may do what on a broker. The schema says it; [`logins`] reads it out, for the embedded broker, for the tokens that
//! `locate` hands out and for the reconciler, which makes a RabbitMQ so: [`wanted()`] and what is there give a [`plan()`].

mod login;
mod objects;
mod ours;
mod plan;
pub mod token;
mod wanted;

pub use login::{Credential, Grant, Login, login, logins, next_change_ms, reads_notifications};
pub use objects::{Args, Binding, Destination, Exchange, Objects, Queue, Rights, User, Value, Vhost};
pub use plan::{Action, Change, Plan, Step, plan};
pub use wanted::{Broker, Home, INSTALLATION_ARG, Wanted, wanted};
