//! The listener, the shared state behind all connections, and the handle that others hold.

use crate::account::{Account, Memory};
use crate::config::BrokerConfig;
use crate::connection;
use crate::entrance::Inside;
use crate::error::Failure;
use crate::hall::{Hall, Place};
use crate::handshake::{self, Caller};
use crate::outbox::Outbox;
use crate::permission::Access;
use crate::queue::SessionId;
use crate::stats::{OwnerStats, QueueDepth, Stats};
use crate::tls;
use crate::vhost::{Bounds, VHost};
use rustls::ServerConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How long clients have to answer when the broker shuts down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// How long to wait after an `accept` that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Owners that have an account of their own; all others share one.
const ACCOUNTS_MAX: usize = 65_536;
/// Whose account that is. No owner of ours is called so.
const OTHERS: &str = "(others)";
/// How often tokens are looked at for having expired.
const TOKEN_CHECK: Duration = Duration::from_secs(1);
/// Longest sleep of the timer task.
const TIMER_SLEEP_MAX: Duration = Duration::from_secs(60);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic is a bug; going on with the state it left is better than taking every connection down.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The broker's only clock.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
}

#[expect(clippy::disallowed_methods, reason = "the broker's only clock, read once per batch of frames")]
impl Clock {
    fn new() -> Self {
        Self { start: Instant::now() }
    }
    fn mono_ms(&self) -> u64 {
        u64::try_from(Instant::now().duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
    pub(crate) fn wall_ms() -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
    fn wall_s() -> u64 {
        Self::wall_ms().unsigned_abs() / 1000
    }
}

/// A vhost behind its lock.
#[derive(Debug)]
pub(crate) struct VHostCell {
    state: Mutex<VHost>,
    timer: Arc<Notify>,
}

/// The lock on a vhost; the writers of everything that was put into outboxes are woken when it is given back.
pub(crate) struct VHostGuard<'a> {
    pub(crate) vhost: MutexGuard<'a, VHost>,
    timer: &'a Notify,
}

impl VHostGuard<'_> {
    /// Gives the lock back, then wakes.
    pub(crate) fn release(mut self) {
        let mut wake = Vec::new();
        self.vhost.take_wake(&mut wake);
        let moved = std::mem::take(&mut self.vhost.timer_moved);
        drop(self.vhost);
        for outbox in wake {
            outbox.ready.notify_one();
        }
        if moved {
            self.timer.notify_one();
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: BrokerConfig,
    pub(crate) memory: Arc<Memory>,
    access: RwLock<Arc<Access>>,
    /// Grows with every change of `access`, so that connections look again.
    generation: AtomicU64,
    vhosts: Mutex<BTreeMap<String, Arc<VHostCell>>>,
    pub(crate) inside: Mutex<Inside>,
    hall: Arc<Hall>,
    /// What the next connections over TLS are offered.
    tls: RwLock<Option<Arc<ServerConfig>>>,
    /// Accounts by owner.
    accounts: Mutex<BTreeMap<Arc<str>, Arc<Account>>>,
    ids: AtomicU64,
    counters: Mutex<Stats>,
    clock: Clock,
    shutdown: Notify,
    timer: Arc<Notify>,
}

impl Shared {
    pub(crate) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.counters));
    }

    pub(crate) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The account of an owner. Those above the bound share one.
    pub(crate) fn account(&self, owner: &Arc<str>) -> Arc<Account> {
        let mut accounts = lock(&self.accounts);
        let full = accounts.len() >= ACCOUNTS_MAX && !accounts.contains_key(owner);
        let owner = if full { Arc::from(OTHERS) } else { Arc::clone(owner) };
        Arc::clone(accounts.entry(owner).or_insert_with(|| Arc::new(Account::new(&self.memory))))
    }

    pub(crate) fn cell(&self, vhost: &str) -> Arc<VHostCell> {
        let bounds = Bounds {
            queues_max: self.config.queues_max,
            exchanges_max: self.config.exchanges_max,
            bindings_max: self.config.bindings_max,
        };
        let create =
            || VHostCell { state: Mutex::new(VHost::new(vhost, bounds)), timer: Arc::clone(&self.timer) };
        Arc::clone(lock(&self.vhosts).entry(vhost.to_owned()).or_insert_with(|| Arc::new(create())))
    }

    /// Locks a vhost and sets its time.
    pub(crate) fn enter<'a>(&self, cell: &'a VHostCell) -> VHostGuard<'a> {
        let mut vhost = lock(&cell.state);
        vhost.set_now(self.clock.mono_ms(), Clock::wall_s());
        VHostGuard { vhost, timer: &cell.timer }
    }

    /// Does something under the lock of a vhost.
    pub(crate) fn with<T>(&self, cell: &VHostCell, act: impl FnOnce(&mut VHost) -> T) -> T {
        let mut guard = self.enter(cell);
        let result = act(&mut guard.vhost);
        guard.release();
        result
    }

    /// After a slow reader has caught up.
    pub(crate) fn resume(&self, cell: &VHostCell, id: SessionId) {
        self.with(cell, |vhost| vhost.resume(id));
    }

    fn cells(&self) -> Vec<Arc<VHostCell>> {
        lock(&self.vhosts).values().cloned().collect()
    }

    /// Runs what queues do by themselves; when the next of it is due, in milliseconds.
    fn tick(&self) -> Option<u64> {
        let tick = |vhost: &mut VHost| {
            vhost.tick();
            vhost.next_timer_ms()
        };
        self.cells().iter().filter_map(|cell| self.with(cell, tick)).min()
    }
}

