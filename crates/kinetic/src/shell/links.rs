//! The pages that links in mails lead to. A `GET` shows what would be done and changes nothing, since scanners of mail
//! follow links; a `POST` does it. This node asks the alert node that leads, over the broker, as an operator does: so
//! one that stands by serves the same pages, and no key of a token is needed here.
//!
//! It stands behind whatever ends TLS, and bounds everything that comes in: connections, the size of a head and of a
//! body, the time of a request, and the requests of one peer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kinetic_amqp::{Address, RpcClient};
use kinetic_wire::{FollowLink, LinkAction, Linked, Reply, RpcCode, RpcError, decode, encode, names};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Metric, Telemetry};

mod form;
mod page;
mod rate;

use page::Page;
use rate::Rates;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 8 << 10;
/// How long the alert node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);
/// How long requests under way may take to end at shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);
/// Pause after the system had no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the numbers on `/metrics` are renewed.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// Name of this part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "links";
/// The path of a link ends in this and its token; a path may stand before it.
const PATH: &str = "l";

/// What the alert node says.
#[derive(Debug)]
enum Answer {
    Linked(Box<Linked>),
    Refused(RpcError),
    /// Nothing that could be read, in time.
    None(String),
}

/// Who is asked.
trait Ask: Send + Sync + 'static {
    fn ask(&self, asked: &FollowLink) -> impl Future<Output = Answer> + Send;
}

/// The alert node that leads.
struct Leader(RpcClient);

impl Ask for Leader {
    async fn ask(&self, asked: &FollowLink) -> Answer {
        let answer =
            self.0.request(names::RPC_EXCHANGE, names::rpc::LINK, encode(asked), ANSWER_TIMEOUT).await;
        match answer.map(|body| decode::<Reply<Linked>>(&body)) {
            Ok(Ok(Reply::Ok(linked))) => Answer::Linked(Box::new(linked)),
            Ok(Ok(Reply::Refused(refused))) => Answer::Refused(refused),
            Ok(Err(error)) => Answer::None(error.to_string()),
            Err(failed) => Answer::None(failed.to_string()),
        }
    }
}

/// What slow clients cost.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Connections at a time; one more is closed at once (counted).
    connections: usize,
    /// How long a head may take to arrive.
    head: Duration,
    /// How long a connection, which is for one request, may last.
    connection: Duration,
}

const BOUNDS: Bounds =
    Bounds { connections: 128, head: Duration::from_secs(5), connection: Duration::from_secs(15) };

/// What was done how often.
#[derive(Debug, Default)]
struct Numbers {
    requests: BTreeMap<&'static str, u64>,
    connections_refused: u64,
}

/// Everything that requests share.
struct Server<A> {
    alert: A,
    bounds: Bounds,
    numbers: Mutex<Numbers>,
    rates: Mutex<Rates>,
}

/// A listener that serves pages until shutdown.
pub(crate) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the address.
pub(crate) async fn bind(listen: SocketAddr) -> Result<Bound> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} for the links in mails: choose another"))?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until shutdown.
    pub(crate) async fn run(self, control: Address, telemetry: Telemetry, shutdown: Shutdown) -> Result<()> {
        let client = RpcClient::start(control);
        let server = Arc::new(Server::new(Leader(client.clone()), BOUNDS));
        telemetry.health(PART, Health::Ok, clock::now().wall);
        serve(self.listener, &server, &telemetry, &shutdown).await;
        client.close().await;
        Ok(())
    }
}

/// Accepts connections until shutdown, then lets those under way end.
async fn serve<A: Ask>(
    listener: TcpListener,
    server: &Arc<Server<A>>,
    telemetry: &Telemetry,
    shutdown: &Shutdown,
) {
    let mut connections = JoinSet::new();
    let mut metrics_due = tokio::time::interval(METRICS_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.wait() => break,
            Some(_) = connections.join_next() => {}
            _ = metrics_due.tick() => telemetry.show(PART, server.metrics()),
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= server.bounds.connections => server.numbers().connections_refused += 1,
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer.ip(), Arc::clone(server)));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for a link");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let ending = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_WAIT, ending).await.is_err() {
        tracing::debug!("requests for links were cut off at shutdown");
    }
}

