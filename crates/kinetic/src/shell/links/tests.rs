//! The server against good and bad clients, and the pages as they are; the alert node is made up.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use kinetic_wire::{AcknowledgementState, EpisodeState, Feed, FiringFeed, Silence};

use super::*;
use crate::shutdown;

const NOON_MS: i64 = 1_795_176_000_000;

fn episode() -> EpisodeState {
    let feed = |origin: &str, deviations| FiringFeed {
        feed: Feed { origin: origin.into(), metric: "checkout.latency".into() },
        since_ms: NOON_MS - 720_000,
        deviations,
        silenced: false,
    };
    EpisodeState {
        group: "acme/slow-host/checkout/frontends".into(),
        customer: "acme".into(),
        analytic: "slow-host".into(),
        service: "checkout".into(),
        cluster: "frontends".into(),
        since_ms: NOON_MS - 720_000,
        firing: 7,
        silenced: 0,
        feeds: vec![feed("web-7", Some(3.31)), feed("<script>alert(1)</script>", None)],
        acknowledged: None,
        told: Vec::new(),
    }
}

fn linked(action: LinkAction) -> Linked {
    Linked {
        ok: true,
        action,
        acted: false,
        customer: "acme".into(),
        alert: "team".into(),
        to: "Ann <ann@acme.example>".into(),
        episode: (action != LinkAction::Unsubscribe).then(episode),
        silence: None,
        silenced: false,
        unsubscribed: false,
        now_ms: NOON_MS,
    }
}

fn silence() -> Silence {
    Silence {
        id: "mail-5f2c81d09ab3".into(),
        customer: "acme".into(),
        services: vec!["checkout".into()],
        clusters: vec!["frontends".into()],
        analytics: vec!["slow-host".into()],
        origins: Vec::new(),
        metrics: Vec::new(),
        author: "ann@acme.example".into(),
        reason: "new disks".into(),
        from_ms: NOON_MS,
        until_ms: NOON_MS + 7_200_000,
    }
}

/// Says what a token is called, and remembers what it was asked.
#[derive(Default)]
struct Made {
    asked: Mutex<Vec<FollowLink>>,
}

impl Ask for Made {
    async fn ask(&self, asked: &FollowLink) -> Answer {
        self.asked.lock().expect("lock").push(asked.clone());
        let action = match &*asked.token {
            "ack" => LinkAction::Acknowledge,
            "silence" => LinkAction::Silence,
            "leave" => LinkAction::Unsubscribe,
            "nobody" => return Answer::None("it is dark".into()),
            _ => {
                let (ok, code, message, retry_s) = (false, RpcCode::BadLink, String::new(), 60);
                return Answer::Refused(RpcError { ok, code, message, retry_s });
            }
        };
        Answer::Linked(Box::new(Linked { acted: asked.act.is_some(), ..linked(action) }))
    }
}

struct Running {
    address: SocketAddr,
    server: Arc<Server<Made>>,
    _ender: shutdown::Ender,
    _task: JoinSet<()>,
}

async fn running() -> Running {
    running_within(BOUNDS).await
}

async fn running_within(bounds: Bounds) -> Running {
    let bound = bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let (ender, shutdown) = shutdown::channel();
    let (address, server) = (bound.address(), Arc::new(Server::new(Made::default(), bounds)));
    let mut task = JoinSet::new();
    let serving = Arc::clone(&server);
    task.spawn(async move { serve(bound.listener, &serving, &Telemetry::default(), &shutdown).await });
    Running { address, server, _ender: ender, _task: task }
}

impl Running {
    /// What comes back for these bytes until the connection ends.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        // Whoever sends too much may find the connection closed before all is written.
        stream.write_all(bytes).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await
    }

    async fn post(&self, path: &str, body: &str) -> String {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        self.send((head + body).as_bytes()).await
    }

    fn asked(&self) -> Vec<FollowLink> {
        std::mem::take(&mut self.server.alert.asked.lock().expect("lock"))
    }
}

fn is(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status} expected: {answer}");
}

