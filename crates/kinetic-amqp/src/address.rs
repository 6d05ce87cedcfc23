//! Where a broker is and who we are there.

use std::fmt;
use std::path::PathBuf;

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::AmqpError;

/// A password or key. Its `Debug` is blank, so that no log line can carry it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret over.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
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

/// A broker (or several of one cluster), the vhost and the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `amqp://host:port` or `amqps://host:port`, tried in this order. Login, vhost and query in them are ignored.
    pub uris: Vec<String>,
    /// The vhost, as it is named on the broker (not percent-encoded).
    pub vhost: String,
    /// The login.
    pub login: String,
    /// Its password.
    pub password: Secret,
    /// `connection_name`, which the broker shows to its operators.
    pub name: String,
    /// PEM file of certificate authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
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
            vhost: uri.vhost,
            login: uri.authority.userinfo.username,
            password: Secret::new(uri.authority.userinfo.password),
            name: "kinetic".to_owned(),
            ca_file: None,
        })
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
                uri.authority.userinfo.password.clone_from(&self.password.0);
                Ok(uri)
            })
            .collect()
    }
}

/// `host:port` of a URI, for people.
pub(crate) fn place(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
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
    fn an_ipv6_host_survives() {
        let address = Address::from_url("amqp://u:p@[::1]:5672/v").unwrap();
        assert_eq!(address.uris, ["amqp://[::1]:5672"]);
        let authority = &address.parsed().unwrap()[0].authority;
        assert_eq!((authority.host.as_str(), authority.port), ("::1", 5672));
    }
}
