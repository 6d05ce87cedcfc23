//! Messages to JSON bytes and back. The only place that names the encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body that is not the message it should be. Data, not a failure: the caller dead-letters or refuses it.
#[derive(Debug, thiserror::Error)]
#[error("malformed message body")]
pub struct CodecError(#[from] serde_json::Error);

/// Message to bytes.
///
/// # Panics
/// Never: every message of this crate has string keys and serialises.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("wire messages have string keys and no failing serialiser")
}

/// Bytes to message. Unknown fields are accepted, so that a newer peer can add some.
///
/// # Errors
/// When the bytes are not JSON of this message's shape.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    Ok(serde_json::from_slice(body)?)
}
