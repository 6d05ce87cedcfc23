//! Who somebody is and how much he may do: keys, certificates, users, tokens, limits.

use std::time::Duration;

use kinetic_wire::CustomerName;

/// The hash of a secret that is random and long: SHA-256 over a salt of four bytes and the secret, which is the form that
/// RabbitMQ keeps passwords in (`rabbit_password_hashing_sha256`), so that a broker is told of a login without anybody
/// knowing its secret. Fit for secrets that nobody can guess, and for no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaltedHash {
    /// Salt.
    pub salt: [u8; 4],
    /// SHA-256 of the salt and the secret behind it.
    pub digest: [u8; 32],
}

/// A key: the broker login `<customer>.<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name within the customer.
    pub name: String,
    /// Hash of its secret.
    pub hash: SaltedHash,
    /// What it is for.
    pub purpose: Purpose,
    /// It is good from this moment on, milliseconds since the Unix epoch; always where nothing is said.
    pub starts_ms: Option<i64>,
    /// The first moment at which it is good no more.
    pub expires_ms: Option<i64>,
    /// It may declare (and so delete) the customer's own exchange, as tools do that insist on declaring.
    pub may_declare: bool,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// To publish data as the customer, and to ask where.
    #[default]
    Publish,
    /// To read the customer's own notifications.
    Read,
    /// To publish for all customers, as an edge does that tells them apart by their netblocks. Only a key of the
    /// customer [`INSTALLATION`](super::INSTALLATION) has it.
    Edge,
}

/// A client certificate: the broker login `<customer>.<name>`, which is also the certificate's common name. No two
/// certificates have one name, so that to take the name away is to revoke the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Name within the customer; no key has the same.
    pub name: String,
    /// SHA-256 of the certificate (DER).
    pub sha256: [u8; 32],
    /// The first moment at which it is good no more, milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// Somebody who may log in at the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What he logs in with, such as his e-mail address.
    pub name: String,
    /// His password's argon2id hash, as a PHC string.
    pub password: String,
    /// What he may do.
    pub role: Role,
}

/// What a user may do, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at one customer.
    Viewer,
    /// And change its topology, its rules and its silences.
    Editor,
    /// And its keys, certificates and users.
    Owner,
    /// All customers, and the installation.
    Operator,
}

/// How much of a customer is taken; what is over it is refused or dropped, counted, and told to the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of one of its logins.
    pub connections: u32,
    /// Open channels of one of its logins.
    pub channels: u32,
    /// Bytes of one message.
    pub message_bytes: u64,
    /// Samples a second, over all its sources.
    pub samples_per_second: u64,
    /// Distinct feeds of one source.
    pub feeds: u64,
    /// Distinct pairs of feed and metric of one source.
    pub series: u64,
    /// Clusters of its topology.
    pub clusters: u32,
    /// Mails to its recipients an hour; what is over it comes as one digest.
    pub mails_per_hour: u32,
}

impl Limits {
    /// Where nothing is said.
    pub const DEFAULT: Self = Self {
        connections: 1_000,
        channels: 2_000,
        message_bytes: 1 << 20,
        samples_per_second: 1_000_000,
        feeds: 100_000,
        series: 1_000_000,
        clusters: 1_000,
        mails_per_hour: crate::limits::MAILS_PER_HOUR_DEFAULT,
    };
}

/// Short-lived credentials that `locate` hands out, and the keys that sign them.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// How long one is good.
    pub ttl: Duration,
    /// Public keys by which a token is accepted, in the order of the moments from which they sign.
    pub keys: Vec<TokenKey>,
}

/// One signing key's public half (ECDSA on P-256, JWS algorithm ES256).
#[derive(Clone, Debug)]
pub struct TokenKey {
    /// Its name, the `kid` of tokens.
    pub name: String,
    /// The point, uncompressed: 0x04, X, Y (SEC 1, section 2.3.3).
    pub public: [u8; 65],
    /// It signs from this moment on, milliseconds since the Unix epoch; the newest that does is used.
    pub starts_ms: Option<i64>,
}

/// What an edge does with what comes from nobody's netblock.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// Whose it is then; nobody's without one.
    pub public: Option<CustomerName>,
}
