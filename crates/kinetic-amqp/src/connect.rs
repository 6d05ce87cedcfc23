//! One connection to one broker, and how long to wait before the next.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_rs::traits::Reactor;
use async_rs::{Runtime, Tokio};
use lapin::tcp::AsyncTcpStream;
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use crate::address::{is_loopback, place, wants_tls};
use crate::guard::{self, Guarded};
use crate::tls::{Shown, Tls};
use crate::{Address, AmqpError};

/// Upper end of the first wait after a loss. Waits are drawn uniformly between zero and a bound that doubles ("full
/// jitter"), so that a thousand clients of one broker do not come back at once.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Upper end of every later wait.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long one broker address may take from the first packet to an open connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a clean close may take before the socket is cut.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Heartbeat asked for, in seconds; silence of twice as long ends the connection.
const HEARTBEAT_S: u16 = 10;
/// How often a silent connection is looked at, because lapin may end one without telling anybody who waits on it.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);

/// An open connection. Dropping it cuts the socket, so that the broker has everything unsettled back at once and
/// lapin's thread ends.
pub(crate) struct Link {
    connection: Connection,
    /// The certificate that was shown, and whether the broker knows us by it.
    shown: Option<Shown>,
    is_external: bool,
    /// The login, where a token opened it.
    token_login: Option<ShortString>,
    _socket: CutOnDrop,
}