#[tokio::test]
async fn looking_changes_nothing_and_posting_does_it() {
    let running = running().await;
    let shown = running.get("/l/ack").await;
    is(&shown, 200);
    for path in ["/kinetic/l/ack", "/l/ack?utm=1"] {
        is(&running.get(path).await, 200);
    }
    let head = running.send(b"HEAD /l/ack HTTP/1.1\r\nHost: a\r\n\r\n").await;
    is(&head, 200);
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    assert!(running.asked().iter().all(|asked| asked.token == "ack" && asked.act.is_none()));
    let done = running.post("/l/ack", "for=3600&reason=on+it").await;
    is(&done, 200);
    assert!(shown.contains("<button>Acknowledge</button>") && !done.contains("<button>"), "{done}");
    is(&running.post("/l/leave", "List-Unsubscribe=One-Click").await, 200);
    let asked = running.asked();
    let act = asked[0].act.clone().expect("an act");
    assert_eq!((act.for_s, act.reason.as_deref()), (Some(3_600), Some("on it")));
    assert!(asked[1].act.is_some());
}

#[tokio::test]
async fn pages_are_kept_nowhere_and_load_nothing() {
    let running = running().await;
    for answer in [running.get("/l/ack").await, running.get("/l/x").await, running.get("/").await] {
        let head = answer.split("\r\n\r\n").next().expect("a head").to_lowercase();
        for line in [
            "content-type: text/html; charset=utf-8",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
        ] {
            assert!(head.contains(line), "{line} not in {head}");
        }
        let policy = head.lines().find(|line| line.starts_with("content-security-policy: "));
        let policy = policy.expect("a policy");
        for part in
            ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "style-src 'sha256-"]
        {
            assert!(policy.contains(part), "{part} not in {policy}");
        }
        assert!(!answer.contains("<script"), "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_request_of_ours_does_not_reach_the_alert_node() {
    let running = running().await;
    for path in ["/", "/l/", "/x/ack", "/ack", "/l/ack/", "//"] {
        is(&running.get(path).await, 404);
    }
    is(&running.send(b"PUT /l/ack HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await, 405);
    is(&running.post("/l/leave", "").await, 400);
    is(&running.post("/l/leave", "x=y").await, 400);
    is(&running.post("/l/ack", &"x".repeat(9_000)).await, 413);
    // A body that says nothing of its length is as bounded.
    let mut chunked = b"POST /l/ack HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..3 {
        chunked.extend_from_slice(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes());
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    is(&running.send(&chunked).await, 413);
    let long = format!("GET /l/ack HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    is(&running.send(long.as_bytes()).await, 431);
    let many = format!("GET /l/ack HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    is(&running.send(many.as_bytes()).await, 431);
    assert!(running.asked().is_empty());
    is(&running.get("/l/x").await, 404);
    is(&running.get("/l/nobody").await, 503);
    assert_eq!(running.asked().len(), 2);
    let text = format!("{:?}", running.server.metrics());
    for outcome in ["not_found", "bad_request", "refused", "unanswered", "broken"] {
        assert!(text.contains(outcome), "{outcome} not in {text}");
    }
}

#[tokio::test]
async fn one_peer_cannot_ask_for_ever() {
    let running = running().await;
    let from = |address: &str| {
        format!("GET /l/ack HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1, {address}\r\n\r\n")
    };
    let mut refused = 0;
    for _ in 0..40 {
        let answer = running.send(from("192.0.2.7").as_bytes()).await;
        refused += usize::from(answer.starts_with("HTTP/1.1 429 "));
    }
    // The bucket fills a little while this runs.
    assert!((2..=10).contains(&refused), "{refused}");
    is(&running.send(from("192.0.2.8").as_bytes()).await, 200);
}

/// Fills up with connections that say nothing; also then the rest is refused rather than kept waiting, and all of it ends.
#[tokio::test]
async fn slow_clients_hold_nothing_up_for_long() {
    let second = Duration::from_secs(1);
    let running = running_within(Bounds { connections: 8, head: second, connection: 2 * second }).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(running.address).await.expect("connected");
        stream.write_all(b"GET /l/ack HT").await.expect("written");
        idle.push(stream);
    }
    while running.server.numbers().connections_refused == 0 {
        let answer = running.get("/l/ack").await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // One that goes on sending, a little at a time, is cut off as well.
    let mut drip = TcpStream::connect(running.address).await.expect("connected");
    let head = b"POST /l/ack HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n";
    drip.write_all(head).await.ok();
    let all_end = async {
        while drip.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for stream in &mut idle {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok();
        }
    };
    tokio::time::timeout(15 * second, all_end).await.expect("they are cut off");
    is(&running.get("/l/ack").await, 200);
}

#[test]
fn who_asks_is_whom_a_proxy_on_this_host_says_and_nobody_elses_word_counts() {
    let mut headers = HeaderMap::new();
    let of = |peer: &str, headers: &HeaderMap| client(peer.parse().expect("an address"), headers).to_string();
    assert_eq!(of("127.0.0.1", &headers), "127.0.0.1");
    headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    headers.append("x-forwarded-for", HeaderValue::from_static("10.9.9.9, 198.51.100.4"));
    assert_eq!(of("127.0.0.1", &headers), "198.51.100.4");
    assert_eq!(of("::1", &headers), "198.51.100.4");
    assert_eq!(of("203.0.113.5", &headers), "203.0.113.5");
    headers.append("x-forwarded-for", HeaderValue::from_static("unknown"));
    assert_eq!(of("127.0.0.1", &headers), "127.0.0.1");
}

/// All kinds of pages, by name.
fn pages() -> Vec<(&'static str, Page)> {
    let acknowledged = AcknowledgementState {
        author: "bob@acme.example".into(),
        reason: "waiting for disks".into(),
        at_ms: NOON_MS - 60_000,
        until_ms: NOON_MS + 3_600_000,
    };
    let taken = EpisodeState { acknowledged: Some(acknowledged), ..episode() };
    let wide = EpisodeState {
        analytic: "@team".into(),
        service: "@fra-1".into(),
        cluster: "*".into(),
        firing: 1,
        feeds: episode().feeds[..1].to_vec(),
        ..episode()
    };
    let of = |action, episode: &EpisodeState| Linked { episode: Some(episode.clone()), ..linked(action) };
    let (ack, quiet) = (LinkAction::Acknowledge, LinkAction::Silence);
    let silenced = Linked { silence: Some(silence()), silenced: true, acted: true, ..linked(quiet) };
    let refusal = |code, message: &str| {
        page::refused(&RpcError { ok: false, code, message: message.into(), retry_s: 60 })
    };
    vec![
        ("acknowledge", page::look(&linked(ack))),
        ("acknowledge-taken", page::look(&of(ack, &taken))),
        ("acknowledged", page::done(&Linked { acted: true, ..of(ack, &taken) })),
        ("silence-wide", page::look(&Linked { silence: Some(silence()), ..of(quiet, &wide) })),
        ("silenced", page::done(&silenced)),
        ("silence-again", page::look(&silenced)),
        ("unsubscribe", page::look(&linked(LinkAction::Unsubscribe))),
        (
            "unsubscribed",
            page::done(&Linked { acted: true, unsubscribed: true, ..linked(LinkAction::Unsubscribe) }),
        ),
        ("forged", refusal(RpcCode::BadLink, "")),
        ("expired", refusal(RpcCode::ExpiredLink, "")),
        ("over", refusal(RpcCode::UnknownEpisode, "")),
        (
            "last",
            refusal(
                RpcCode::LastRecipient,
                "alert team of acme tells nobody else: name somebody there first",
            ),
        ),
        ("invalid", refusal(RpcCode::Invalid, "the reason has more than 500 bytes")),
        ("unanswered", page::unanswered()),
        ("too-fast", page::not_passed_on(Refusal::TooFast).2),
    ]
}

#[test]
fn pages_say_what_is_meant_and_nothing_of_a_name_is_a_tag() {
    for (name, page) in pages() {
        let html = page.html();
        assert!(!html.contains("<script"), "{name}");
        assert_eq!(
            html.matches("<form method=\"post\">").count(),
            html.matches("<button>").count(),
            "{name}"
        );
    }
    let all: String =
        pages().iter().map(|(name, page)| format!("=== {name}\n{}\n", body(&page.html()))).collect();
    insta::assert_snapshot!(all);
}

fn body(html: &str) -> &str {
    html.split_once("<main>\n").and_then(|(_, rest)| rest.split_once("</main>")).expect("a body").0
}

/// Writes the pages where they can be looked at: `cargo test -p kinetic -- --ignored write_pages`.
#[test]
#[ignore = "writes pages to look at"]
#[expect(clippy::disallowed_methods, reason = "a test that writes files for people")]
fn write_pages() {
    let folder = std::env::temp_dir().join("kinetic-pages");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, page) in pages() {
        std::fs::write(folder.join(format!("{name}.html")), page.html()).expect("written");
    }
}
