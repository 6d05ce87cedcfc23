//! From the first byte to `connection.open-ok`: protocol header, login, tuning, vhost.

use crate::encode;
use crate::entrance::{Entrance, Peer};
use crate::error::{Failure, Outcome};
use crate::frame::{FRAME_MIN, Frame, FrameKind, Method, decode_method, next_frame};
use crate::server::Shared;
use crate::table::Cursor;
use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::{Buf, BytesMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The header of AMQP 0-9-1, and the answer to any other.
const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// Largest frame before `connection.tune-ok`.
const HANDSHAKE_FRAME_MAX: u32 = 8192;
/// How long a refused login waits for its answer, so that guessing is slow.
const LOGIN_REFUSED_DELAY: Duration = Duration::from_millis(200);
/// How long a refused client may take to say that it has heard.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// What the handshake settled.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) entrance: Entrance,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat_s: u16,
    /// The client understands `basic.cancel` from the server.
    pub(crate) cancel_notify: bool,
    /// The client understands `connection.blocked`.
    pub(crate) blocked_notify: bool,
    /// Bytes that came after `connection.open`.
    pub(crate) buffer: BytesMut,
}

/// Why a handshake ended without a connection.
#[derive(Debug)]
enum End {
    /// The client went away, or was not worth an answer.
    Gone,
    /// Not AMQP 0-9-1: the answer is our header.
    WrongHeader,
    /// Refused with a `connection.close`.
    Refused(Failure),
    /// A wrong login.
    Login { failure: Failure, tell: bool },
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure.hard())
    }
}

/// A plain socket, or TLS on one.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Who comes, before he has said so.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) from: SocketAddr,
    /// The certificate, where one was shown.
    pub(crate) peer: Option<Peer>,
}

struct Wire<'a, S> {
    stream: &'a mut S,
    caller: Caller,
    /// The login that it gave, for the log.
    login: String,
    buffer: BytesMut,
}

impl<S: Stream> Wire<'_, S> {
    async fn fill(&mut self) -> Result<(), End> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(End::Gone),
            _ => Ok(()),
        }
    }

    async fn header(&mut self) -> Result<(), End> {
        while self.buffer.len() < PROTOCOL_HEADER.len() {
            if !PROTOCOL_HEADER.starts_with(&self.buffer) {
                return Err(End::WrongHeader);
            }
            self.fill().await?;
        }
        if !self.buffer.starts_with(&PROTOCOL_HEADER) {
            return Err(End::WrongHeader);
        }
        self.buffer.advance(PROTOCOL_HEADER.len());
        Ok(())
    }

    async fn send(&mut self, method: connection::AMQPMethod) -> Result<(), End> {
        let mut bytes = Vec::new();
        encode::method(&mut bytes, 0, AMQPClass::Connection(method));
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next method of class connection; heartbeats in between are fine.
    async fn method(&mut self) -> Result<connection::AMQPMethod, End> {
        loop {
            let (used, method) = match next_frame(&self.buffer, HANDSHAKE_FRAME_MAX)? {
                None => {
                    self.fill().await?;
                    continue;
                }
                Some(frame) => (frame.size_bytes(), connection_method(frame)?),
            };
            self.buffer.advance(used);
            if let Some(method) = method {
                return Ok(method);
            }
        }
    }
}

fn connection_method(frame: Frame<'_>) -> Outcome<Option<connection::AMQPMethod>> {
    match (frame.kind, frame.channel) {
        (FrameKind::Heartbeat, 0) => Ok(None),
        (FrameKind::Method, 0) => match decode_method(frame.payload)? {
            Method::Other(class) => match *class {
                AMQPClass::Connection(method) => Ok(Some(method)),
                _ => Err(Failure::command_invalid("expected a method of class connection")),
            },
            _ => Err(Failure::command_invalid("expected a method of class connection")),
        },
        _ => Err(Failure::unexpected_frame("expected a method frame on channel 0")),
    }
}