/// A second handle on the connection's socket: the only way to end lapin's thread while it waits for a mute peer.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn hold(&self, stream: &impl AsFd) -> io::Result<()> {
        let own = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        Ok(())
    }

    fn cut(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error says that the peer was faster.
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// Cuts the socket when its owner goes: a link, or an attempt that is given up.
struct CutOnDrop(Socket);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

impl Link {
    /// Connects to the first of the address's brokers that answers.
    pub(crate) async fn open(address: &Address) -> Result<Self, AmqpError> {
        let mut last = None;
        for mut uri in address.parsed()? {
            uri.query.heartbeat = Some(HEARTBEAT_S);
            match Self::open_one(&uri, address).await {
                Ok(link) => return Ok(link),
                Err(error) => {
                    tracing::debug!(broker = place(&uri), error = error.chain(), "broker not usable");
                    // What an operator can act on is worth more than the silence of the other brokers.
                    if last.as_ref().is_none_or(AmqpError::is_transient) {
                        last = Some(error);
                    }
                }
            }
        }
        Err(last.expect("an address has at least one URI"))
    }

    async fn open_one(uri: &AMQPUri, address: &Address) -> Result<Self, AmqpError> {
        let mut uri = uri.clone();
        let (connector, shown) = match wants_tls(&uri) {
            true => {
                let Tls { connector, shown } = Tls::prepare(address)?;
                (Some(connector), shown)
            }
            false if address.is_external() => {
                let problem =
                    format!("a client certificate needs amqps:// to {}, or a password", place(&uri));
                return Err(AmqpError::Certificate { problem });
            }
            false => (None, None),
        };
        let is_external = address.is_external();
        if let Some(shown) = shown.as_ref().filter(|_| is_external) {
            shown.login().clone_into(&mut uri.authority.userinfo.username);
        }
        let guard = CutOnDrop(Socket::default());
        let held = guard.0.clone();
        let is_forbidden = address.is_forbidden(&uri);
        let properties = ConnectionProperties::default().with_connection_name(address.name.as_str().into());
        let dial = async move |uri: AMQPUri, _: Runtime<guard::Kit>| {
            let host = uri.authority.host.as_str();
            let mut error = io::Error::other("the name has no address");
            for to in tokio::net::lookup_host((host, uri.authority.port)).await? {
                if is_forbidden && !is_loopback(to.ip()) {
                    error = io::Error::new(io::ErrorKind::PermissionDenied, PlainLeaves);
                    continue;
                }
                match Tokio::current().tcp_connect(to).await {
                    Ok(plain) => {
                        held.hold(plain.get_ref())?;
                        let stream = AsyncTcpStream::Plain(plain);
                        let stream = match &connector {
                            Some(connector) => stream.into_rustls(connector, host).await?,
                            None => stream,
                        };
                        return Ok(AsyncTcpStream::Plain(Guarded::new(stream)));
                    }
                    Err(refused) => error = refused,
                }
            }
            Err(error.into())
        };
        let connecting = Connection::connector(uri.clone(), guard::runtime(), dial, properties);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => {
                Ok(Self { connection, shown, is_external, token_login: None, _socket: guard })
            }
            Ok(Err(error)) => Err(match error.kind() {
                ErrorKind::IOError(cause) => not_reached(&uri, Arc::clone(cause)),
                _ => refused_at_the_door(AmqpError::of(&error, "open a connection"), &uri, address),
            }),
            Err(_) => {
                let text = format!("no AMQP connection within {} s", CONNECT_TIMEOUT.as_secs());
                Err(not_reached(&uri, Arc::new(io::Error::new(io::ErrorKind::TimedOut, text))))
            }
        }
    }

    /// Notes that a token of this login opened it.
    pub(crate) fn known_as(mut self, login: &str) -> Self {
        self.token_login = ShortString::try_new(login).ok();
        self
    }

    /// Whether a token of this login opened it.
    pub(crate) fn is_known_as(&self, login: &str) -> bool {
        self.token_login.as_ref().is_some_and(|known| known.as_str() == login)
    }

    /// Gives the broker another password for as long as the connection stands (`connection.update-secret`).
    pub(crate) async fn update_secret(&self, secret: &str) -> Result<(), AmqpError> {
        let updating = self.connection.update_secret(secret.into(), "another token".into());
        match tokio::time::timeout(CONNECT_TIMEOUT, updating).await {
            Ok(updated) => updated.map_err(|error| AmqpError::of(&error, "renew the token")),
            Err(_) => Err(AmqpError::Lost { reason: "no answer to another token".to_owned() }),
        }
    }

    /// The login by which the broker knows us, where a certificate or a token said it.
    pub(crate) fn shown_login(&self) -> Option<ShortString> {
        if self.token_login.is_some() {
            return self.token_login.clone();
        }
        // A common name has at most 64 characters (RFC 5280, ub-common-name); one that fits no short string was not let in.
        let shown = self.shown.as_ref().filter(|_| self.is_external);
        shown.and_then(|shown| ShortString::try_new(shown.login()).ok())
    }

    /// Whether the files of the certificate that was shown hold another by now.
    pub(crate) fn is_outdated(&self) -> bool {
        self.shown.as_ref().is_some_and(Shown::is_outdated)
    }

    /// Opens a channel.
    pub(crate) async fn channel(&self) -> Result<Channel, AmqpError> {
        self.connection.create_channel().await.map_err(|error| AmqpError::of(&error, "open a channel"))
    }

    /// Whether lapin still believes in the connection.
    pub(crate) fn alive(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether the broker has told us to stop publishing (it is short of memory or disk).
    pub(crate) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Closes channels, then the connection, within [`CLOSE_TIMEOUT`]; the socket is cut either way.
    pub(crate) async fn close(self, channels: &[Channel]) {
        let polite = async {
            for channel in channels.iter().filter(|channel| channel.status().connected()) {
                channel.close(200, "OK".into()).await.ok();
            }
            self.connection.close(200, "OK".into()).await.ok();
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, polite).await.is_err() {
            tracing::debug!("broker did not answer the close in time");
        }
    }
}

/// A name led to another machine, and plain AMQP may not.
#[derive(Debug, thiserror::Error)]
#[error("plain AMQP may not leave this machine")]
struct PlainLeaves;

/// What it means that there is no connection: rustls reports its own errors as invalid data.
fn not_reached(uri: &AMQPUri, cause: Arc<io::Error>) -> AmqpError {
    let place = place(uri);
    match cause.kind() {
        io::ErrorKind::PermissionDenied if cause.get_ref().is_some_and(|inner| inner.is::<PlainLeaves>()) => {
            AmqpError::Plain { place }
        }
        io::ErrorKind::InvalidData if wants_tls(uri) => AmqpError::Tls { place, cause },
        _ => AmqpError::Unreachable { place, cause },
    }
}

/// The handshake's refusals have a meaning of their own: AMQP 0-9-1 `connection.close` with 403 after `start-ok` is the
/// login, 530 (or 403 and 404) after `open` the vhost.
fn refused_at_the_door(error: AmqpError, uri: &AMQPUri, address: &Address) -> AmqpError {
    match error {
        AmqpError::Refused { code: 403, .. } => {
            AmqpError::LoginRefused { place: place(uri), login: uri.authority.userinfo.username.clone() }
        }
        AmqpError::Refused { code: 402 | 404 | 530, text, .. } => AmqpError::VhostRefused {
            place: place(uri),
            vhost: address.vhost.clone(),
            login: uri.authority.userinfo.username.clone(),
            text,
        },
        other => other,
    }
}

/// Reconnect pace: full jitter between zero and a bound that doubles from [`BACKOFF_FIRST`] to [`BACKOFF_MAX`].
pub(crate) struct Backoff {
    attempts: u32,
    connected_at: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { attempts: 0, connected_at: None }
    }

    /// Notes that a connection stands.
    pub(crate) fn connected(&mut self) {
        self.connected_at = Some(now());
    }

    /// The wait before the next attempt. Only a connection that stood for [`BACKOFF_MAX`] starts the pace anew: a broker
    /// that lets us in and throws us out must not be asked twenty times a second.
    pub(crate) fn wait(&mut self) -> Duration {
        if self.connected_at.take().is_some_and(|since| now() - since >= BACKOFF_MAX) {
            self.attempts = 0;
        }
        let bound = bound(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        rand::rng().random_range(Duration::ZERO..=bound)
    }
}

fn bound(attempts: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX)).min(BACKOFF_MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the reconnect pace is this crate's own business, not an input of a machine"
)]
fn now() -> Instant {
    Instant::now()
}

/// Says once a second that it is time to look at a silent connection.
pub(crate) struct Watchdog(Interval);

impl Watchdog {
    pub(crate) fn new() -> Self {
        let mut interval = tokio::time::interval(WATCHDOG_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(interval)
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_tick(cx).map(drop)
    }

    pub(crate) async fn tick(&mut self) {
        self.0.tick().await;
    }
}

/// Ends when the flag is set, or when nobody is left who could set it.
pub(crate) async fn raised(flag: &mut watch::Receiver<bool>) {
    flag.wait_for(|raised| *raised).await.map(drop).ok();
}

/// A wait that can be polled where it is kept.
pub(crate) fn sleep(wait: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_and_is_capped() {
        let bounds: Vec<u128> = (0..9).map(|attempts| bound(attempts).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(bound(u32::MAX), BACKOFF_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_lived_connection_does_not_reset_the_pace() {
        let mut backoff = Backoff::new();
        for _ in 0..5 {
            backoff.connected();
            backoff.wait();
        }
        assert_eq!(backoff.attempts, 5);
        backoff.connected();
        tokio::time::advance(BACKOFF_MAX).await;
        assert!(backoff.wait() <= BACKOFF_FIRST);
        assert_eq!(backoff.attempts, 1);
    }
}
