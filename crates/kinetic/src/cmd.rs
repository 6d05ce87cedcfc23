//! One file a command.

pub(crate) mod bench;
pub(crate) mod ca;
pub(crate) mod canary;
pub(crate) mod check;
pub(crate) mod client_config;
pub(crate) mod demo;
pub(crate) mod dns_zone;
pub(crate) mod drain;
pub(crate) mod edge;
pub(crate) mod episodes;
pub(crate) mod format;
pub(crate) mod locate;
pub(crate) mod mail;
pub(crate) mod map;
pub(crate) mod moment;
mod operator;
pub(crate) mod reconcile;
pub(crate) mod returned;
pub(crate) mod roles;
pub(crate) mod schema_repo;
pub(crate) mod silence;
pub(crate) mod subscription;
pub(crate) mod tap;
pub(crate) mod test_event;
pub(crate) mod token;
pub(crate) mod up;