/// Leads a client in, within the time that the configuration gives it. `None` when it was refused or went away.
pub(crate) async fn handshake<S: Stream>(
    shared: &Arc<Shared>,
    stream: &mut S,
    caller: Caller,
) -> Option<Settled> {
    let mut wire = Wire { stream, caller, login: String::new(), buffer: BytesMut::with_capacity(4096) };
    let limit = Duration::from_millis(shared.config.handshake_ms);
    let Ok(end) = tokio::time::timeout(limit, enter(shared, &mut wire)).await else {
        shared.count(|stats| stats.refused.handshake += 1);
        return None;
    };
    let end = match end {
        Ok(settled) => return Some(Settled { buffer: wire.buffer, ..settled }),
        Err(end) => end,
    };
    // Whatever happens while taking leave, the client is gone afterwards.
    let _left = tokio::time::timeout(CLOSE_WAIT, refuse(shared, &mut wire, end)).await.is_ok();
    None
}

async fn refuse<S: Stream>(shared: &Arc<Shared>, wire: &mut Wire<'_, S>, end: End) -> Result<(), End> {
    let failure = match end {
        End::Gone => return Ok(()),
        End::WrongHeader => {
            shared.count(|stats| stats.refused.handshake += 1);
            wire.stream.write_all(&PROTOCOL_HEADER).await?;
            wire.stream.shutdown().await?;
            return Ok(());
        }
        End::Refused(failure) => {
            shared.count(|stats| {
                match failure.code {
                    501 | 502 => stats.malformed_frames += 1,
                    _ => stats.refused.handshake += 1,
                };
            });
            failure
        }
        End::Login { failure, tell } => {
            shared.count(|stats| stats.refused.login += 1);
            tokio::time::sleep(LOGIN_REFUSED_DELAY).await;
            if !tell {
                return Ok(());
            }
            failure
        }
    };
    let (from, login) = (wire.caller.from, &wire.login);
    tracing::info!(%from, login, code = failure.code, text = failure.text, "connection refused");
    let close = connection::Close {
        reply_code: failure.code,
        reply_text: failure.text.as_str().into(),
        class_id: 0,
        method_id: 0,
    };
    wire.send(connection::AMQPMethod::Close(close)).await?;
    while !matches!(wire.method().await?, connection::AMQPMethod::CloseOk(_)) {}
    Ok(())
}

async fn enter<S: Stream>(shared: &Arc<Shared>, wire: &mut Wire<'_, S>) -> Result<Settled, End> {
    wire.header().await?;
    wire.send(connection::AMQPMethod::Start(start(wire.caller.peer.is_some()))).await?;
    let connection::AMQPMethod::StartOk(start_ok) = wire.method().await? else {
        return Err(Failure::command_invalid("expected connection.start-ok").into());
    };
    let capable = |name: &str| match start_ok.client_properties.inner().get("capabilities") {
        Some(AMQPValue::FieldTable(table)) => table.inner().get(name) == Some(&AMQPValue::Boolean(true)),
        _ => false,
    };
    let mechanism = start_ok.mechanism.as_str();
    let response = start_ok.response.as_bytes();
    let mut by_password = |login: Option<(&str, &[u8])>| {
        let (user, word) = login?;
        user.clone_into(&mut wire.login);
        shared.verify(user, word)
    };
    let verified = match (mechanism, &wire.caller.peer) {
        ("PLAIN", _) => by_password(plain(response)),
        ("AMQPLAIN", _) => by_password(amqplain(response)),
        ("EXTERNAL", Some(peer)) => {
            wire.login = peer.common_name.clone().unwrap_or_default();
            shared.verify_certificate(peer)
        }
        (other, _) => {
            return Err(End::Refused(Failure::not_allowed(&format!("unsupported mechanism '{other}'"))));
        }
    };
    let Some(user) = verified else {
        let text = format!(
            "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
        );
        let failure = Failure::access_refused(&text).hard();
        return Err(End::Login { failure, tell: capable("authentication_failure_close") });
    };
    let tune = tune(shared, wire).await?;
    let connection::AMQPMethod::Open(open) = wire.method().await? else {
        return Err(Failure::command_invalid("expected connection.open").into());
    };
    let entrance = shared.admit(user, open.virtual_host.as_str())?;
    wire.send(connection::AMQPMethod::OpenOk(connection::OpenOk {})).await?;
    Ok(Settled {
        entrance,
        channel_max: tune.channel_max,
        frame_max: tune.frame_max,
        heartbeat_s: tune.heartbeat,
        cancel_notify: capable("consumer_cancel_notify"),
        blocked_notify: capable("connection.blocked"),
        buffer: BytesMut::new(),
    })
}

