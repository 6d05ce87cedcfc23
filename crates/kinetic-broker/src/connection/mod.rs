//! One client: reads frames in batches under its vhost's lock, writes what its outbox holds in as few writes as it can.

mod basic;
mod methods;
mod publish;

use crate::encode;
use crate::entrance::{Entrance, Rights, Seat};
use crate::error::{Failure, Outcome, Scope};
use crate::frame::{Frame, FrameKind, Method, decode_method, method_ids, next_frame};
use crate::handshake::Settled;
use crate::outbox::{OUTBOUND_BYTES_STOP, Out, Outbox};
use crate::permission::Right;
use crate::queue::SessionId;
use crate::server::{Shared, ring};
use crate::vhost::{Map, VHost};
use amq_protocol::protocol::{AMQPClass, channel, connection};
use bytes::{Buf, BytesMut};
use publish::Assembly;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Read buffer of a quiet connection, and of a busy one.
const READ_BYTES_MIN: usize = 16 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// Reads far below the buffer's size before a busy connection counts as quiet again.
const QUIET_READS: u32 = 64;
/// Bytes gathered for one write.
const WRITE_BYTES: usize = 256 << 10;
/// Places of an outbox that are kept when it was emptied.
const WAITING_KEPT: usize = 1 << 10;
/// How long a client may take to answer `connection.close`, and to take what was written before it.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How often a blocked client looks for room by itself.
const ROOM_CHECK: Duration = Duration::from_millis(100);
/// Pause after `connection.update-secret`, and its class and method.
const RENEW_PAUSE: Duration = Duration::from_millis(50);
const UPDATE_SECRET: (u16, u16) = (10, 70);

/// What one channel is in the middle of.
#[derive(Debug, Default)]
struct Io {
    /// We closed it and wait for `channel.close-ok`; everything else on it is ignored.
    closing: bool,
    assembly: Assembly,
    /// Counts it among its login's channels while it is open.
    _seat: Option<Seat>,
}

/// The reading side's state.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    entrance: Entrance,
    id: SessionId,
    outbox: Arc<Outbox>,
    channels: Map<u16, Io>,
    /// Channels with confirms to tell at the end of the batch.
    confirming: Vec<u16>,
    rights: Rights,
    generation: u64,
    channel_max: u16,
    frame_max: u32,
    heartbeat_s: u16,
    blocked_notify: bool,
    /// Bytes were put on the owner's account in this batch.
    holds_more: bool,
    /// What `connection.update-secret` brought.
    secret: Option<Box<[u8]>>,
    consumer_tags: u64,
}

/// What the reader does after a batch.
#[derive(Debug)]
enum Step {
    Read,
    /// The client does not take what it asked for.
    WaitForWriter,
    /// Its owner holds as many bytes as it may, and this client publishes.
    WaitForMemory,
    /// The client shows anew who it is.
    Renew,
    /// The client closed the connection, and was answered.
    Closed,
    /// The connection is to be closed with this.
    Close(Failure, (u16, u16)),
}

/// What one frame leads to.
enum Flow {
    Go,
    Closed,
}

/// Serves a client that the handshake let in, until it is gone.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    (read, write): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    settled: Settled,
) {
    let outbox = Arc::new(Outbox::default());
    let id = SessionId(settled.entrance.control.id);
    let mut connection = Connection {
        rights: shared.rights(&settled.entrance.control),
        generation: shared.generation(),
        shared,
        id,
        outbox: Arc::clone(&outbox),
        channels: Map::default(),
        confirming: Vec::new(),
        channel_max: settled.channel_max,
        frame_max: settled.frame_max,
        heartbeat_s: settled.heartbeat_s,
        blocked_notify: settled.blocked_notify,
        holds_more: false,
        secret: None,
        consumer_tags: 0,
        entrance: settled.entrance,
    };
    let shared = Arc::clone(&connection.shared);
    let cell = Arc::clone(&connection.entrance.cell);
    shared.with(&cell, |vhost| vhost.add_session(id, Arc::clone(&outbox), settled.cancel_notify));
    let resume = || shared.resume(&cell, id);
    let writer = run_writer(&outbox, write, settled.frame_max, settled.heartbeat_s, resume);
    tokio::pin!(writer);
    tokio::select! {
        () = &mut writer => {}
        () = connection.run_reader(read, settled.buffer) => {
            // What is not acknowledged goes back now, not only after the last frames are written.
            shared.with(&cell, |vhost| vhost.remove_session(id));
            outbox.push(Out::End);
            ring(&outbox);
            if tokio::time::timeout(CLOSE_WAIT, writer).await.is_err() {
                tracing::debug!("client did not take its last frames");
            }
        }
    }
}

