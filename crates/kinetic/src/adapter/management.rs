//! RabbitMQ's management API: what is on a broker is read from it, and steps of a plan are done by it.
//!
//! Reading is five listings side by side: of 20,000 customers' objects `GET /api/definitions` takes half a minute, the listings
//! take five seconds even one by one. What is made is handed over in bulk (`POST /api/definitions` merges and never removes), what is removed
//! goes one by one.

mod apply;
mod read;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kinetic_amqp::{Address, Plain, Secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::BadConfig;

pub(crate) use apply::Progress;
pub(crate) use read::without_limits;

/// Requests at once, each on a connection of its own, which is kept.
const PARALLEL: usize = 8;
/// How long a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take: listings of a large broker take seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a bulk import may take: a second, usually, and tens of them on a machine that is busy with something else.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer; the queues of 20,000 customers take 14 MB.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// Characters of a refusal that are kept.
const WORDS_MAX: usize = 200;
/// Attempts at a request whose kept connection turns out to be closed.
const ATTEMPTS: usize = 3;

type Sender = SendRequest<Full<Bytes>>;

/// The API of one broker.
#[derive(Debug)]
pub(crate) struct Management {
    secure: bool,
    host: String,
    port: u16,
    /// Where plain HTTP may go.
    plain: Plain,
    authorization: HeaderValue,
    ca_file: Option<PathBuf>,
    tls: tokio::sync::OnceCell<Arc<ClientConfig>>,
    idle: Mutex<Vec<Sender>>,
    driving: Mutex<JoinSet<()>>,
    turns: Semaphore,
}

impl Management {
    /// The API at an URL, with the login of an address, and its password unless there is another. Nothing is sent yet.
    pub(crate) fn new(url: &str, broker: &Address, password: Option<&Secret>) -> Result<Self> {
        let refused = |what: &str| BadConfig(format!("the management address {url} {what}"));
        let uri: Uri = url.parse().map_err(|_| refused("cannot be read: write https://HOST[:PORT]"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => bail!(refused("is neither http:// nor https://")),
        };
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        ensure!(!authority.contains('@'), refused("has a login in it: the one of --amqp is used"));
        ensure!(uri.path() == "/" && uri.query().is_none(), refused("has a path: leave it out"));
        let host = uri.host().ok_or_else(|| refused("has no host"))?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 15_671 } else { 15_672 });
        let password = password.unwrap_or(&broker.password).expose();
        ensure!(
            !password.is_empty(),
            BadConfig(
                "RabbitMQ's management API asks for a password: give --management-password-file".to_owned()
            )
        );
        let mut authorization = HeaderValue::try_from(format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{password}", broker.login))
        ))?;
        authorization.set_sensitive(true);
        Ok(Self {
            secure,
            host,
            port,
            plain: broker.plain,
            authorization,
            ca_file: broker.ca_file.clone(),
            tls: tokio::sync::OnceCell::new(),
            idle: Mutex::default(),
            driving: Mutex::default(),
            turns: Semaphore::new(PARALLEL),
        })
    }

    /// An answer of the 200s, and its body.
    async fn get(&self, path: &str) -> Result<Bytes> {
        let (status, body) = self.request(Method::GET, path, Bytes::new(), ANSWER_TIMEOUT).await?;
        self.success(status, &body, &Method::GET, path)?;
        Ok(body)
    }

    /// Removes what may be gone already.
    async fn delete(&self, path: &str) -> Result<()> {
        let (status, body) = self.request(Method::DELETE, path, Bytes::new(), ANSWER_TIMEOUT).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.success(status, &body, &Method::DELETE, path)
    }

    /// Hands over definitions; again where no answer comes, since it harms nothing.
    async fn import(&self, body: Bytes) -> Result<()> {
        let path = "/api/definitions";
        let mut attempts = 1;
        let (status, answer) = loop {
            match self.request(Method::POST, path, body.clone(), IMPORT_TIMEOUT).await {
                Ok(answer) => break answer,
                Err(error) if attempts >= ATTEMPTS => return Err(error),
                Err(error) => tracing::debug!(error = format!("{error:#}"), "an import is handed over again"),
            }
            attempts += 1;
        };
        self.success(status, &answer, &Method::POST, path)
    }

    fn success(&self, status: StatusCode, body: &[u8], method: &Method, path: &str) -> Result<()> {
        if status.is_success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(body);
        let words: String = words.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
        let what = match status {
            StatusCode::UNAUTHORIZED => {
                "it does not know our login, or its password is another, or the login lacks the tag administrator \
                 (rabbitmqctl set_user_tags LOGIN administrator)"
            }
            StatusCode::FORBIDDEN => {
                "the login lacks the tag administrator (rabbitmqctl set_user_tags LOGIN administrator)"
            }
            StatusCode::NOT_FOUND => "this is no management API of RabbitMQ 3.10 or later",
            status if status.is_server_error() => "RabbitMQ has a problem of its own: see its log",
            _ => "",
        };
        bail!("{}:{} answers {method} {path} with {status}: {what} {words}", self.host, self.port)
    }

    /// Sends a request on a kept connection or a new one. All our requests may be repeated.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes)> {
        let _turn = self.turns.acquire().await?;
        let mut problem = None;
        for _ in 0..ATTEMPTS {
            let kept = self.kept();
            let is_kept = kept.is_some();
            let sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let attempt = self.exchange(sender, &method, path, body.clone());
            match tokio::time::timeout(patience, attempt).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_kept => problem = Some(error),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    bail!("{}:{} has not answered {method} {path} within {patience:?}", self.host, self.port)
                }
            }
        }
        Err(problem.unwrap_or_else(|| anyhow::anyhow!("no attempt was made")))
    }

    /// A kept connection that its server has not closed meanwhile.
    fn kept(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        idle.pop()
    }

    async fn exchange(
        &self,
        mut sender: Sender,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let said = || format!("no answer from {}:{} to {method} {path}", self.host, self.port);
        sender.ready().await.with_context(said)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("kinetic/", env!("CARGO_PKG_VERSION")))
            // What is closed is told why.
            .header("x-reason", "the login is good no more, or may do other things from now on")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await.with_context(said)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{}: {error}", said()))?.to_bytes();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok((status, body))
    }

    async fn connect(&self) -> Result<Sender> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await;
        let socket = connected.with_context(|| {
            format!("no connection to {}:{} within {CONNECT_TIMEOUT:?}", self.host, self.port)
        })??;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let mut driving = self.driving.lock().unwrap_or_else(PoisonError::into_inner);
        while driving.try_join_next().is_some() {}
        driving.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a management API ended");
            }
        });
        Ok(sender)
    }

    async fn open(&self) -> Result<Box<dyn Socket>> {
        let (host, port) = (self.host.as_str(), self.port);
        let mut found =
            tokio::net::lookup_host((host, port)).await.with_context(|| format!("cannot find {host}"))?;
        let mut problem = anyhow::anyhow!("{host} has no address");
        let tcp = loop {
            let Some(address) = found.next() else { return Err(problem) };
            if !self.secure && self.plain == Plain::Loopback && !address.ip().to_canonical().is_loopback() {
                problem = BadConfig(format!(
                    "http:// to {host} would show our password to everyone on the way: write https://, or add --allow-plain"
                ))
                .into();
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(error) => {
                    problem = anyhow::Error::from(error).context(format!(
                        "cannot reach RabbitMQ's management API at {address} (rabbitmq-plugins enable rabbitmq_management)"
                    ));
                }
            }
        };
        tcp.set_nodelay(true).ok();
        if !self.secure {
            return Ok(Box::new(tcp));
        }
        let config = self.tls.get_or_try_init(|| trust(self.ca_file.clone())).await?;
        let name = ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no name"))?;
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, tcp).await.with_context(|| {
            format!(
                "no TLS with {host}:{port}: --ca-file names the authorities that its certificate may be of"
            )
        })?;
        Ok(Box::new(stream))
    }
}

