//! Posts notifications to webhooks: one connection each, to an address that has been looked at, no redirects, and no more
//! of the answer than its first lines.

mod reach;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kinetic_alert::webhook::{Post, signature};
use kinetic_schema::Netblock;
use kinetic_schema::schema::Webhook;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::adapter::{clock, file};

/// How long finding and reaching the receiver may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all of an attempt may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Bytes of an answer's body that are read.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Characters of it that are kept.
const ANSWER_CHARS_MAX: usize = 200;
/// Keys that a secret file may hold: the one that comes and the one that goes.
const SECRETS_MAX: usize = 2;
/// Longest pause that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(15 * 60);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The receiver has it (2xx).
    Taken(String),
    /// It may have it: the connection was lost, or the time over, after the request had gone out.
    Perhaps(String),
    /// Not now: it could not be reached or asked for patience (408, 429, 5xx).
    Later {
        /// So long, as the receiver says.
        after: Option<Duration>,
        /// Why.
        detail: String,
    },
    /// It does not want it (any other answer).
    Refused(String),
}

/// Posts to all webhooks.
#[derive(Clone, Debug)]
pub(crate) struct Poster {
    /// Private networks that may be reached.
    private: Arc<[Netblock]>,
    /// Read when it is first needed, and again where that has failed.
    tls: Arc<OnceCell<Arc<ClientConfig>>>,
    timeout: Duration,
}

impl Poster {
    /// A poster that reaches the internet, and of private networks these.
    pub(crate) fn new(private: &[Netblock]) -> Self {
        Self { private: private.into(), tls: Arc::default(), timeout: TIMEOUT }
    }

    /// One attempt. `delivery` is the same on every attempt at this post.
    pub(crate) async fn post(&self, webhook: &Webhook, delivery: &str, post: &Post) -> Posted {
        // Until the request is on its way, nobody can have it.
        let (sent, mut asked) = tokio::sync::oneshot::channel();
        let attempt = async {
            let request = request(webhook, delivery, post).await?;
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(request.uri())).await;
            let socket = connected.context("no connection within 5 s")??;
            let _asked = sent.send(());
            exchange(socket, request).await
        };
        let problem = match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(posted)) => return posted,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {:?}", self.timeout),
        };
        match asked.try_recv() {
            Ok(()) => Posted::Perhaps(problem),
            Err(_) => Posted::Later { after: None, detail: problem },
        }
    }

    async fn connect(&self, uri: &Uri) -> Result<Box<dyn Socket>> {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().context("the address has no host")?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = self.reach(host, port).await?;
        if !secure {
            return Ok(Box::new(tcp));
        }
        let tls = TlsConnector::from(Arc::clone(self.tls.get_or_try_init(trust).await?));
        let name = ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no name"))?;
        let stream = tls.connect(name, tcp).await.with_context(|| format!("no TLS with {host}"))?;
        Ok(Box::new(stream))
    }

    /// A connection to an address of this host that may be reached. What is looked at is what is connected to, so a name
    /// cannot mean another address by then.
    async fn reach(&self, host: &str, port: u16) -> Result<TcpStream> {
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<SocketAddr> =
            found.with_context(|| format!("cannot find {host}"))?.take(ADDRESSES_MAX).collect();
        let mut problem = anyhow::anyhow!("{host} has no address");
        for address in found {
            let ip: IpAddr = address.ip();
            if let Some(why) = reach::refusal(ip, &self.private) {
                problem = anyhow::anyhow!("{host} is {ip}, {why}");
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => problem = anyhow::Error::from(error).context(format!("cannot reach {address}")),
            }
        }
        Err(problem)
    }
}

/// A connection, encrypted or not.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// TLS as this machine trusts it.
async fn trust() -> Result<Arc<ClientConfig>> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    ensure!(added > 0, "this machine has no certificates of authorities (package ca-certificates)");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn request(webhook: &Webhook, delivery: &str, post: &Post) -> Result<Request<Full<Bytes>>> {
    let uri: Uri = webhook.url.parse().context("the webhook's address is none")?;
    let host = uri.authority().context("the webhook's address has no host")?.to_string();
    let mut request = Request::post(uri)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("kinetic/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header("idempotency-key", delivery)
        .header("kinetic-delivery", delivery);
    if let Some(path) = webhook.secret_file.clone() {
        let keys = tokio::task::spawn_blocking(move || file::read_secret_text(&path)).await??;
        let keys: Vec<&str> = keys.lines().map(str::trim).filter(|key| !key.is_empty()).collect();
        if keys.is_empty() || keys.len() > SECRETS_MAX {
            bail!("the webhook's secret file should hold one key a line, two at most");
        }
        let value = signature(&keys, clock::now().wall, post.body.as_bytes());
        request = request.header("kinetic-signature", value);
    }
    Ok(request.body(Full::new(Bytes::from(post.body.clone())))?)
}

/// Sends the request and reads the answer.
async fn exchange(socket: Box<dyn Socket>, mut request: Request<Full<Bytes>>) -> Result<Posted> {
    // A server is asked for the path; the host stands in its header.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().context("the webhook's path is none")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await.context("no answer")?;
    let (head, mut body) = answer.into_parts();
    let mut read = Vec::new();
    // The answer stands in its first line; what follows is for people.
    while read.len() < ANSWER_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        read.extend_from_slice(frame.data_ref().map_or(&[], |data| &**data));
    }
    Ok(verdict(head.status, &head.headers, &read))
}

/// What an answer means.
fn verdict(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Posted {
    let words = String::from_utf8_lossy(&body[..body.len().min(ANSWER_BYTES_MAX)]);
    let words: Vec<&str> = words.split_whitespace().collect();
    let words: String = words.join(" ").chars().take(ANSWER_CHARS_MAX).collect();
    let detail = format!("{status} {words}").trim_end().to_owned();
    match status {
        status if status.is_success() => Posted::Taken(detail),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Posted::Later { after: retry_after(headers), detail }
        }
        status if status.is_server_error() => Posted::Later { after: retry_after(headers), detail },
        status if status.is_redirection() => {
            Posted::Refused(format!("{detail} (redirects are not followed)"))
        }
        _ => Posted::Refused(detail),
    }
}

/// The pause that a receiver asks for, in seconds (RFC 9110 10.2.3); the form with a date is passed over.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER).map(HeaderValue::to_str)?.ok()?;
    let seconds: u64 = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
