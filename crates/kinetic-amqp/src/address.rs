//! Where a broker is and who we are there.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use zeroize::Zeroizing;

use crate::{AmqpError, Identity, Token};

/// A password or key. Its `Debug` is blank, so that no log line can carry it, and its memory is overwritten when it goes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the secret over.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self::new(secret)
    }
}

/// Where AMQP without TLS may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// To this machine's own loopback addresses.
    #[default]
    Loopback,
    /// Anywhere: password and data can be read on the way.
    Anywhere,
}

/// A broker (or several of one cluster), the vhost and the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `amqp://host:port` or `amqps://host:port`, tried in this order. Login, vhost and query in them are ignored.
    pub uris: Vec<String>,
    /// By which URIs others reach the same broker, where they cannot go by `uris`: those of a process beside its own broker.
    pub also: Vec<String>,
    /// The vhost, as it is named on the broker (not percent-encoded).
    pub vhost: String,
    /// The login. With an identity and no password, each connection's login is its certificate's common name.
    pub login: String,
    /// Its password; empty where the certificate says who we are (SASL EXTERNAL).
    pub password: Secret,
    /// `connection_name`, which the broker shows to its operators.
    pub name: String,
    /// PEM file of the certificate authorities that are trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown to the broker.
    pub identity: Option<Identity>,
    /// Where it may go without TLS.
    pub plain: Plain,
}

impl Address {
    /// Reads `amqp[s]://login:password@host:port/vhost`, percent-encoded. Login and password default to `guest`, the
    /// port to 5672 (5671 with TLS), an absent vhost to `/`.
    ///
    /// # Errors
    /// [`AmqpError::Address`] where it cannot be read. The text never repeats the URL, since a password may be in it.
    pub fn from_url(url: &str) -> Result<Self, AmqpError> {
        let uri = parse(url)?;
        let host = match uri.authority.host.as_str() {
            ipv6 if ipv6.contains(':') => format!("[{ipv6}]"),
            host => host.to_owned(),
        };
        Ok(Self {
            uris: vec![format!("{}://{host}:{}", uri.scheme, uri.authority.port)],
            also: Vec::new(),
            vhost: uri.vhost,
            login: uri.authority.userinfo.username,
            password: Secret::new(uri.authority.userinfo.password),
            name: "kinetic".to_owned(),
            ca_file: None,
            identity: None,
            plain: Plain::Loopback,
        })
    }

    /// By which URIs others are told to come.
    #[must_use]
    pub fn told(&self) -> &[String] {
        if self.also.is_empty() { &self.uris } else { &self.also }
    }

    /// Whether a URL is one of those by which others reach this broker.
    #[must_use]
    pub fn is_also(&self, url: &str) -> bool {
        !self.also.is_empty() && Self::from_url(url).is_ok_and(|one| self.also.contains(&one.uris[0]))
    }

    /// Whether a URL names a login, and whether it has a password in it.
    #[must_use]
    pub fn names_login_and_password(url: &str) -> (bool, bool) {
        let (login, password, _) = says(url);
        (login, password)
    }

    /// Looks for plain AMQP to another machine by what the URIs say, before anything is looked up or dialed. Every connection
    /// looks again at the very address that it dials.
    ///
    /// # Errors
    /// [`AmqpError::Plain`] names the first such broker; [`AmqpError::Address`] where a URI cannot be read.
    pub fn check_plain(&self) -> Result<(), AmqpError> {
        let parsed = self.parsed()?;
        match parsed.iter().find(|uri| self.is_forbidden(uri) && !is_loopback_name(&uri.authority.host)) {
            Some(uri) => Err(AmqpError::Plain { place: place(uri) }),
            None => Ok(()),
        }
    }

    /// Whether the URI may go to loopback only.
    pub(crate) fn is_forbidden(&self, uri: &AMQPUri) -> bool {
        self.plain == Plain::Loopback && !wants_tls(uri)
    }