/// A connection, encrypted or not.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// TLS that trusts the authorities of a file, or the system's.
async fn trust(ca_file: Option<PathBuf>) -> Result<Arc<ClientConfig>> {
    let roots = tokio::task::spawn_blocking(move || match ca_file {
        Some(path) => authorities(&path),
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Ok(roots)
        }
    });
    let roots = roots.await??;
    ensure!(!roots.is_empty(), "this machine trusts no certificate authority (package ca-certificates)");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn authorities(path: &Path) -> Result<RootCertStore> {
    let said = || format!("cannot read the certificate authorities in {}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(said)? {
        roots.add(certificate.with_context(said)?).with_context(said)?;
    }
    Ok(roots)
}

/// A word of a path, with everything but letters, digits, `-`, `_` and `.` percent-encoded.
fn word(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(url: &str, plain: Plain) -> Result<Management> {
        let mut address = Address::from_url("amqp://kinetic@127.0.0.1/prod")?;
        address.plain = plain;
        Management::new(url, &address, Some(&Secret::new("hunter2")))
    }

    #[test]
    fn addresses_are_read_and_others_refused() {
        let check = |url: &str, want: Option<(bool, &str, u16)>| {
            let found = api(url, Plain::Loopback).ok();
            let found = found.as_ref().map(|api| (api.secure, api.host.as_str(), api.port));
            assert_eq!(found, want, "{url}");
        };
        check("https://rabbit.example", Some((true, "rabbit.example", 15_671)));
        check("http://[::1]:7/", Some((false, "::1", 7)));
        for other in
            ["rabbit.example", "amqp://rabbit.example", "https://me:pw@rabbit.example", "https://a/api"]
        {
            check(other, None);
        }
    }

    #[test]
    fn nothing_shows_the_password() {
        let api = api("http://127.0.0.1:1", Plain::Loopback).expect("an API");
        let shown = format!("{api:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains(&STANDARD.encode("kinetic:hunter2")),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn plain_http_goes_to_this_machine_only() {
        // Addresses for documentation: nobody is there, and nobody is asked.
        let refused = api("http://192.0.2.1:1", Plain::Loopback).expect("an API").get("/api/users").await;
        let refused = format!("{:#}", refused.expect_err("plain"));
        assert!(refused.contains("write https://"), "{refused}");
        let tried = api("http://127.0.0.1:1", Plain::Loopback).expect("an API").get("/api/users").await;
        let tried = format!("{:#}", tried.expect_err("nobody listens"));
        assert!(tried.contains("cannot reach RabbitMQ's management API at 127.0.0.1:1"), "{tried}");
    }

    #[test]
    fn words_of_paths_are_encoded() {
        assert_eq!(word("us-west.aws"), "us-west.aws");
        assert_eq!(word("/"), "%2F");
        assert_eq!(word("web.%23~é"), "web.%2523%7E%C3%A9");
    }
}
