//! The poster against receivers that answer as they are told to.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use kinetic_schema::schema::WebhookFormat;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What a receiver does with each connection in turn.
#[derive(Clone)]
enum Act {
    /// Reads the request and answers with these bytes.
    Answer(String),
    /// Reads the request and hangs up.
    HangUp,
}

fn answer(status: &str, rest: &str) -> Act {
    Act::Answer(format!("HTTP/1.1 {status}\r\n{rest}"))
}

/// A receiver on loopback; gives the requests that it read.
async fn receiver(acts: Vec<Act>) -> (SocketAddr, JoinSet<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut requests = Vec::new();
        for act in acts {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut read = Vec::new();
            while !String::from_utf8_lossy(&read).ends_with("}") {
                let mut part = [0; 4096];
                let count = socket.read(&mut part).await.expect("bytes");
                assert!(count > 0, "a whole request");
                read.extend_from_slice(&part[..count]);
            }
            requests.push(String::from_utf8(read).expect("text"));
            if let Act::Answer(bytes) = act {
                // The poster may have had enough of a long one.
                let _ended = socket.write_all(bytes.as_bytes()).await;
            }
        }
        requests
    });
    (address, task)
}

fn webhook(url: String, secret_file: Option<PathBuf>) -> Webhook {
    Webhook { name: "w".into(), url, secret_file, format: WebhookFormat::Kinetic }
}

fn a_post() -> Post {
    Post { customer: "acme".into(), alert: "team".into(), webhook: "w".into(), body: r#"{"a":1}"#.into() }
}

fn poster() -> Poster {
    Poster::new(&["127.0.0.0/8".parse().expect("a network")])
}

async fn posted(act: Act) -> Posted {
    let (address, _task) = receiver(vec![act]).await;
    poster().post(&webhook(format!("http://{address}/"), None), "id", &a_post()).await
}

#[tokio::test]
async fn answers_mean_what_they_say() {
    let later = |seconds: Option<u64>, detail: &str| Posted::Later {
        after: seconds.map(Duration::from_secs),
        detail: detail.into(),
    };
    let cases = [
        (
            answer("202 Accepted", "Content-Length: 9\r\n\r\nthank\nyou"),
            Posted::Taken("202 Accepted thank you".into()),
        ),
        (answer("204 No Content", "\r\n"), Posted::Taken("204 No Content".into())),
        (answer("400 Bad Request", "\r\n"), Posted::Refused("400 Bad Request".into())),
        (answer("410 Gone", "\r\n"), Posted::Refused("410 Gone".into())),
        (answer("408 Request Timeout", "\r\n"), later(None, "408 Request Timeout")),
        (answer("429 Too Many Requests", "Retry-After: 7\r\n\r\n"), later(Some(7), "429 Too Many Requests")),
        (
            answer("503 Service Unavailable", "Retry-After: 99999\r\n\r\n"),
            later(Some(900), "503 Service Unavailable"),
        ),
        (answer("500 Internal Server Error", "\r\n"), later(None, "500 Internal Server Error")),
        (
            answer("302 Found", "Location: http://169.254.169.254/\r\n\r\n"),
            Posted::Refused("302 Found (redirects are not followed)".into()),
        ),
    ];
    for (act, want) in cases {
        assert_eq!(posted(act).await, want);
    }
    assert!(matches!(posted(Act::HangUp).await, Posted::Perhaps(_)), "it had the request");
    assert!(matches!(posted(answer("x", "\r\n")).await, Posted::Perhaps(_)), "that was no HTTP");
}

#[tokio::test]
async fn of_a_long_answer_little_is_read() {
    let act = answer("200 OK", &format!("Content-Length: 100000000\r\n\r\n{}", "x".repeat(1 << 20)));
    let Posted::Taken(detail) = posted(act).await else { panic!("200 is enough") };
    assert_eq!(detail.chars().count(), "200 OK ".len() + ANSWER_CHARS_MAX);
}

#[tokio::test]
async fn a_request_says_whose_it_is_and_that_it_is_the_same_again() {
    let (address, mut task) = receiver(vec![answer("500 No", "\r\n"), answer("200 OK", "\r\n")]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let secrets = dir.path().join("secrets");
    file::write_secret(&secrets, "new\nold").expect("written");
    let webhook = webhook(format!("http://{address}/in?key=1"), Some(secrets.clone()));
    let poster = poster();
    assert!(matches!(poster.post(&webhook, "k1.acme.1", &a_post()).await, Posted::Later { .. }));
    assert_eq!(poster.post(&webhook, "k1.acme.1", &a_post()).await, Posted::Taken("200 OK".into()));
    let requests = task.join_next().await.expect("one").expect("no panic");
    for request in &requests {
        let (head, body) = request.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("POST /in?key=1 HTTP/1.1\r\n"), "{head}");
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("{name} in {head}")).to_owned()
        };
        assert_eq!(field("host"), address.to_string());
        assert_eq!(field("content-type"), "application/json");
        assert_eq!(
            (field("kinetic-delivery"), field("idempotency-key")),
            ("k1.acme.1".into(), "k1.acme.1".into())
        );
        let signed = field("kinetic-signature");
        let seconds = signed.split([',', '=']).nth(1).and_then(|t| t.parse().ok()).expect("a time");
        let at = kinetic_wire::Wall::from_secs(seconds);
        assert_eq!(signed, signature(&["new", "old"], at, body.as_bytes()));
        assert_eq!(body, a_post().body);
    }
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn nothing_is_sent_unsigned_that_should_be_signed() {
    let (address, task) = receiver(vec![answer("200 OK", "\r\n")]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let secrets = dir.path().join("secrets");
    let webhook = webhook(format!("http://{address}/"), Some(secrets.clone()));
    let poster = poster();
    let refused = async |want: &str| {
        let Posted::Later { detail, .. } = poster.post(&webhook, "id", &a_post()).await else {
            panic!("it is the operator who is to do something")
        };
        assert!(detail.contains(want), "{detail}");
        assert!(!detail.contains("s3cret"), "{detail}");
    };
    refused("cannot read").await;
    file::write_secret(&secrets, "").expect("written");
    refused("one key a line").await;
    file::write_secret(&secrets, "s3cret\ns3cret2\ns3cret3").expect("written");
    refused("one key a line").await;
    let public = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&secrets, public).expect("changed");
    refused("chmod 600").await;
    assert_eq!(task.len(), 1, "nobody came");
}

