//! Where the world is touched: clock, files, sockets, SMTP, databases.

pub(crate) mod authority;
pub(crate) mod clock;
pub(crate) mod dkim;
pub(crate) mod dsn;
pub(crate) mod file;
pub(crate) mod git;
pub(crate) mod history;
pub(crate) mod management;
pub(crate) mod mime;
pub(crate) mod parent;
pub(crate) mod password;
pub(crate) mod provision;
pub(crate) mod server_tls;
pub(crate) mod smtp;
pub(crate) mod smtp_sink;
pub(crate) mod statsd_socket;
pub(crate) mod token_keys;
pub(crate) mod usage;
pub(crate) mod webhook;
