//! Connections: frames in order within each, delays between them, and every way in which a connection can end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::agenda::{Agenda, End, Event, Life, LinkId, ProcId};
use crate::broker::Broker;
use crate::message::{ConnId, Down, MS, Message, SECOND, Time, Up};
use crate::rng::Rng;
use crate::shell::Tell;

/// Silence after which either end of a connection gives it up: two heartbeats of 10 s, as `kinetic-amqp` asks for.
const SILENCE_MAX: Time = 20 * SECOND;
/// Upper ends of the first wait before another attempt, and of every later one, as in `kinetic-amqp`.
const BACKOFF: (Time, Time) = (100 * MS, 10 * SECOND);
/// How long an attempt may take that nobody answers.
const CONNECT_TIMEOUT: Time = 10 * SECOND;

/// A client that was refused looks this often what has become of its publishes,
const WATCHDOG: Time = SECOND;
/// and gives its channel up after so many looks that saw refusals and nothing else, as in `kinetic-amqp`.
const REFUSALS_MAX: u32 = 2;

/// How a process's connections are.
#[derive(Debug)]
struct Link {
    proc: ProcId,
    life: Life,
    conn: Option<ConnId>,
    attempts: u32,
    closed: bool,
}

#[derive(Debug)]
struct Conn {
    link: LinkId,
    proc: ProcId,
    client_open: bool,
    broker_open: bool,
    up: VecDeque<Up>,
    up_last: Time,
    down: VecDeque<Down>,
    down_last: Time,
    publishes: bool,
    refusals: Refusals,
}

/// What has become of a connection's publishes since its client has last looked.
#[derive(Debug, Default)]
struct Refusals {
    refused: bool,
    taken: bool,
    /// Looks in a row that saw refusals only.
    looks: u32,
    /// It looks again.
    watched: bool,
}

/// Delays of frames, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    /// Of most frames: between these.
    pub(crate) usual: (Time, Time),
    /// Of a thousand frames, this many take longer.
    pub(crate) slow_permille: u64,
    /// Of those: between these.
    pub(crate) slow: (Time, Time),
}

impl Default for Delays {
    fn default() -> Self {
        Self { usual: (MS / 5, 2 * MS), slow_permille: 10, slow: (5 * MS, 150 * MS) }
    }
}

/// All connections, and the broker behind them.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) agenda: Agenda,
    pub(crate) broker: Broker,
    pub(crate) delays: Delays,
    pub(crate) now: Time,
    rng: Rng,
    links: BTreeMap<LinkId, Link>,
    conns: BTreeMap<ConnId, Conn>,
    last_link: u64,
    last_conn: u64,
    /// Processes that nothing reaches and from which nothing comes.
    cut: BTreeSet<ProcId>,
    /// Processes that stand still: their kernels take frames, nobody answers heartbeats.
    stopped: BTreeSet<ProcId>,
    /// The broker's process is not there.
    pub(crate) down: bool,
    /// The broker takes no publishes (`connection.blocked`).
    blocked: bool,
    /// Added to every frame's delay.
    pub(crate) drag: Time,
    /// A planted bug: clients keep channels on which they are only refused.
    pub(crate) keeps_refused: bool,
}

impl Net {
    pub(crate) fn new(broker: Broker, rng: Rng) -> Self {
        Self {
            agenda: Agenda::default(),
            broker,
            delays: Delays::default(),
            now: 0,
            rng,
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            last_link: 0,
            last_conn: 0,
            cut: BTreeSet::new(),
            stopped: BTreeSet::new(),
            down: false,
            blocked: false,
            drag: 0,
            keeps_refused: false,
        }
    }

    fn delay(&mut self) -> Time {
        let delays = self.delays;
        let (low, high) = if self.rng.permille(delays.slow_permille) { delays.slow } else { delays.usual };
        self.rng.between(low, high) + self.drag
    }