fn start(external: bool) -> connection::Start {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties.insert("product".into(), AMQPValue::LongString("Kinetic".into()));
    properties.insert("version".into(), AMQPValue::LongString(env!("CARGO_PKG_VERSION").into()));
    properties.insert("platform".into(), AMQPValue::LongString("Rust".into()));
    connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: properties,
        mechanisms: if external { "PLAIN AMQPLAIN EXTERNAL" } else { "PLAIN AMQPLAIN" }.into(),
        locales: "en_US".into(),
    }
}

async fn tune<S: Stream>(shared: &Arc<Shared>, wire: &mut Wire<'_, S>) -> Result<connection::TuneOk, End> {
    let config = &shared.config;
    let offer = connection::Tune {
        channel_max: config.channels_max,
        frame_max: config.frame_max,
        heartbeat: config.heartbeat_s,
    };
    wire.send(connection::AMQPMethod::Tune(offer)).await?;
    let connection::AMQPMethod::TuneOk(tune) = wire.method().await? else {
        return Err(Failure::command_invalid("expected connection.tune-ok").into());
    };
    let within = |name: &str, value: u32, min: u32, max: u32| {
        let (relation, bound) = match value {
            // Zero asks for no limit, which is above ours.
            v if v == 0 || v > max => ("higher than the maximum", max),
            v if v < min => ("lower than the minimum", min),
            _ => return Ok(()),
        };
        Err(Failure::not_allowed(&format!(
            "negotiated {name} = {value} is {relation} allowed value ({bound})"
        )))
    };
    within("frame_max", tune.frame_max, FRAME_MIN, config.frame_max)?;
    within("channel_max", u32::from(tune.channel_max), 1, u32::from(config.channels_max))?;
    Ok(tune)
}

/// SASL PLAIN (RFC 4616): authorization identity, login and password, parted by NUL.
pub(crate) fn plain(response: &[u8]) -> Option<(&str, &[u8])> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_identity, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((std::str::from_utf8(user).ok()?, password))
}

/// AMQPLAIN: the inside of a field table with `LOGIN` and `PASSWORD`.
pub(crate) fn amqplain(response: &[u8]) -> Option<(&str, &[u8])> {
    let mut cursor = Cursor::new(response);
    let (mut user, mut password) = (None, None);
    while !cursor.is_empty() {
        let key = cursor.short_str()?;
        if cursor.u8()? != b'S' {
            return None;
        }
        let value = cursor.long()?;
        match key {
            "LOGIN" => user = std::str::from_utf8(value).ok(),
            "PASSWORD" => password = Some(value),
            _ => {}
        }
    }
    Some((user?, password?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_has_three_parts() {
        assert_eq!(plain(b"\0guest\0secret"), Some(("guest", &b"secret"[..])));
        assert_eq!(plain(b"id\0guest\0se\0cret"), Some(("guest", &b"se\0cret"[..])));
        assert_eq!((plain(b"guest"), plain(b"\0guest"), plain(b"\0\xff\0x")), (None, None, None));
    }

    #[test]
    fn amqplain_is_a_table() {
        let response = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x01p";
        assert_eq!(amqplain(response), Some(("guest", &b"p"[..])));
        assert_eq!(amqplain(&response[..20]), None);
        assert_eq!(amqplain(b"\x05LOGINF\0\0\0\x00"), None);
    }
}
