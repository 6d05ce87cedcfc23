//! Where carbon's connections come in: who they are by the PROXY header or by their address, then lines.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_agent::edge::carbon::{Broken, Lines};
use kinetic_agent::edge::proxy::{self, Header, Malformed};
use kinetic_schema::Netblock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::guests::{Guest, Guests, Place, Why};
use crate::shutdown::Shutdown;

/// Chunks that wait for the machine; each connection has one more at hand, and is not read from meanwhile.
const CHUNKS_MAX: usize = 256;
/// Bytes read from a connection at once.
const PIECE_BYTES: usize = 16 << 10;
/// How long a proxy may take to say whom it speaks for.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Pause when connections cannot be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// File descriptors that are kept for all else that this process does.
const DESCRIPTORS_KEPT: u64 = 256;

/// Whole lines of one connection.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Where they come from.
    pub(crate) from: IpAddr,
    /// One or more.
    pub(crate) bytes: Vec<u8>,
}

/// The door.
#[derive(Debug)]
pub(crate) struct Door {
    listener: Option<TcpListener>,
    room: Arc<Room>,
}

/// What all connections share.
#[derive(Debug)]
struct Room {
    proxies: Vec<Netblock>,
    guests: Arc<Guests>,
    chunks: mpsc::Sender<Chunk>,
    idle: Duration,
    header: Duration,
}

/// How many connections this process may have, of so many that were asked for: their descriptors must not be taken from what the process
/// needs besides.
pub(crate) fn connections(asked: u32) -> u32 {
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        if rustix::process::setrlimit(resource, raised).is_ok() {
            limit = raised;
        }
    }
    let room = limit.current.map_or(u64::MAX, |most| most.saturating_sub(DESCRIPTORS_KEPT).max(1));
    let given = asked.min(u32::try_from(room).unwrap_or(u32::MAX));
    if given < asked {
        tracing::warn!(
            asked,
            given,
            "fewer carbon connections than asked for: raise this process's limit of open files"
        );
    }
    given
}

impl Door {
    /// Listens; without an address nobody ever comes.
    pub(crate) async fn open(
        address: Option<SocketAddr>,
        proxies: Vec<Netblock>,
        guests: Arc<Guests>,
    ) -> Result<(Self, mpsc::Receiver<Chunk>)> {
        let listener = match address {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                let listener = listener.with_context(|| {
                    format!("cannot listen for carbon on {address}: is a carbon running there?")
                })?;
                tracing::info!(tcp = %listener.local_addr()?, "listening for carbon");
                Some(listener)
            }
        };
        let (chunks, receiver) = mpsc::channel(CHUNKS_MAX);
        let room = Room { proxies, guests, chunks, idle: IDLE_TIMEOUT, header: HEADER_TIMEOUT };
        Ok((Self { listener, room: Arc::new(room) }, receiver))
    }

    /// Lets connections in until shutdown, then closes them.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<()> {
        let Self { listener, room } = self;
        let Some(listener) = listener else {
            shutdown.wait().await;
            return Ok(());
        };
        let mut inside = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
                Some(ended) = inside.join_next() => ended?,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let peer = peer.ip().to_canonical();
                        match room.admit(peer) {
                            Ok((place, guest)) => {
                                let room = Arc::clone(&room);
                                inside.spawn(async move { room.receive(stream, peer, place, guest).await });
                            }
                            Err(why) => room.guests.turned_away(why),
                        }
                    }
                    Err(error) => {
                        room.guests.accept_errors.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%error, "cannot accept a carbon connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        inside.shutdown().await;
        Ok(())
    }
}

impl Room {
    /// Lets a connection in, by its address, or for the time that it takes a proxy to say for whom it is.
    fn admit(&self, peer: IpAddr) -> Result<(Place, Option<Guest>), Why> {
        let place = self.guests.place()?;
        let is_proxy = self.proxies.iter().any(|net| net.contains(peer));
        let guest = if is_proxy { None } else { Some(self.guests.enter(peer)?) };
        Ok((place, guest))
    }

