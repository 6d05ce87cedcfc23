//! A TCP proxy on loopback that stands for the network between a process and its broker: it can be cut, go silent with
//! its sockets open, become slow, and heal. It can also end only those connections that consume a certain queue.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::amqp::runtime;
use crate::eventually;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// How long one upstream may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a client says at first is remembered up to here: long enough to see what it consumes.
const HEAD_MAX: usize = 64 << 10;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Bytes pass after this long.
    Open(Duration),
    /// Sockets stay open and nothing passes, not even their end. What was sent meanwhile passes once it is healed, as
    /// TCP's repeats would.
    Silent,
    /// All connections are closed, and new ones as soon as they come.
    Cut,
}

/// A proxy. It ends when it is dropped, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    ban: watch::Sender<Ban>,
    _serving: JoinSet<()>,
}

/// Which connections are ended, and how many have been.
#[derive(Clone, Debug, Default)]
struct Ban {
    /// `basic.consume` of the queue, as it stands in a frame.
    words: Option<Vec<u8>>,
    ended: usize,
}

/// `basic.consume` (class 60, method 20) with its reserved short and the queue's name, AMQP 0-9-1 section 1.8.3.3.
fn consume(queue: &str) -> Vec<u8> {
    let length = u8::try_from(queue.len()).expect("a short string");
    [&[0, 60, 0, 20, 0, 0, length], queue.as_bytes()].concat()
}

impl Proxy {
    /// Listens on a free port; each connection goes to the first upstream that accepts it.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(upstreams: &[SocketAddr]) -> Self {
        let (mode, watched) = watch::channel(Mode::Open(Duration::ZERO));
        let ban = watch::Sender::new(Ban::default());
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("bind");
        let address = listener.local_addr().expect("address");
        let mut serving = JoinSet::new();
        serving.spawn_on(accept(listener, upstreams.to_vec(), watched, ban.clone()), runtime().handle());
        Self { address, mode, ban, _serving: serving }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection, and accepts no other until it is healed; returns once they are closed.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
        // Each connection holds a receiver, and whoever accepts them one more.
        eventually("every connection is cut", || match self.mode.receiver_count() {
            1 => Ok(()),
            others => Err(others),
        });
    }

    /// Nothing passes, and nobody is told: both ends believe in their connection until they give up on it.
    pub fn fall_silent(&self) {
        self.mode.send_replace(Mode::Silent);
    }

    /// Everything takes this much longer, each way.
    pub fn delay(&self, by: Duration) {
        self.mode.send_replace(Mode::Open(by));
    }

    /// Closes the connections that consume a queue, and each new one when it is about to, until it is healed; all others stay.
    /// Returns once one has been closed.
    pub fn cut_consumers_of(&self, queue: &str) {
        let before = self.ban.borrow().ended;
        self.ban.send_modify(|ban| ban.words = Some(consume(queue)));
        eventually("a consumer's connection is cut", || {
            let ended = self.ban.borrow().ended;
            if ended > before { Ok(()) } else { Err("none") }
        });
    }

    /// All is well again.
    pub fn heal(&self) {
        self.ban.send_modify(|ban| ban.words = None);
        self.mode.send_replace(Mode::Open(Duration::ZERO));
    }
}