/// A broker that listens and does not run yet.
#[derive(Debug)]
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
    tls_listener: Option<TcpListener>,
    tls_address: Option<SocketAddr>,
    shared: Arc<Shared>,
}

impl Broker {
    /// Listens on `config.listen`, and on the address for TLS.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(config: BrokerConfig, access: Access) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let (tls_listener, tls_config) = match &config.tls {
            None => (None, None),
            Some(tls) => (Some(TcpListener::bind(tls.listen).await?), Some(Arc::clone(&tls.config))),
        };
        let tls_address = tls_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let shared = Shared {
            hall: Arc::new(Hall::new(config.handshakes_max)),
            tls: RwLock::new(tls_config),
            memory: Arc::new(Memory::new(config.memory_bytes_max)),
            config,
            access: RwLock::new(Arc::new(access)),
            generation: AtomicU64::new(1),
            vhosts: Mutex::new(BTreeMap::new()),
            inside: Mutex::default(),
            accounts: Mutex::default(),
            ids: AtomicU64::new(1),
            counters: Mutex::new(Stats::default()),
            clock: Clock::new(),
            shutdown: Notify::new(),
            timer: Arc::new(Notify::new()),
        };
        Ok(Self { listener, address, tls_listener, tls_address, shared: Arc::new(shared) })
    }

    /// Where it listens; the port that the system chose when the configuration said 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for TLS, if it does.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// A handle to control and observe it from elsewhere.
    pub fn handle(&self) -> BrokerHandle {
        BrokerHandle { shared: Arc::clone(&self.shared) }
    }

    /// Serves until [`BrokerHandle::shutdown`]; then closes every connection with 320 and returns when they have left,
    /// or after three seconds.
    pub async fn run(self) {
        let Self { listener, address, tls_listener, tls_address, shared } = self;
        tracing::info!(%address, tls = tls_address.map(tracing::field::display), "broker listening");
        let mut tasks = JoinSet::new();
        let mut timers = JoinSet::new();
        timers.spawn(run_timers(Arc::clone(&shared)));
        timers.spawn(run_tokens(Arc::clone(&shared)));
        loop {
            let (accepted, tls) = tokio::select! {
                accepted = listener.accept() => (accepted, None),
                accepted = next(tls_listener.as_ref()) => (accepted, shared.tls()),
                Some(ended) = tasks.join_next() => {
                    note(ended);
                    continue;
                }
                () = shared.shutdown.notified() => break,
            };
            match accepted {
                Ok(accepted) => accept(&shared, accepted, tls, &mut tasks),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((listener, tls_listener));
        for control in lock(&shared.inside).controls.values() {
            control.close(Failure::forced("broker forced connection closure with reason 'shutdown'"));
        }
        let leave = async {
            while let Some(ended) = tasks.join_next().await {
                note(ended)
            }
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, leave).await.is_err() {
            tracing::warn!(connections = tasks.len(), "connections did not leave in time");
            tasks.shutdown().await;
        }
        timers.shutdown().await;
        tracing::info!("broker stopped");
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// Takes a client in. It may be told apart only after it has shown who it is: until then it is one of a bounded number.
fn accept(
    shared: &Arc<Shared>,
    (stream, from): (TcpStream, SocketAddr),
    tls: Option<Arc<ServerConfig>>,
    tasks: &mut JoinSet<()>,
) {
    shared.count(|stats| stats.connections_total += 1);
    if lock(&shared.inside).controls.len() >= shared.config.connections_max {
        shared.count(|stats| stats.refused.connections += 1);
        return;
    }
    let Some(place) = shared.hall.enter(from.ip(), shared.clock.mono_ms()) else {
        shared.count(|stats| stats.refused.crowded += 1);
        return;
    };
    // Writes are batched here; waiting for more would only delay the last of them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay not set");
    }
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        match tls {
            None => lead(shared, place, (stream, from)).await,
            Some(config) => lead_tls(shared, place, (stream, from), config).await,
        }
    });
}