    /// A new supervised connection of a process: connects now, and again whenever it breaks.
    pub(crate) fn link(&mut self, proc: ProcId, life: Life) -> LinkId {
        self.last_link += 1;
        let id = LinkId(self.last_link);
        self.links.insert(id, Link { proc, life, conn: None, attempts: 0, closed: false });
        let at = self.now + self.delay();
        self.agenda.at(at, Event::Dial(id));
        id
    }

    /// Whether a link's connection stands, as far as its process knows.
    pub(crate) fn conn(&self, link: LinkId) -> Option<ConnId> {
        self.links.get(&link)?.conn
    }

    /// The process behind a connection.
    pub(crate) fn proc_of(&self, conn: ConnId) -> Option<ProcId> {
        Some(self.conns.get(&conn)?.proc)
    }

    /// Sends a frame; false where no connection stands.
    pub(crate) fn send(&mut self, link: LinkId, frame: Up) -> bool {
        let Some(id) = self.conn(link) else { return false };
        self.push_up(id, frame);
        true
    }

    fn push_up(&mut self, id: ConnId, frame: Up) {
        let delay = self.delay();
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.publishes |= matches!(frame, Up::Publish { .. });
        conn.up_last = conn.up_last.max(self.now + delay);
        conn.up.push_back(frame);
        self.agenda.at(conn.up_last, Event::Up(id));
    }

