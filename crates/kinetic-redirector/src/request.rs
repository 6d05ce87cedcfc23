//! Requests, as far as they can be judged by themselves.

use kinetic_wire::{Incarnation, Login, NodeId, decode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

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

/// What is read of a [`kinetic_wire::Locate`]: the rest does not change the answer yet.
#[derive(Deserialize)]
pub(crate) struct Question {
    pub(crate) v: u32,
    pub(crate) client: Incarnation,
    #[serde(default)]
    pub(crate) listen: bool,
}

/// Longest node name.
const NODE_BYTES_MAX: usize = 255;
/// Message version spoken.
const VERSION: u32 = 1;

/// The message, or why not: a version that we do not know may have any shape.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    decode(body).map_err(|_| match decode::<Versioned>(body) {
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