async fn lead(shared: Arc<Shared>, place: Place, (mut stream, from): (TcpStream, SocketAddr)) {
    let caller = Caller { from, peer: None };
    let settled = unless_sent_away(&shared, place, handshake::handshake(&shared, &mut stream, caller)).await;
    if let Some(settled) = settled {
        connection::serve(shared, stream.into_split(), settled).await;
    }
}

async fn lead_tls(
    shared: Arc<Shared>,
    place: Place,
    accepted: (TcpStream, SocketAddr),
    config: Arc<ServerConfig>,
) {
    let (_, from) = accepted;
    let handshakes = async {
        let mut stream = tls::accept(&shared, config, accepted).await?;
        let caller = Caller { from, peer: tls::peer(&stream) };
        let settled = handshake::handshake(&shared, &mut stream, caller).await?;
        Some((stream, settled))
    };
    let led = unless_sent_away(&shared, place, handshakes).await;
    if let Some((stream, settled)) = led {
        connection::serve(shared, tokio::io::split(stream), settled).await;
    }
}

/// A handshake that ends early when its place is needed. The place is free when it is over.
async fn unless_sent_away<T>(
    shared: &Shared,
    place: Place,
    handshake: impl Future<Output = Option<T>>,
) -> Option<T> {
    tokio::select! {
        led = handshake => led,
        () = place.sent_away() => {
            shared.count(|stats| stats.refused.crowded += 1);
            None
        }
    }
}

/// The next client of a listener; never, where there is none.
async fn next(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn run_timers(shared: Arc<Shared>) {
    loop {
        let sleep = match shared.tick() {
            None => TIMER_SLEEP_MAX,
            Some(at) => {
                Duration::from_millis(at.saturating_sub(shared.clock.mono_ms()).max(1)).min(TIMER_SLEEP_MAX)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = shared.timer.notified() => {}
        }
    }
}

async fn run_tokens(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(TOKEN_CHECK);
    loop {
        ticks.tick().await;
        shared.expire_tokens();
    }
}

/// Controls and observes a broker; cheap to clone.
#[derive(Debug, Clone)]
pub struct BrokerHandle {
    shared: Arc<Shared>,
}

impl BrokerHandle {
    /// Swaps who may do what. Connections whose user or vhost is gone, whose credential was taken away, or whose user lost
    /// the vhost are closed with 320; for the others new permissions count from the next frame on. A vhost that is gone
    /// goes with all it holds.
    pub fn set_access(&self, access: Access) {
        let shared = &self.shared;
        let access = Arc::new(access);
        *shared.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&access);
        shared.generation.fetch_add(1, Ordering::AcqRel);
        for control in lock(&shared.inside).controls.values() {
            control.review(&access);
        }
        let owners: BTreeSet<&str> = access.users.values().map(|user| &*user.owner).collect();
        // Whoever is gone is forgotten with his last message.
        lock(&shared.accounts)
            .retain(|owner, account| owners.contains(&**owner) || Arc::strong_count(account) > 1);
        lock(&shared.vhosts).retain(|name, _| access.vhosts.contains(name));
    }

    /// Swaps certificate, key and what is asked of clients. It counts for connections that come from now on, where there is
    /// a listener for TLS; open ones go on with what they have.
    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        let mut stats = lock(&self.shared.counters).clone();
        for cell in self.shared.cells() {
            stats.add(&lock(&cell.state).stats());
        }
        stats.connections = lock(&self.shared.inside).controls.len() as u64;
        stats.bytes_held = self.shared.memory.held() as u64;
        stats
    }

    /// What each owner takes of the broker, of those who were ever here: bounded to 65,536, all others are one.
    pub fn owners(&self) -> BTreeMap<String, OwnerStats> {
        let accounts = lock(&self.shared.accounts).clone();
        let stats = |account: &Account| OwnerStats {
            bytes_held: account.held() as u64,
            publishers_blocked: account.blocked.load(Ordering::Relaxed),
            refused: account.refused(),
        };
        accounts.iter().map(|(owner, account)| (owner.to_string(), stats(account))).collect()
    }

    /// What each queue holds, by vhost and queue name.
    pub fn queue_depths(&self) -> BTreeMap<(String, String), QueueDepth> {
        let mut depths = BTreeMap::new();
        let cells: Vec<_> =
            lock(&self.shared.vhosts).iter().map(|(name, cell)| (name.clone(), Arc::clone(cell))).collect();
        for (vhost, cell) in cells {
            let queues = lock(&cell.state).depths();
            depths.extend(queues.into_iter().map(|(queue, depth)| ((vhost.clone(), queue), depth)));
        }
        depths
    }

    /// Asks [`Broker::run`] to close all connections and return.
    pub fn shutdown(&self) {
        self.shared.shutdown.notify_one();
    }
}

/// Rings the writer of a connection's own outbox.
pub(crate) fn ring(outbox: &Outbox) {
    outbox.ready.notify_one();
}