    fn push_down(&mut self, id: ConnId, frame: Down) {
        let delay = self.delay();
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.client_open) else { return };
        conn.down_last = conn.down_last.max(self.now + delay);
        conn.down.push_back(frame);
        self.agenda.at(conn.down_last, Event::Down(id));
    }

    /// Sends what the broker has to say.
    fn flush(&mut self) {
        for (conn, frame) in std::mem::take(&mut self.broker.out) {
            self.push_down(conn, frame);
        }
    }

    /// A link tries to connect. Returns whom to tell that it stands.
    pub(crate) fn dial(&mut self, id: LinkId) -> Option<(ProcId, Life, Tell)> {
        let link = self.links.get(&id).filter(|link| !link.closed && link.conn.is_none())?;
        let (proc, life) = (link.proc, link.life);
        if self.stopped.contains(&proc) {
            // Whoever stands still tries when it goes on.
            self.agenda.at(self.now + SECOND, Event::Dial(id));
            return None;
        }
        if self.down || self.cut.contains(&proc) {
            let pause = if self.cut.contains(&proc) { CONNECT_TIMEOUT } else { MS };
            self.redial(id, pause);
            return None;
        }
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.broker.open(conn);
        let fresh = Conn {
            link: id,
            proc,
            client_open: true,
            broker_open: true,
            up: VecDeque::new(),
            up_last: self.now,
            down: VecDeque::new(),
            down_last: self.now,
            publishes: false,
            refusals: Refusals::default(),
        };
        self.conns.insert(conn, fresh);
        let link = self.links.get_mut(&id)?;
        (link.conn, link.attempts) = (Some(conn), 0);
        Some((proc, life, Tell::Opened(id)))
    }

    fn redial(&mut self, id: LinkId, pause: Time) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.closed) else { return };
        let bound = BACKOFF.0.saturating_mul(1 << link.attempts.min(16)).min(BACKOFF.1);
        link.attempts += 1;
        let wait = self.rng.between(0, bound);
        self.agenda.at(self.now + pause + wait + MS, Event::Dial(id));
    }

    /// A frame may have reached the broker.
    pub(crate) fn up(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.broker_open) else { return };
        if self.cut.contains(&conn.proc) || (self.blocked && conn.publishes) {
            return; // Sent again, in TCP's way, when the way is free.
        }
        let Some(frame) = conn.up.pop_front() else { return };
        let closes = matches!(frame, Up::Close { .. });
        self.broker.frame(self.now, id, frame);
        self.flush();
        if closes {
            self.end(id, End::Broker);
        }
    }

    /// A frame may have reached the process. Returns whom to tell what.
    pub(crate) fn down(&mut self, id: ConnId) -> Option<(ProcId, Life, Tell)> {
        let conn = self.conns.get_mut(&id).filter(|conn| conn.client_open)?;
        if self.cut.contains(&conn.proc) {
            return None;
        }
        let frame = conn.down.pop_front()?;
        let (link_id, proc) = (conn.link, conn.proc);
        if matches!(frame, Down::Closed) {
            return self.lose(id);
        }
        match frame {
            Down::Nack(_) if !self.keeps_refused => {
                conn.refusals.refused = true;
                if !std::mem::replace(&mut conn.refusals.watched, true) {
                    self.agenda.at(self.now + WATCHDOG, Event::Refused(id));
                }
            }
            Down::Confirm(_) => conn.refusals.taken = true,
            _ => {}
        }
        let life = self.links.get(&link_id)?.life;
        Some((proc, life, Tell::Frame(link_id, frame)))
    }

    /// The client of a connection looks whether it is only refused, and gives it up if it is. Returns whom to tell.
    pub(crate) fn look_at_refusals(&mut self, id: ConnId) -> Option<(ProcId, Life, Tell)> {
        let conn = self.conns.get_mut(&id).filter(|conn| conn.client_open)?;
        if self.stopped.contains(&conn.proc) {
            self.agenda.at(self.now + WATCHDOG, Event::Refused(id));
            return None;
        }
        let Refusals { refused, taken, looks, .. } = conn.refusals;
        let looks = if taken { 0 } else { looks + u32::from(refused) };
        let watched = looks > 0;
        conn.refusals = Refusals { looks, watched, ..Refusals::default() };
        if looks >= REFUSALS_MAX {
            return self.lose(id);
        }
        if watched {
            self.agenda.at(self.now + WATCHDOG, Event::Refused(id));
        }
        None
    }

    /// The client's end of a connection breaks. Returns whom to tell.
    pub(crate) fn lose(&mut self, id: ConnId) -> Option<(ProcId, Life, Tell)> {
        let link_id = self.conns.get(&id)?.link;
        self.end(id, End::Client);
        let link = self.links.get_mut(&link_id)?;
        link.conn = None;
        let (proc, life) = (link.proc, link.life);
        self.redial(link_id, 0);
        Some((proc, life, Tell::Lost(link_id)))
    }

    /// One end is no more; the other learns it when it can.
    pub(crate) fn end(&mut self, id: ConnId, end: End) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match end {
            End::Client => {
                conn.client_open = false;
                conn.down.clear();
                if conn.broker_open {
                    self.push_up(id, Up::Close { gracefully: false });
                }
            }
            End::Broker => {
                conn.broker_open = false;
                conn.up.clear();
                if conn.client_open && !matches!(conn.down.back(), Some(Down::Closed)) {
                    self.push_down(id, Down::Closed);
                }
            }
        }
        if self.conns.get(&id).is_some_and(|conn| !conn.client_open && !conn.broker_open) {
            self.conns.remove(&id);
        }
    }

    /// A message from a connection that has ended since.
    pub(crate) fn inject(&mut self, message: Message) {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.broker.open(conn);
        let frame = Up::Publish { confirm: None, mandatory: false, message: Rc::new(message) };
        self.broker.frame(self.now, conn, frame);
        self.broker.close(self.now, conn, false);
        self.flush();
    }

    /// The last requests once more, the last first.
    pub(crate) fn replay(&mut self) {
        for message in self.broker.requests.clone().into_iter().rev() {
            self.inject(Message { expires: None, ..(*message).clone() });
        }
    }

    /// The broker gives a connection up.
    pub(crate) fn broker_drops(&mut self, id: ConnId) {
        if self.conns.get(&id).is_some_and(|conn| conn.broker_open) {
            self.broker.close(self.now, id, false);
            self.flush();
            self.end(id, End::Broker);
        }
    }

    /// A process closes a link in good order; the broker's answer comes as `Lost`.
    pub(crate) fn close(&mut self, link: LinkId) {
        if let Some(known) = self.links.get_mut(&link) {
            known.closed = true;
        }
        self.send(link, Up::Close { gracefully: true });
    }

    /// A process has done with a link, whatever the broker says.
    pub(crate) fn abandon(&mut self, link: LinkId) {
        if let Some(conn) = self.links.remove(&link).and_then(|link| link.conn) {
            self.end(conn, End::Client);
        }
    }

    /// A process is no more. What its kernel still had to send is sent, but for the last `lost` frames of each connection.
    pub(crate) fn kill(&mut self, proc: ProcId, lost: usize) {
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.proc == proc).map(|(id, _)| *id).collect();
        for id in links {
            let conn = self.links.remove(&id).and_then(|link| link.conn);
            if let Some(conn) = conn {
                if let Some(known) = self.conns.get_mut(&conn) {
                    let keep = known.up.len().saturating_sub(lost);
                    known.up.truncate(keep);
                }
                self.end(conn, End::Client);
            }
        }
        self.stopped.remove(&proc);
    }

    /// Nothing reaches a process any more, and nothing comes from it, until `heal`.
    pub(crate) fn cut(&mut self, proc: ProcId) {
        self.cut.insert(proc);
        self.watch_silence(proc, &[End::Client, End::Broker]);
    }

    /// A process stands still until `resume`: only the broker can notice.
    pub(crate) fn stop(&mut self, proc: ProcId) {
        self.stopped.insert(proc);
        self.watch_silence(proc, &[End::Broker]);
    }

    pub(crate) fn resume(&mut self, proc: ProcId) {
        self.stopped.remove(&proc);
    }

    fn watch_silence(&mut self, proc: ProcId, ends: &[End]) {
        let conns = self.conns_of(proc);
        for conn in conns {
            for end in ends {
                let after = SILENCE_MAX - self.rng.between(0, SILENCE_MAX / 4);
                self.agenda.at(self.now + after, Event::Beat(conn, *end));
            }
        }
    }

    /// Connections of a process, half-open ones too.
    pub(crate) fn conns_of(&self, proc: ProcId) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| conn.proc == proc).map(|(id, _)| *id).collect()
    }

    /// One end has heard nothing of the other for too long. Returns whom to tell.
    pub(crate) fn beat(&mut self, id: ConnId, end: End) -> Option<(ProcId, Life, Tell)> {
        let conn = self.conns.get(&id)?;
        let cut = self.cut.contains(&conn.proc);
        match end {
            End::Client if cut && conn.client_open => self.lose(id),
            End::Broker if cut || self.stopped.contains(&conn.proc) => {
                self.broker_drops(id);
                None
            }
            _ => None,
        }
    }

    /// The way to a process is free again: what waited is sent.
    pub(crate) fn heal(&mut self, proc: ProcId) {
        if self.cut.remove(&proc) {
            for id in self.conns_of(proc) {
                self.send_waiting(id);
            }
        }
    }

    fn send_waiting(&mut self, id: ConnId) {
        let (up, down) = (self.delay(), self.delay());
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.up_last = conn.up_last.max(self.now + up);
        conn.down_last = conn.down_last.max(self.now + down);
        for _ in 0..conn.up.len() {
            self.agenda.at(conn.up_last, Event::Up(id));
        }
        for _ in 0..conn.down.len() {
            self.agenda.at(conn.down_last, Event::Down(id));
        }
    }

    /// The broker takes publishes, or takes none.
    pub(crate) fn block(&mut self, blocked: bool) {
        self.blocked = blocked;
        if !blocked {
            for id in self.conns.keys().copied().collect::<Vec<_>>() {
                self.send_waiting(id);
            }
        }
    }

    /// The broker's process ends. Returns whom to tell: kernels say at once that a socket is closed.
    pub(crate) fn broker_ends(&mut self) -> Vec<(ProcId, Life, Tell)> {
        self.down = true;
        self.broker.restart();
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        let mut told = Vec::new();
        for id in ids {
            self.end(id, End::Broker);
            if self.conns.get(&id).is_some_and(|conn| !self.cut.contains(&conn.proc)) {
                told.extend(self.lose(id));
            }
        }
        told
    }
}
