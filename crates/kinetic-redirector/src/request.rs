//! Requests, as far as they can be judged by themselves.

use std::borrow::Cow;
use std::fmt;

use kinetic_wire::{DataType, Incarnation, Login, NodeId};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::machine::{Caller, HOLDS_MAX};
use crate::refusal::Refusal;

/// A request, as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) kind: &'a str,
    pub(crate) login: Option<&'a Login>,
    pub(crate) caller: Option<&'a Caller>,
    pub(crate) body: &'a [u8],
}

/// What remains to be done about a request once sources are settled.
pub(crate) enum Answer {
    Body(Vec<u8>),
    Lease(NodeId),
}

/// What is read of a [`kinetic_wire::Locate`], without owning it: the rest does not change the answer.
#[derive(Deserialize)]
pub(crate) struct Question<'q> {
    pub(crate) v: u32,
    pub(crate) client: Incarnation,
    #[serde(default, borrow)]
    pub(crate) origin: Option<Text<'q>>,
    #[serde(default, borrow)]
    pub(crate) profile: Option<Text<'q>>,
    #[serde(default)]
    pub(crate) data_types: DataTypes,
    #[serde(default)]
    pub(crate) listen: bool,
}

/// Text of a body, copied only where it has escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'q>(#[serde(borrow)] pub(crate) Cow<'q, str>);

/// A set of data types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DataTypes(u8);

impl DataTypes {
    const ALL: [DataType; 5] =
        [DataType::Statsd, DataType::Collectd, DataType::Graphite, DataType::Influx, DataType::Auto];

    fn bit(data_type: DataType) -> u8 {
        1 << data_type as u8
    }

    pub(crate) fn insert(&mut self, data_type: DataType) {
        self.0 |= Self::bit(data_type);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Without what a source of this type takes: `auto` takes all, and is taken by all.
    #[must_use]
    pub(crate) fn without(self, taken: DataType) -> Self {
        if taken == DataType::Auto {
            return Self::default();
        }
        Self(self.0 & !(Self::bit(taken) | Self::bit(DataType::Auto)))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = DataType> {
        Self::ALL.into_iter().filter(move |data_type| self.0 & Self::bit(*data_type) != 0)
    }
}

impl<'de> Deserialize<'de> for DataTypes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = DataTypes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of data types")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<DataTypes, A::Error> {
                let mut set = DataTypes::default();
                while let Some(data_type) = members.next_element()? {
                    set.insert(data_type);
                }
                Ok(set)
            }
        }
        deserializer.deserialize_seq(Members)
    }
}

/// Longest node name.
const NODE_BYTES_MAX: usize = 255;
/// Message version spoken.
const VERSION: u32 = 1;

/// The message, or why not: a version that we do not know may have any shape.
pub(crate) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    serde_json::from_slice(body).map_err(|_| match serde_json::from_slice::<Versioned>(body) {
        Ok(Versioned { v }) if v != VERSION => Refusal::VERSION,
        _ => Refusal::MALFORMED,
    })
}

pub(crate) fn check_version(v: u32) -> Result<(), Refusal> {
    if v == VERSION { Ok(()) } else { Err(Refusal::VERSION) }
}

pub(crate) fn check_node(node: &NodeId) -> Result<(), Refusal> {
    let name = node.as_str();
    let well_formed = !name.is_empty() && name.len() <= NODE_BYTES_MAX && !name.chars().any(char::is_control);
    if well_formed { Ok(()) } else { Err(Refusal::MALFORMED) }
}

pub(crate) fn check_holds(count: usize) -> Result<(), Refusal> {
    if count <= HOLDS_MAX { Ok(()) } else { Err(Refusal::TOO_LARGE) }
}