    /// Whether the certificate says who we are.
    pub(crate) fn is_external(&self) -> bool {
        self.identity.is_some() && self.password.is_empty()
    }

    /// Reads the nodes of one cluster, to be tried in this order. The first says who we are and which vhost is meant; the
    /// others say the same as [`from_url`](Self::from_url) wants it, or leave it out.
    ///
    /// # Errors
    /// [`AmqpError::Address`] where one cannot be read, where none is given, and where they do not agree.
    pub fn from_urls<T: AsRef<str>>(urls: impl IntoIterator<Item = T>) -> Result<Self, AmqpError> {
        let mut urls = urls.into_iter();
        let refused = |problem: &str| AmqpError::Address { problem: problem.to_owned() };
        let first = urls.next().ok_or_else(|| refused("no broker address is given"))?;
        let mut address = Self::from_url(first.as_ref())?;
        for url in urls {
            let other = Self::from_url(url.as_ref())?;
            let (says_login, says_password, says_vhost) = says(url.as_ref());
            let agrees = (!says_login || other.login == address.login)
                && (!says_password || other.password == address.password)
                && (!says_vhost || other.vhost == address.vhost);
            if !agrees {
                return Err(refused(
                    "the addresses of one broker name different logins, passwords or vhosts",
                ));
            }
            address.uris.extend(other.uris);
        }
        Ok(address)
    }

    /// The same address with another `connection_name`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same with the login of a token.
    pub(crate) fn with(&self, token: &Token) -> Self {
        Self { login: token.login.clone(), password: token.secret.clone(), ..self.clone() }
    }

    /// The URIs with vhost and login filled in, for lapin.
    pub(crate) fn parsed(&self) -> Result<Vec<AMQPUri>, AmqpError> {
        if self.uris.is_empty() {
            return Err(AmqpError::Address { problem: "no broker address is given".to_owned() });
        }
        self.uris
            .iter()
            .map(|text| {
                let mut uri = parse(text)?;
                uri.vhost.clone_from(&self.vhost);
                uri.authority.userinfo.username.clone_from(&self.login);
                self.password.expose().clone_into(&mut uri.authority.userinfo.password);
                uri.query.auth_mechanism = self.is_external().then_some(SASLMechanism::External);
                Ok(uri)
            })
            .collect()
    }
}