/// One request, and its answer.
async fn connection<A: Ask>(stream: TcpStream, peer: IpAddr, server: Arc<Server<A>>) {
    let service = service_fn(|request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.bounds.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let outcome = tokio::time::timeout(server.bounds.connection, connection).await;
    if !matches!(outcome, Ok(Ok(()))) {
        server.count("broken");
    }
}

/// Who asks: the peer, or where that is a proxy on this host, whom the proxy says.
fn client(peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = || {
        let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        last.rsplit(',').next()?.trim().parse().ok()
    };
    if peer.is_loopback() { forwarded().unwrap_or(peer) } else { peer }
}

/// The last part of a link's path.
fn token(path: &str) -> Option<&str> {
    let (before, token) = path.rsplit_once('/')?;
    (before.rsplit('/').next() == Some(PATH) && !token.is_empty()).then_some(token)
}

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    TooFast,
    NotFound,
    Method,
    TooLarge,
    /// The connection broke, or the body is none of ours.
    Body,
}

impl<A: Ask> Server<A> {
    fn new(alert: A, bounds: Bounds) -> Self {
        Self { alert, bounds, numbers: Mutex::default(), rates: Mutex::default() }
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: &'static str) {
        *self.numbers().requests.entry(outcome).or_default() += 1;
    }

    fn metrics(&self) -> Vec<Metric> {
        let peers = self.rates.lock().unwrap_or_else(PoisonError::into_inner).peers();
        let numbers = self.numbers();
        let requests = numbers.requests.iter().map(|(outcome, count)| {
            let help = "Requests for pages of links in mails, by how they ended.";
            Metric::counter("kinetic_links_requests", help, *count).with("outcome", *outcome)
        });
        let refused = Metric::counter(
            "kinetic_links_connections_refused",
            "Connections closed at once because there were too many.",
            numbers.connections_refused,
        );
        let peers = Metric::gauge("kinetic_links_peers", "Peers whose requests are counted.", peers as f64);
        requests.chain([refused, peers]).collect()
    }

    /// The answer to one request.
    async fn answer(&self, peer: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let is_head = request.method() == Method::HEAD;
        let (outcome, page) = match self.asked(peer, request).await {
            Err(refusal) => {
                let (status, outcome, page) = page::not_passed_on(refusal);
                (outcome, (status, page))
            }
            Ok(asked) => match self.alert.ask(&asked).await {
                Answer::Linked(linked) if linked.acted => ("done", (StatusCode::OK, page::done(&linked))),
                Answer::Linked(linked) => ("shown", (StatusCode::OK, page::look(&linked))),
                Answer::Refused(refused) => ("refused", (status(refused.code), page::refused(&refused))),
                Answer::None(why) => {
                    tracing::warn!(why, "the alert node does not answer for a link");
                    ("unanswered", (StatusCode::SERVICE_UNAVAILABLE, page::unanswered()))
                }
            },
        };
        self.count(outcome);
        let (status, page) = page;
        response(status, page, is_head)
    }

    /// What the alert node is to be asked.
    async fn asked(&self, peer: IpAddr, request: Request<Incoming>) -> Result<FollowLink, Refusal> {
        let client = client(peer, request.headers());
        let now = clock::now().mono;
        if !self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(client, now) {
            return Err(Refusal::TooFast);
        }
        let token = token(request.uri().path()).ok_or(Refusal::NotFound)?.to_owned();
        let act = match *request.method() {
            Method::GET | Method::HEAD => None,
            Method::POST => {
                let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
                let too_large = |error: Box<dyn std::error::Error + Send + Sync>| {
                    let is_limit = error.is::<http_body_util::LengthLimitError>();
                    if is_limit { Refusal::TooLarge } else { Refusal::Body }
                };
                Some(form::read(&body.map_err(too_large)?.to_bytes()).ok_or(Refusal::Body)?)
            }
            _ => return Err(Refusal::Method),
        };
        Ok(FollowLink { v: 1, token, act })
    }
}

/// What a refusal of the alert node is called in HTTP.
fn status(code: RpcCode) -> StatusCode {
    match code {
        RpcCode::BadLink => StatusCode::NOT_FOUND,
        RpcCode::ExpiredLink | RpcCode::UnknownEpisode | RpcCode::UnknownSubscription => StatusCode::GONE,
        RpcCode::LastRecipient => StatusCode::CONFLICT,
        RpcCode::Overload => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// A page that is kept nowhere, loads nothing, runs nothing, tells nobody where it came from and stands in no frame.
fn response(status: StatusCode, page: Page, is_head: bool) -> Response<Full<Bytes>> {
    let body = if is_head { Bytes::new() } else { Bytes::from(page.html()) };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(page::policy()).expect("the policy is of plain characters");
    for (name, value) in [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow")),
    ] {
        headers.insert(name, value);
    }
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        }
        _ => {}
    }
    response
}

/// Whether a page is about leaving an alert block.
fn is_unsubscribe(linked: &Linked) -> bool {
    linked.action == LinkAction::Unsubscribe
}

#[cfg(test)]
mod tests;