    async fn receive(&self, stream: TcpStream, peer: IpAddr, _place: Place, guest: Option<Guest>) {
        if let Err(why) = self.serve(&stream, peer, guest).await {
            tracing::debug!(%peer, ?why, "a carbon connection was turned away");
            self.guests.turned_away(why);
        }
    }

    /// Passes on the lines of a connection until it ends.
    async fn serve(&self, stream: &TcpStream, peer: IpAddr, guest: Option<Guest>) -> Result<(), Why> {
        let (from, first, guest) = match guest {
            Some(guest) => (peer, Vec::new(), guest),
            None => match tokio::time::timeout(self.header, header(stream)).await {
                Err(_) => return Err(Why::SlowHeader),
                Ok(Err(why)) => return Err(why),
                Ok(Ok(None | Some((Header::Local { .. }, _)))) => return Ok(()),
                Ok(Ok(Some((Header::Proxied { source, .. }, first)))) => {
                    (source, first, self.guests.enter(source)?)
                }
            },
        };
        let mut lines = Lines::default();
        self.pass(from, &mut lines, &first).await?;
        drop(first);
        let ended = loop {
            let readable = tokio::select! {
                readable = tokio::time::timeout(self.idle, stream.readable()) => readable,
                () = guest.must_leave() => break Err(Why::MadeRoom),
            };
            match readable {
                Err(_) => break Err(Why::Idle),
                Ok(Err(_)) => break Ok(()),
                Ok(Ok(())) => {}
            }
            // On the stack, and only between two waits: who is silent holds no memory.
            let mut chunk = Vec::new();
            let outcome = {
                let mut piece = [0; PIECE_BYTES];
                match stream.try_read(&mut piece) {
                    Ok(0) => break Ok(()),
                    Ok(length) => lines.feed(&piece[..length], &mut chunk),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Err(_) => break Ok(()),
                }
            };
            if let Err(why) = self.hand_on(from, chunk, outcome).await {
                break Err(why);
            }
        };
        self.guests.too_long.fetch_add(lines.too_long, Ordering::Relaxed);
        self.guests.unfinished.fetch_add(u64::from(lines.is_unfinished()), Ordering::Relaxed);
        ended
    }

    async fn pass(&self, from: IpAddr, lines: &mut Lines, piece: &[u8]) -> Result<(), Why> {
        let mut chunk = Vec::new();
        let outcome = lines.feed(piece, &mut chunk);
        self.hand_on(from, chunk, outcome).await
    }

    async fn hand_on(&self, from: IpAddr, bytes: Vec<u8>, outcome: Result<(), Broken>) -> Result<(), Why> {
        if !bytes.is_empty() {
            // An error means that the edge has ended, and this soon does.
            self.chunks.send(Chunk { from, bytes }).await.ok();
        }
        outcome.map_err(|broken| match broken {
            Broken::Endless => Why::Endless,
            Broken::Binary => Why::Binary,
            Broken::Forged => Why::Forged,
        })
    }
}

/// Reads the header that a proxy begins with, and what came behind it; nothing if the connection ended before anything was said.
async fn header(stream: &TcpStream) -> Result<Option<(Header, Vec<u8>)>, Why> {
    let mut begun = Vec::new();
    loop {
        if stream.readable().await.is_err() {
            return Ok(None);
        }
        let room = proxy::HEADER_BYTES_MAX + 1 - begun.len().min(proxy::HEADER_BYTES_MAX);
        let mut piece = vec![0; room];
        match stream.try_read(&mut piece) {
            Ok(0) if begun.is_empty() => return Ok(None),
            Ok(0) => return Err(Why::BadHeader),
            Ok(length) => begun.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return Ok(None),
        }
        match proxy::parse(&begun) {
            Ok(Some(header @ (Header::Proxied { length, .. } | Header::Local { length }))) => {
                begun.drain(..length);
                return Ok(Some((header, begun)));
            }
            Ok(None) => {}
            Err(Malformed::Missing) => return Err(Why::NoHeader),
            Err(_) => return Err(Why::BadHeader),
        }
    }
}