/// Writes and makes sure that nothing is kept: TLS holds back what the socket does not take.
async fn write_out(socket: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    socket.write_all(bytes).await?;
    socket.flush().await
}

/// Writes what the outbox holds until its end, or until the socket fails. A client that does not read blocks this
/// task alone; what waits for it is bounded.
async fn run_writer(
    outbox: &Outbox,
    mut socket: impl AsyncWrite + Unpin,
    frame_max: u32,
    heartbeat_s: u16,
    resume: impl Fn(),
) {
    let mut waiting = Vec::new();
    let mut buffer = Vec::with_capacity(READ_BYTES_MIN);
    let silence = Duration::from_millis(u64::from(heartbeat_s) * 500);
    loop {
        outbox.take(&mut waiting);
        if waiting.is_empty() {
            let rung = outbox.ready.notified();
            if heartbeat_s == 0 {
                rung.await;
            } else if tokio::time::timeout(silence, rung).await.is_err() {
                encode::heartbeat(&mut buffer);
                if write_out(&mut socket, &buffer).await.is_err() {
                    return;
                }
                buffer.clear();
            }
            continue;
        }
        let (mut bytes, mut last) = (0, false);
        for out in waiting.drain(..) {
            bytes += out.size_bytes();
            last |= !encode::out(&mut buffer, frame_max, out);
            if buffer.len() >= WRITE_BYTES {
                if write_out(&mut socket, &buffer).await.is_err() {
                    return;
                }
                buffer.clear();
                if outbox.written(std::mem::take(&mut bytes)) {
                    resume();
                }
            }
        }
        if write_out(&mut socket, &buffer).await.is_err() {
            return;
        }
        buffer.clear();
        // One large message must not keep its space for the life of the connection.
        buffer.shrink_to(WRITE_BYTES);
        waiting.shrink_to(WAITING_KEPT);
        if outbox.written(bytes) {
            resume();
        }
        if last {
            // The client may be gone already.
            let _closed = socket.shutdown().await.is_ok();
            return;
        }
    }
}

impl Connection {
    async fn run_reader(&mut self, mut socket: impl AsyncRead + Unpin, mut buffer: BytesMut) {
        let mut size = READ_BYTES_MIN;
        let mut quiet = 0;
        loop {
            match self.process(&mut buffer) {
                Step::Read => {}
                Step::WaitForWriter => {
                    if let Some(failure) = self.wait_for_writer().await {
                        return self.close(failure, (0, 0), &mut socket, buffer).await;
                    }
                    continue;
                }
                Step::WaitForMemory => {
                    if let Some(failure) = self.wait_for_memory().await {
                        return self.close(failure, (0, 0), &mut socket, buffer).await;
                    }
                    continue;
                }
                Step::Renew => {
                    if let Some(failure) = self.renew().await {
                        return self.close(failure, UPDATE_SECRET, &mut socket, buffer).await;
                    }
                    continue;
                }
                Step::Closed => return,
                Step::Close(failure, ids) => return self.close(failure, ids, &mut socket, buffer).await,
            }
            buffer.reserve(size.max(buffer.len() + 1) - buffer.len());
            match self.read(&mut socket, &mut buffer).await {
                Ok(0) => return,
                Ok(count) => {
                    if count >= size / 2 && size < READ_BYTES_MAX {
                        size *= 2;
                    }
                    quiet = if count < READ_BYTES_MIN / 4 { quiet + 1 } else { 0 };
                    if quiet > QUIET_READS && size > READ_BYTES_MIN {
                        (size, quiet) = (READ_BYTES_MIN, 0);
                        buffer = BytesMut::from(&buffer[..]);
                    }
                }
                Err(Some(failure)) => return self.close(failure, (0, 0), &mut socket, buffer).await,
                Err(None) => return,
            }
        }
    }

