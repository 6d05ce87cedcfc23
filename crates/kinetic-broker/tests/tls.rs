//! AMQP inside TLS: passwords, client certificates, certificates that change, and crowds at the door.

#[path = "common/mod.rs"]
mod common;

use common::kit::*;
use common::raw::Raw;
use common::{World, access, embedded_with, eventually};
use kinetic_broker::{Access, Broker, BrokerConfig, Credential, Stats, TlsListen};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signs");
    Authority { issuer: Issuer::new(params, key), certificate }
}

impl Authority {
    fn sign(&self, common_name: &str, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        Identity { certificate: params.signed_by(&key, &self.issuer).expect("signs"), key }
    }

    /// A server that lets clients show certificates of this authority.
    fn server(&self) -> Arc<ServerConfig> {
        let server = self.sign("broker", &["localhost"]);
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .expect("roots");
        let chain: Vec<CertificateDer<'static>> = vec![server.certificate.der().clone()];
        let key = PrivateKeyDer::try_from(server.key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("versions")
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .expect("a key that fits");
        Arc::new(config)
    }
}

impl Identity {
    fn credential(&self) -> Credential {
        Credential::Certificate(Sha256::digest(self.certificate.der()).into())
    }

    fn shown(&self) -> OwnedIdentity {
        let pem = self.certificate.pem().into_bytes();
        OwnedIdentity::PKCS8 { pem, key: self.key.serialize_pem().into_bytes() }
    }
}

/// [`access`], where `server` has certificates too.
fn with_certificates(credentials: Vec<Credential>) -> Access {
    let mut access = access();
    access.users.get_mut("server").expect("there").credentials.extend(credentials);
    access
}

async fn broker(authority: &Authority, access: Access) -> (World, SocketAddr) {
    let tls = TlsListen { listen: (Ipv4Addr::LOCALHOST, 0).into(), config: authority.server() };
    let broker = Broker::bind(BrokerConfig { tls: Some(tls), ..BrokerConfig::default() }, access).await;
    let broker = broker.expect("binds");
    let world = World { address: broker.local_addr(), handle: Some(broker.handle()) };
    let address = broker.tls_addr().expect("listens");
    #[expect(clippy::disallowed_methods, reason = "the test's runtime ends it")]
    let _task = tokio::spawn(broker.run());
    (world, address)
}

fn stats(world: &World) -> Stats {
    world.handle.as_ref().expect("embedded").stats()
}

/// Connects with a password (`user:password`), or with a certificate where there is none.
async fn connect(
    address: SocketAddr,
    authority: &Authority,
    login: &str,
    identity: Option<&Identity>,
) -> Result<Link, lapin::Error> {
    let mechanism = if login.is_empty() { "&auth_mechanism=external" } else { "" };
    let at = if login.is_empty() { String::new() } else { format!("{login}@") };
    let uri = format!("amqps://{at}localhost:{}/%2f?heartbeat=0{mechanism}", address.port());
    let config = OwnedTLSConfig {
        identity: identity.map(Identity::shown),
        cert_chain: Some(authority.certificate.pem()),
    };
    let runtime = lapin::runtime::default_runtime()?;
    let connection =
        lapin::Connection::connect_with_config(&uri, Default::default(), config, runtime).await?;
    let channel = connection.create_channel().await?;
    Ok(Link { connection, channel })
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_large_messages_go_through_tls() {
    let authority = authority();
    let (world, address) = broker(&authority, access()).await;
    let link = connect(address, &authority, "admin:admin-secret", None).await.expect("connects");
    link.confirm_mode().await;
    let q = link.queue(Default::default()).await;
    let big = "x".repeat(3 << 20);
    let mut consumer = link.consume(&q, true).await;
    for _ in 0..5 {
        link.send("", &q, &big).await;
        assert_eq!(next(&mut consumer).await.data.len(), big.len());
    }
    let wrong = connect(address, &authority, "admin:wrong", None).await;
    assert_eq!(code(wrong.map(|_| ())), 403);
    // The two ports do not speak each other's protocol.
    let mut plain = TcpStream::connect(address).await.expect("connects");
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"AMQP\0\0\x09\x01").await.expect("writes");
    let mut answer = Vec::new();
    let _end = plain.read_to_end(&mut answer).await.is_ok();
    assert!(!answer.starts_with(b"AMQP"), "{answer:?}");
    assert!(connect(world.address, &authority, "admin:admin-secret", None).await.is_err());
    eventually("both counted", || stats(&world).refused.tls == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_login() {
    let (authority, stranger) = (authority(), authority());
    let own = authority.sign("server", &[]);
    let second = authority.sign("server", &[]);
    let (world, address) =
        broker(&authority, with_certificates(vec![own.credential(), second.credential()])).await;
    let link = connect(address, &authority, "", Some(&own)).await.expect("its certificate is listed");
    let also = connect(address, &authority, "", Some(&second)).await.expect("and so is this one");
    link.confirm_mode().await;
    let named = lapin::BasicProperties::default().with_user_id("server".into());
    link.send_with("", "q", "m", false, named).await.expect("it is `server`");
    assert_eq!(code(link.declare("other", Default::default(), Default::default()).await), 403);
    // Of the right authority and name, and not listed; listed for another name; without a name; a password instead.
    let unlisted = authority.sign("server", &[]);
    let other = authority.sign("admin", &[]);
    for identity in [&unlisted, &other] {
        let refused = connect(address, &authority, "", Some(identity)).await;
        assert_eq!(code(refused.map(|_| ())), 403);
    }
    let both = connect(address, &authority, "admin:admin-secret", Some(&unlisted)).await;
    both.expect("a password still counts");
    // An authority of its own does not pass TLS, with the listed name or any other.
    let forged = stranger.sign("server", &[]);
    assert!(connect(address, &authority, "", Some(&forged)).await.is_err());
    eventually("counted", || stats(&world).refused.tls == 1).await;
    assert_eq!(stats(&world).refused.login, 2);
    let owners = world.handle.as_ref().expect("embedded").owners();
    assert_eq!((owners["server"].refused.login, owners["admin"].refused.login), (1, 1));
    // Taken away: the connection that it opened is closed, and the other's stays.
    world.handle.as_ref().expect("embedded").set_access(with_certificates(vec![second.credential()]));
    eventually("its connection is gone", || !link.connection.status().connected()).await;
    assert_eq!(code(connect(address, &authority, "", Some(&own)).await.map(|_| ())), 403);
    assert!(also.connection.status().connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn external_is_for_those_who_show_a_certificate() {
    let authority = authority();
    let (world, address) = broker(&authority, access()).await;
    let refused = connect(address, &authority, "", None).await;
    assert!(refused.is_err(), "no certificate, no EXTERNAL");
    let uri = format!("amqp://{}/%2f?auth_mechanism=external", world.address);
    assert!(lapin::Connection::connect(&uri, Default::default()).await.is_err(), "nor without TLS");
    assert_eq!(stats(&world).connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_without_a_word() {
    let (old, new) = (authority(), authority());
    let (world, address) = broker(&old, access()).await;
    let before = connect(address, &old, "admin:admin-secret", None).await.expect("connects");
    before.confirm_mode().await;
    world.handle.as_ref().expect("embedded").set_tls(new.server());
    assert!(connect(address, &old, "admin:admin-secret", None).await.is_err(), "the new one is shown");
    connect(address, &new, "admin:admin-secret", None).await.expect("and trusted by those who know it");
    before.send("amq.fanout", "", "still here").await;
}

/// Silent clients from one address, and from many: whoever speaks is served.
#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_keep_nobody_out() {
    let config = BrokerConfig { handshakes_max: 40, handshake_ms: 60_000, ..BrokerConfig::default() };
    let world = embedded_with(config).await;
    let mut silent = Vec::new();
    for n in 0..200u8 {
        // Sixteen addresses of the loopback network.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::new(127, 0, 1, n % 16), 0).into()).expect("an address of our own");
        silent.push(socket.connect(world.address).await.expect("connects"));
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    for _ in 0..20 {
        link(&world).await.connection.close(200, "".into()).await.expect("closes");
    }
    assert!(stats(&world).refused.crowded >= 161, "{:?}", stats(&world).refused);
    let mut speaks = Raw { stream: TcpStream::connect(world.address).await.expect("connects") };
    tokio::io::AsyncWriteExt::write_all(&mut speaks.stream, b"AMQP\0\0\x09\x01").await.expect("writes");
    speaks.expect([0, 10, 0, 10]).await;
}