/// `host:port` of a URI, for people.
pub(crate) fn place(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

/// Whether an address is this machine's own loopback, IPv4 in IPv6 clothes included.
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether a host can be no other than this one by its name: an address, or what RFC 6761 keeps for it.
fn is_loopback_name(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => is_loopback(ip),
        Err(_) => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// Whether the URI asks for TLS.
pub(crate) fn wants_tls(uri: &AMQPUri) -> bool {
    uri.scheme == AMQPScheme::AMQPS
}

fn parse(text: &str) -> Result<AMQPUri, AmqpError> {
    let mut uri: AMQPUri = text.parse().map_err(|problem: String| AmqpError::Address {
        problem: format!(
            "a broker address cannot be read ({problem}): write amqp://host:port or amqps://host:port"
        ),
    })?;
    if let Some(host) = ipv6_host(text) {
        host.clone_into(&mut uri.authority.host);
    }
    Ok(uri)
}

/// Whether a URL that can be read names a login, a password, a vhost.
fn says(url: &str) -> (bool, bool, bool) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or(rest);
    let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
    let login = authority.rsplit_once('@').map(|(login, _)| login);
    (login.is_some(), login.is_some_and(|login| login.contains(':')), !vhost.is_empty())
}

/// The IPv6 address in brackets, for which lapin's parser would silently put `localhost`.
fn ipv6_host(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?.strip_prefix('[')?;
    host.split(']').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let address = Address::from_url("amqps://a%40b:p%2Fw@broker.example:5671/us-west.aws").unwrap();
        assert_eq!(address.uris, ["amqps://broker.example:5671"]);
        assert_eq!(
            (address.login.as_str(), address.password.expose(), address.vhost.as_str()),
            ("a@b", "p/w", "us-west.aws")
        );
    }

    #[test]
    fn the_nodes_of_a_cluster_agree() {
        let check = |urls: &[&str]| Address::from_urls(urls.iter().copied()).map(|address| address.uris);
        let address =
            Address::from_urls(["amqps://me:pw@a/prod", "amqps://b", "amqp://me@[::1]:7/prod"]).unwrap();
        assert_eq!(address.uris, ["amqps://a:5671", "amqps://b:5671", "amqp://[::1]:7"]);
        assert_eq!(
            (address.login.as_str(), address.password.expose(), address.vhost.as_str()),
            ("me", "pw", "prod")
        );
        check(&["amqp://me:pw@a/prod", "amqp://me:pw@b/prod?heartbeat=5"]).unwrap();
        for other in ["amqp://you@b", "amqp://me:other@b", "amqp://b/test", "amqp://guest@b", "http://b"] {
            let error = check(&["amqp://me:pw@a/prod", other]).unwrap_err().to_string();
            assert!(!error.contains("pw") && !error.contains("other@"), "{error}");
        }
        check(&[]).unwrap_err();
    }

    #[test]
    fn defaults_are_the_field_s() {
        let address = Address::from_url("amqp://127.0.0.1").unwrap();
        assert_eq!(address.uris, ["amqp://127.0.0.1:5672"]);
        assert_eq!((address.vhost.as_str(), address.login.as_str()), ("/", "guest"));
    }

    #[test]
    fn secrets_stay_out_of_debug_and_errors() {
        let address = Address::from_url("amqp://u:hunter2@h/v").unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
        let error = Address::from_url("http://u:hunter2@h/v").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn plain_amqp_stays_on_this_machine() {
        let check = |url: &str| Address::from_url(url).unwrap().check_plain().is_ok();
        for here in ["127.0.0.1", "127.9.9.9:1", "localhost", "LocalHost.", "[::1]", "[::ffff:127.0.0.1]:7"] {
            assert!(check(&format!("amqp://{here}")), "{here}");
        }
        for elsewhere in
            ["10.0.0.1", "0.0.0.0", "rabbit", "127.0.0.1.example", "localhost.example", "[::ffff:1.2.3.4]"]
        {
            assert!(!check(&format!("amqp://u:p@{elsewhere}/v")), "{elsewhere}");
            assert!(check(&format!("amqps://{elsewhere}")), "{elsewhere}");
            let mut address =
                Address::from_urls(["amqp://localhost", &format!("amqp://{elsewhere}")]).unwrap();
            let error = address.check_plain().unwrap_err();
            assert!(error.to_string().contains(elsewhere.trim_matches(['[', ']'])), "{error}");
            address.plain = Plain::Anywhere;
            address.check_plain().unwrap();
        }
    }

    #[test]
    fn a_certificate_speaks_where_no_password_does() {
        let mut address = Address::from_url("amqps://h").unwrap();
        let mechanism = |address: &Address| address.parsed().unwrap()[0].query.auth_mechanism;
        let identity = Identity { cert_file: "c.pem".into(), key_file: "k.pem".into() };
        assert_eq!(mechanism(&address), None);
        address.identity = Some(identity);
        assert_eq!(mechanism(&address), None, "a password is given");
        address.password = Secret::default();
        assert_eq!(mechanism(&address), Some(SASLMechanism::External));
    }

    #[test]
    fn an_ipv6_host_survives() {
        let address = Address::from_url("amqp://u:p@[::1]:5672/v").unwrap();
        assert_eq!(address.uris, ["amqp://[::1]:5672"]);
        let authority = &address.parsed().unwrap()[0].authority;
        assert_eq!((authority.host.as_str(), authority.port), ("::1", 5672));
    }
}