    /// Reads once. `Err(None)` when the socket failed or nothing came for two heartbeats.
    async fn read(
        &self,
        socket: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
    ) -> Result<usize, Option<Failure>> {
        let control = &self.entrance.control;
        let silence = Duration::from_secs(2 * u64::from(self.heartbeat_s));
        let reading = async {
            if self.heartbeat_s == 0 {
                return socket.read_buf(buffer).await.map_err(|_| None);
            }
            match tokio::time::timeout(silence, socket.read_buf(buffer)).await {
                Ok(read) => read.map_err(|_| None),
                Err(_) => {
                    self.shared.count(|stats| stats.heartbeats_missed += 1);
                    tracing::info!(user = %control.user, "connection closed after two missed heartbeats");
                    Err(None)
                }
            }
        };
        tokio::select! {
            biased;
            () = control.closed.notified() => Err(control.closing()),
            read = reading => read,
        }
    }

    /// Waits until the writer got rid of most; a reason to close, if one comes up meanwhile.
    async fn wait_for_writer(&self) -> Option<Failure> {
        let control = &self.entrance.control;
        while self.outbox.bytes() > OUTBOUND_BYTES_STOP / 2 {
            tokio::select! {
                () = self.outbox.drained.notified() => {}
                () = control.closed.notified() => return control.closing(),
            }
        }
        None
    }

    /// What was sent with `connection.update-secret`: extends the connection or ends it.
    async fn renew(&mut self) -> Option<Failure> {
        let secret = self.secret.take()?;
        let renewed = self.shared.renew(&self.entrance.control, &secret);
        // Signatures cost time, and a client may ask for nothing else.
        tokio::time::sleep(RENEW_PAUSE).await;
        if !renewed {
            return Some(Failure::not_allowed("new secret was refused"));
        }
        self.rights = self.shared.rights(&self.entrance.control);
        let ok = connection::AMQPMethod::UpdateSecretOk(connection::UpdateSecretOk {});
        self.outbox.method(0, AMQPClass::Connection(ok));
        ring(&self.outbox);
        None
    }

