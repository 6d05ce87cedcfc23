//! Newtypes for everything that has a name or a number, so that no bare string crosses a crate boundary.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name. Whether it is well formed is checked where it enters: in the schema or on the wire.
            #[must_use]
            pub fn new(name: &str) -> Self {
                Self(Arc::from(name))
            }
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    };
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(#[schemars(with = "String", extend("format" = "uuid"))] pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name!(
    /// A customer: the unit of isolation. `[a-z0-9][a-z0-9-]{0,62}`, so that it fits exchange, queue and login names.
    CustomerName
);
name!(
    /// A data source of one customer: one queue, `src.<customer>.<source>`.
    SourceName
);
name!(
    /// A service of a customer's topology.
    ServiceName
);
name!(
    /// A cluster of like feeds within a service.
    ClusterName
);
name!(
    /// A rule over a cluster.
    AnalyticName
);
name!(
    /// A region or hosting provider; also the name of its vhost.
    RegionName
);
name!(
    /// A process that takes part in the control protocol, as its operator named it.
    NodeId
);
name!(
    /// A broker login: `<customer>.<key>` for a customer's key.
    Login
);

impl Login {
    /// The customer that a login belongs to: what stands before the first dot (customer names hold none).
    #[must_use]
    pub fn customer(&self) -> CustomerName {
        CustomerName::new(self.as_str().split('.').next().unwrap_or_default())
    }
}

number!(
    /// Ownership count of one source; grows by one at every change of owner and is carried on every output.
    Epoch
);
number!(
    /// Redirector leadership count; a lower term is ignored.
    Term
);
number!(
    /// Handle that a shell mints for a delivery so that a machine can ask for its settlement. Grows by one per
    /// delivery of one source subscription; never crosses a process.
    Token
);
uuid!(
    /// One start of one process (`UUIDv7`, so that a newer one sorts later).
    Incarnation
);
uuid!(
    /// One lease of one registration.
    LeaseId
);
uuid!(
    /// An alert event, derived (`UUIDv5`) from customer, analytic, cluster, metric, feed, window and state, so that a
    /// repeat is recognised as one.
    AlertId
);

/// A source, or one part of it, with the customer it belongs to: the unit of placement.
///
/// Part 0 is the source itself: what judges. Where the schema splits a source in n, parts 1 to n take its data, reduce
/// each feed's window to a value, and part 0 judges those values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SourceKey {
    /// The customer.
    pub customer: CustomerName,
    /// The source, named within the customer.
    pub source: SourceName,
    /// 0 for the source itself, 1 to n for its parts.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub part: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_whole(part: &u16) -> bool {
    *part == 0
}

impl SourceKey {
    /// From two names; the source itself.
    #[must_use]
    pub fn new(customer: &str, source: &str) -> Self {
        Self { customer: customer.into(), source: source.into(), part: 0 }
    }

    /// Part 1 to n of the same source, or the source itself for 0.
    #[must_use]
    pub fn with_part(&self, part: u16) -> Self {
        Self { part, ..self.clone() }
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.customer, self.source)?;
        if self.part > 0 { write!(f, "#{}", self.part) } else { Ok(()) }
    }
}