#[tokio::test]
async fn addresses_that_may_not_be_reached_are_not() {
    let (address, task) = receiver(vec![answer("200 OK", "\r\n")]).await;
    let check = async |private: &[Netblock], url: String, want: &str| {
        let posted = Poster::new(private).post(&webhook(url, None), "id", &a_post()).await;
        let Posted::Later { detail, .. } = posted else { panic!("{posted:?}") };
        assert!(detail.contains(want), "{detail}");
    };
    let anywhere = ["0.0.0.0/0".parse().expect("v4"), "::/0".parse().expect("v6")];
    check(&[], format!("http://{address}/"), "a private address").await;
    check(&[], format!("http://localhost:{}/", address.port()), "a private address").await;
    check(&[], format!("http://[::ffff:127.0.0.1]:{}/", address.port()), "a private address").await;
    check(&anywhere, "http://169.254.169.254/latest".into(), "no webhook leads").await;
    check(&anywhere, "http://[fe80::1]/".into(), "no webhook leads").await;
    assert_eq!(task.len(), 1, "nobody came");
}

#[tokio::test]
async fn who_cannot_be_reached_surely_has_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let posted = poster().post(&webhook(format!("http://{address}/"), None), "id", &a_post()).await;
    let Posted::Later { after: None, detail } = posted else { panic!("{posted:?}") };
    assert!(detail.contains("cannot reach 127.0.0.1"), "{detail}");
}

#[tokio::test]
async fn who_never_answers_may_have_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let poster = Poster { timeout: Duration::from_secs(2), ..poster() };
    let posted = poster.post(&webhook(format!("http://{address}/"), None), "id", &a_post()).await;
    assert_eq!(posted, Posted::Perhaps("no answer within 2s".into()));
    drop(listener);
}