    /// Waits until the owner holds less than its share; tells the client, if it understands.
    async fn wait_for_memory(&mut self) -> Option<Failure> {
        self.shared.count(|stats| stats.publishers_blocked += 1);
        self.entrance.control.account.blocked.fetch_add(1, Ordering::Relaxed);
        if self.blocked_notify {
            let blocked = connection::Blocked { reason: "low on memory".into() };
            self.outbox.method(0, AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)));
            ring(&self.outbox);
        }
        let control = &self.entrance.control;
        // What lies between a header and the end of its body is held by nobody but this client.
        let unfinished = self.channels.values().any(|io| !io.assembly.is_idle());
        let stalled = tokio::time::sleep(Duration::from_millis(self.shared.config.unfinished_ms));
        tokio::pin!(stalled);
        loop {
            let freed = self.shared.memory.freed.notified();
            tokio::pin!(freed);
            // Listening first: bytes freed between the look and the wait would go unheard.
            freed.as_mut().enable();
            if control.account.has_room() {
                break;
            }
            tokio::select! {
                () = freed => {}
                // What is less than a step rings for nobody.
                () = tokio::time::sleep(ROOM_CHECK) => {}
                () = &mut stalled, if unfinished => {
                    let text = "unfinished messages held while there is no room for their ends";
                    return Some(Failure::resource(text));
                }
                () = control.closed.notified() => return control.closing(),
            }
        }
        if self.blocked_notify {
            let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
            self.outbox.method(0, AMQPClass::Connection(unblocked));
            ring(&self.outbox);
        }
        None
    }

    /// Tells the client why, and waits a little for its answer.
    async fn close(
        &mut self,
        failure: Failure,
        ids: (u16, u16),
        socket: &mut (impl AsyncRead + Unpin),
        buffer: BytesMut,
    ) {
        tracing::info!(user = %self.entrance.control.user, code = failure.code, text = failure.text, "connection closed");
        // Nothing more is to be delivered to it.
        self.shared.with(&self.entrance.cell, |vhost| vhost.remove_session(self.id));
        let close = connection::Close {
            reply_code: failure.code,
            reply_text: failure.text.as_str().into(),
            class_id: ids.0,
            method_id: ids.1,
        };
        self.outbox.method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)));
        ring(&self.outbox);
        // After a frame that is not AMQP there is nothing to find an answer in; give the client time to read.
        let deaf = matches!(failure.code, 501 | 502);
        let answer = async {
            let mut buffer = buffer;
            loop {
                while !deaf && let Ok(Some(frame)) = next_frame(&buffer, self.frame_max) {
                    let closes = frame.channel == 0 && matches!(method_ids(frame.payload), (10, 50 | 51));
                    if closes && frame.kind == FrameKind::Method {
                        return;
                    }
                    buffer.advance(frame.size_bytes());
                }
                if deaf || buffer.len() > READ_BYTES_MAX {
                    buffer.clear();
                }
                if !matches!(socket.read_buf(&mut buffer).await, Ok(1..)) {
                    return;
                }
            }
        };
        let _answered = tokio::time::timeout(CLOSE_WAIT, answer).await.is_ok();
    }

    /// Handles every whole frame in the buffer, under one lock.
    fn process(&mut self, buffer: &mut BytesMut) -> Step {
        if matches!(next_frame(buffer, self.frame_max), Ok(None)) {
            return Step::Read;
        }
        if self.shared.generation() != self.generation {
            self.generation = self.shared.generation();
            self.rights = self.shared.rights(&self.entrance.control);
        }
        let cell = Arc::clone(&self.entrance.cell);
        let shared = Arc::clone(&self.shared);
        let mut guard = shared.enter(&cell);
        self.holds_more = false;
        let mut used = 0;
        let step = loop {
            let frame = match next_frame(&buffer[used..], self.frame_max) {
                Ok(None) => break Step::Read,
                Ok(Some(frame)) => frame,
                Err(failure) => {
                    guard.vhost.counters().malformed_frames += 1;
                    break Step::Close(failure, (0, 0));
                }
            };
            used += frame.size_bytes();
            match self.frame(&mut guard.vhost, frame) {
                Ok(Flow::Go) => {}
                Ok(Flow::Closed) => break Step::Closed,
                Err(failure) => {
                    if failure.code == 502 {
                        guard.vhost.counters().malformed_frames += 1;
                    } else {
                        self.count_refused(&mut guard.vhost, failure.code);
                    }
                    let ids =
                        if frame.kind == FrameKind::Method { method_ids(frame.payload) } else { (0, 0) };
                    break Step::Close(failure, ids);
                }
            }
            if self.secret.is_some() {
                break Step::Renew;
            }
            if self.outbox.bytes() > OUTBOUND_BYTES_STOP {
                break Step::WaitForWriter;
            }
            if self.holds_more && self.entrance.control.account.is_full() {
                break Step::WaitForMemory;
            }
        };
        self.flush_confirms(&mut guard.vhost);
        guard.release();
        if self.outbox.bytes() > 0 {
            ring(&self.outbox);
        }
        buffer.advance(used);
        step
    }

    /// One frame. An error that ends only a channel is dealt with here.
    fn frame(&mut self, vhost: &mut VHost, frame: Frame<'_>) -> Outcome<Flow> {
        let number = frame.channel;
        if frame.kind == FrameKind::Heartbeat {
            return match number {
                0 => Ok(Flow::Go),
                _ => Err(Failure::frame("heartbeat on a channel other than 0")),
            };
        }
        if number == 0 {
            return self.connection_frame(vhost, frame);
        }
        let outcome = match frame.kind {
            FrameKind::Method => self.channel_method(vhost, number, frame.payload),
            FrameKind::Header => self.content_header(vhost, number, frame.payload),
            _ => self.content_body(vhost, number, frame.payload),
        };
        match outcome {
            Err(failure) if failure.scope == Scope::Channel => {
                let ids = if frame.kind == FrameKind::Method { method_ids(frame.payload) } else { (60, 40) };
                self.close_channel(vhost, number, &failure, ids);
                Ok(Flow::Go)
            }
            Err(failure) => Err(failure),
            Ok(()) => Ok(Flow::Go),
        }
    }

    /// Ends one channel with a reason; the connection goes on.
    fn close_channel(&mut self, vhost: &mut VHost, number: u16, failure: &Failure, ids: (u16, u16)) {
        tracing::debug!(user = %self.entrance.control.user, code = failure.code, text = failure.text, "channel closed");
        self.count_refused(vhost, failure.code);
        self.flush_confirms(vhost);
        vhost.close_channel(self.id, number);
        self.channels.insert(number, Io { closing: true, ..Io::default() });
        let close = channel::Close {
            reply_code: failure.code,
            reply_text: failure.text.as_str().into(),
            class_id: ids.0,
            method_id: ids.1,
        };
        self.outbox.method(number, AMQPClass::Channel(channel::AMQPMethod::Close(close)));
    }

    fn connection_frame(&mut self, vhost: &mut VHost, frame: Frame<'_>) -> Outcome<Flow> {
        if frame.kind != FrameKind::Method {
            return Err(Failure::unexpected_frame("content on channel 0"));
        }
        let reply = |method| self.outbox.method(0, AMQPClass::Connection(method));
        let Method::Other(class) = decode_method(frame.payload)? else {
            return Err(Failure::command_invalid("a method of a channel on channel 0"));
        };
        match *class {
            AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
                vhost.remove_session(self.id);
                reply(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
                Ok(Flow::Closed)
            }
            AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)) => Ok(Flow::Closed),
            AMQPClass::Connection(connection::AMQPMethod::UpdateSecret(update)) => {
                // Looked at when the lock on the vhost is given back: it takes a while.
                self.secret = Some(update.new_secret.as_bytes().into());
                Ok(Flow::Go)
            }
            _ => Err(Failure::command_invalid("unexpected method on channel 0")),
        }
    }

    /// Tells the confirms that have gathered, several at once where that can be.
    fn flush_confirms(&mut self, vhost: &mut VHost) {
        for number in self.confirming.drain(..) {
            let due = vhost.confirms(self.id, number).and_then(crate::channel::Confirms::due);
            if let Some((tag, multiple)) = due {
                self.outbox.push(Out::Ack { channel: number, tag, multiple });
            }
        }
    }

    fn count_refused(&self, vhost: &mut VHost, code: u16) {
        vhost.counters().refused.count(code);
        self.entrance.control.account.count_refused(|refused| refused.count(code));
    }

    /// 403 unless the user has any right on an exchange or queue. RabbitMQ tells everybody whether one exists, and how
    /// much is in it.
    fn check_known(&self, vhost: &VHost, what: &str, name: &str) -> Outcome<()> {
        if self.rights.permission.knows(name) {
            return Ok(());
        }
        self.check(vhost, Right::Read, what, name)
    }

    /// 403 unless the user has this right on an exchange or queue.
    fn check(&self, vhost: &VHost, right: Right, what: &str, name: &str) -> Outcome<()> {
        if self.rights.permission.allows(right, name) {
            return Ok(());
        }
        let shown = if name.is_empty() { "amq.default" } else { name };
        Err(Failure::access_refused(&format!(
            "access to {what} '{shown}' in vhost '{}' refused for user '{}'",
            vhost.name, self.entrance.control.user
        )))
    }
}