async fn accept(
    listener: TcpListener,
    upstreams: Vec<SocketAddr>,
    mode: watch::Receiver<Mode>,
    ban: watch::Sender<Ban>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(connection(client, upstreams.clone(), mode.clone(), ban.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until an end of it is told to the other or the network is cut.
async fn connection(
    client: TcpStream,
    upstreams: Vec<SocketAddr>,
    mut mode: watch::Receiver<Mode>,
    ban: watch::Sender<Ban>,
) {
    if *mode.borrow() == Mode::Cut || passes(&mut mode).await.is_none() {
        return;
    }
    let Some(broker) = connect(&upstreams).await else { return };
    // A proxy that waits for more to send would be a delay that no story asked for.
    client.set_nodelay(true).ok();
    broker.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let head = Arc::new(Mutex::new(Vec::new()));
    let up = pump(from_client, to_broker, mode.clone(), Some((&head, ban.subscribe())));
    let down = pump(from_broker, to_client, mode.clone(), None);
    let mut banning = ban.subscribe();
    // Either end's end is the end of both, as for AMQP it is.
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
        _ = banning.wait_for(|ban| is_banned(ban, &head)) => {}
    }
    if is_banned(&ban.borrow(), &head) {
        ban.send_modify(|ban| ban.ended += 1);
    }
}

/// What a client has said at first, as far as it was let through.
type Head = Arc<Mutex<Vec<u8>>>;

fn is_banned(ban: &Ban, head: &Head) -> bool {
    let head = head.lock().unwrap_or_else(PoisonError::into_inner);
    ban.words.as_ref().is_some_and(|words| head.windows(words.len()).any(|part| part == words))
}

async fn connect(upstreams: &[SocketAddr]) -> Option<TcpStream> {
    for upstream in upstreams {
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(upstream)).await {
            return Some(stream);
        }
    }
    None
}

/// Waits until bytes pass; how much later they do. `None` once the network is cut.
async fn passes(mode: &mut watch::Receiver<Mode>) -> Option<Duration> {
    match *mode.wait_for(|mode| *mode != Mode::Silent).await.ok()? {
        Mode::Open(delay) => Some(delay),
        Mode::Silent | Mode::Cut => None,
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    heard: Option<(&Head, watch::Receiver<Ban>)>,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await;
        let Some(delay) = passes(&mut mode).await else { return };
        tokio::time::sleep(delay).await;
        match read {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let length = read.unwrap_or_default();
        if let Some((head, ban)) = &heard {
            {
                let mut head = head.lock().unwrap_or_else(PoisonError::into_inner);
                let room = HEAD_MAX - head.len();
                head.extend_from_slice(&chunk[..length.min(room)]);
            }
            // Before the broker hears of it: a consumer that stands for a moment takes messages.
            if is_banned(&ban.borrow(), head) {
                return;
            }
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener as Listener, TcpStream as Stream};
    use std::time::Instant;

    use super::*;

    /// A server that sends back what it gets, behind a proxy, and a client of it.
    fn echo() -> (Proxy, Stream) {
        let listener = Listener::bind("127.0.0.1:0").expect("bind");
        let proxy = Proxy::start(&[listener.local_addr().expect("address")]);
        std::thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while socket.read_exact(&mut byte).is_ok() && socket.write_all(&byte).is_ok() {}
                });
            }
        });
        let client = connect_to(&proxy);
        (proxy, client)
    }

    fn connect_to(proxy: &Proxy) -> Stream {
        let client = Stream::connect(proxy.address()).expect("connect");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        client
    }

    fn ask(client: &mut Stream) -> std::io::Result<u8> {
        client.write_all(b"x")?;
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn silence_keeps_the_sockets_and_healing_passes_what_was_said() {
        let (proxy, mut client) = echo();
        assert_eq!(ask(&mut client).expect("passes"), b'x');
        proxy.fall_silent();
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        let error = ask(&mut client).expect_err("nothing passes");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        proxy.heal();
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        let mut byte = [0];
        client.read_exact(&mut byte).expect("what was said in the silence");
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn a_cut_ends_connections_until_it_is_healed() {
        let (proxy, mut client) = echo();
        assert_eq!(ask(&mut client).expect("passes"), b'x');
        proxy.cut();
        ask(&mut client).expect_err("the connection is gone");
        let mut other = connect_to(&proxy);
        ask(&mut other).expect_err("nobody is behind it");
        proxy.heal();
        let mut third = connect_to(&proxy);
        assert_eq!(ask(&mut third).expect("passes"), b'x');
    }

    #[test]
    fn only_consumers_of_a_queue_are_cut() {
        let (proxy, mut other) = echo();
        assert_eq!(ask(&mut other).expect("passes"), b'x');
        let mut client = connect_to(&proxy);
        let say = |client: &mut Stream| {
            client.write_all(&consume("queue"))?;
            client.read_exact(&mut [0; 12])
        };
        say(&mut client).expect("passes");
        proxy.cut_consumers_of("queue");
        ask(&mut client).expect_err("it is gone");
        say(&mut connect_to(&proxy)).expect_err("no other passes");
        assert_eq!(ask(&mut other).expect("it consumes nothing"), b'x');
        proxy.heal();
        say(&mut connect_to(&proxy)).expect("passes again");
    }

    #[test]
    fn a_delay_is_each_way() {
        let (proxy, mut client) = echo();
        proxy.delay(Duration::from_millis(60));
        let began = Instant::now();
        ask(&mut client).expect("passes");
        assert!(began.elapsed() >= Duration::from_millis(120), "{:?}", began.elapsed());
    }

    #[test]
    fn an_upstream_that_is_gone_is_passed_over() {
        let gone = Listener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
        let (echoing, _client) = echo();
        let proxy = Proxy::start(&[gone, echoing.address()]);
        let mut client = connect_to(&proxy);
        assert_eq!(ask(&mut client).expect("passes"), b'x');
    }
}
