//! Between the socket and lapin: what a hostile publisher put into a message must not end the connection of whoever reads it.
//!
//! Names of AMQP are bytes, and RabbitMQ passes them on as they came; lapin's codec refuses a frame whose names are not UTF-8, and
//! its connection with it, so that the message comes again and ends the next one. It also reads tables within tables by recursion
//! without a bound: a header of 20,000 of them is the end of the process. So frames that carry what publishers wrote are read here
//! first and mended in place, at their length: foreign bytes of names become `?`, and what lies too deep becomes an array of bytes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use futures_util::io::{AsyncRead, AsyncWrite};
use futures_util::{Stream, TryFutureExt as _};
use lapin::tcp::AsyncTcpStream;

use mend::{FRAME_HEAD, FRAME_METHOD, Mended};

mod mend;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 << 10;
/// Largest frame that is held for mending. RabbitMQ's largest is 128 KiB by default.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// Bytes of a frame around its payload: type, channel and size before it, an end mark behind it.
const AROUND: usize = 8;

/// Messages mended since the process began.
static MENDED: AtomicU64 = AtomicU64::new(0);

/// Messages whose properties or names no well-meaning client sends, and which were made harmless; since the process began, over all
/// connections.
#[must_use]
pub fn mended_total() -> u64 {
    MENDED.load(Ordering::Relaxed)
}

/// What a connection is dialled with.
pub(crate) type Kit = RuntimeParts<Tokio, Guarding>;

/// Tokio's reactor, whose streams are guarded.
#[derive(Clone, Debug)]
pub(crate) struct Guarding(Tokio);

/// The current tokio runtime, with guarded streams.
pub(crate) fn runtime() -> async_rs::Runtime<Kit> {
    async_rs::Runtime::new(RuntimeParts::new(Tokio::current(), Guarding(Tokio::current())))
}

impl Reactor for Guarding {
    type TcpStream = Guarded<AsyncTcpStream<<Tokio as Reactor>::TcpStream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, long: Duration) -> Self::Sleep {
        self.0.sleep(long)
    }

    fn interval(&self, each: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(each)
    }

    fn tcp_connect_addr(
        &self,
        to: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        self.0.tcp_connect_addr(to).map_ok(|stream| Guarded::new(AsyncTcpStream::Plain(stream)))
    }
}

/// A stream whose reader gets frames that were looked at. What is written goes through as it is.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    inner: S,
    /// Read: handed out up to `from`, ready up to `ready`, and behind it the beginning of a frame.
    held: Vec<u8>,
    from: usize,
    ready: usize,
    /// Bytes still to come that need no look: the rest of a body.
    through: usize,
    /// What comes is not frames: a broker that speaks another version.
    is_foreign: bool,
    ended: bool,
}

impl<S> Guarded<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, held: Vec::new(), from: 0, ready: 0, through: 0, is_foreign: false, ended: false }
    }

    /// Makes ready what can be: whole frames, and bodies as far as they have come.
    fn look(&mut self) -> io::Result<()> {
        loop {
            let rest = self.held.len() - self.ready;
            if self.is_foreign || self.ended {
                self.ready = self.held.len();
                return Ok(());
            }
            let through = self.through.min(rest);
            (self.ready, self.through) = (self.ready + through, self.through - through);
            let Some(&[kind, _, _, a, b, c, d]) = self.held[self.ready..].first_chunk() else {
                return Ok(());
            };
            let frame = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let frame = frame.saturating_add(AROUND);
            match kind {
                FRAME_METHOD | FRAME_HEAD if frame > FRAME_BYTES_MAX => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a frame is larger than any broker's",
                    ));
                }
                FRAME_METHOD | FRAME_HEAD => {
                    let Some(whole) = self.held.get_mut(self.ready..self.ready + frame) else {
                        return Ok(());
                    };
                    let payload = 7..frame - 1;
                    if mend::mend(kind, &mut whole[payload]) == Mended::Yes {
                        MENDED.fetch_add(1, Ordering::Relaxed);
                    }
                    self.ready += frame;
                }
                b'A' => self.is_foreign = true,
                _ => self.through = frame,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held.drain(..self.from);
        self.ready -= self.from;
        self.from = 0;
        let had = self.held.len();
        self.held.resize(had + READ_BYTES, 0);
        let read = Pin::new(&mut self.inner).poll_read(cx, &mut self.held[had..]);
        let came = if let Poll::Ready(Ok(came)) = &read { *came } else { 0 };
        self.held.truncate(had + came);
        self.ended = ready!(read)? == 0;
        Poll::Ready(self.look())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.ready == self.from && !self.ended {
            ready!(self.poll_fill(cx))?;
        }
        let count = out.len().min(self.ready - self.from);
        out[..count].copy_from_slice(&self.held[self.from..self.from + count]);
        self.from += count;
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::io::{AsyncReadExt as _, Cursor};
    use std::collections::VecDeque;

    /// Hands out a stream in pieces.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let Some(piece) = self.0.pop_front() else { return Poll::Ready(Ok(0)) };
            out[..piece.len()].copy_from_slice(&piece);
            Poll::Ready(Ok(piece.len()))
        }
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[0xce]].concat()
    }

    async fn through(stream: &[u8], piece: usize) -> Vec<u8> {
        let pieces = stream.chunks(piece).map(<[u8]>::to_vec).collect();
        let mut out = Vec::new();
        Guarded::new(Pieces(pieces)).read_to_end(&mut out).await.unwrap();
        out
    }

    #[tokio::test]
    async fn frames_come_out_whole_however_they_arrive() {
        // A header with the property `type`, which is not UTF-8; a body; a heartbeat.
        let head = |kind: &[u8]| {
            let fixed = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0x20, 3];
            frame(FRAME_HEAD, &[&fixed, kind].concat())
        };
        let rest = [frame(3, b"\xff\xfe\xfd"), frame(8, b"")].concat();
        let (given, want) = ([head(b"a\xffb"), rest.clone()].concat(), [head(b"a?b"), rest].concat());
        let before = mended_total();
        for piece in [1, 2, 7, 9, given.len()] {
            assert_eq!(through(&given, piece).await, want, "{piece}");
        }
        assert!(mended_total() >= before + 5);
    }

    #[tokio::test]
    async fn another_protocol_goes_through_and_a_giant_does_not() {
        assert_eq!(through(b"AMQP\0\x03\x01\0", 3).await, b"AMQP\0\x03\x01\0");
        assert_eq!(through(b"\x01\0", 9).await, b"\x01\0", "the end of a broken stream");
        let mut out = Vec::new();
        let giant = Cursor::new(b"\x02\0\x01\xff\xff\xff\xff".to_vec());
        assert!(Guarded::new(giant).read_to_end(&mut out).await.is_err());
    }
}
