//! Broker addresses and relays.

use std::net::IpAddr;

use crate::limits::URL_BYTES_MAX;

/// `host:port`, also `[::1]:587`; the error says what is wrong with it.
pub(crate) fn host_port(written: &str) -> Result<(String, u16), String> {
    let Some((host, port)) = written.rsplit_once(':') else {
        return Err("a relay is written as host:port".to_owned());
    };
    let port: u16 = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("`{port}` is not a port from 1 to 65535"))?;
    host_problem(host).map_or_else(|| Ok((host.trim_matches(['[', ']']).to_owned(), port)), Err)
}

fn host_problem(host: &str) -> Option<String> {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return inner
            .parse::<std::net::Ipv6Addr>()
            .err()
            .map(|_| format!("`{inner}` is not an IPv6 address"));
    }
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let name = host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label);
    (!name).then(|| format!("`{host}` is not a host name or address (IPv6 stands in square brackets)"))
}

/// `amqps://host:port`: whether what goes there is protected, by TLS or because it stays on the machine; the error says what is
/// wrong with it.
pub(crate) fn amqp_url(written: &str) -> Result<bool, String> {
    let Some(rest) = written.strip_prefix("amqp://").or_else(|| written.strip_prefix("amqps://")) else {
        return Err("a broker is written as amqp://host:port or amqps://host:port".to_owned());
    };
    if rest.contains('@') {
        return Err("logins do not belong in the repository; nodes read theirs from a file".to_owned());
    }
    if rest.contains(['/', '?', '#']) {
        return Err("nothing follows the port: the vhost is the region's name, or its `vhost`".to_owned());
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let host = if has_port {
        host_port(rest)?.0
    } else if let Some(problem) = host_problem(rest) {
        return Err(problem);
    } else {
        rest.trim_matches(['[', ']']).to_owned()
    };
    Ok(written.starts_with("amqps://") || is_loopback(&host))
}

/// What matters of a web address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WebAddress {
    /// `https`, not `http`.
    pub(crate) secure: bool,
    /// Its host is the machine itself.
    pub(crate) loopback: bool,
    /// More than `/` follows the port.
    pub(crate) path: bool,
    /// It has a `?`.
    pub(crate) query: bool,
}

/// `https://host[:port][/path][?query]`; the error says what is wrong with it.
pub(crate) fn web_address(written: &str) -> Result<WebAddress, String> {
    if written.len() > URL_BYTES_MAX {
        return Err(format!("an address has at most {URL_BYTES_MAX} bytes; this one has {}", written.len()));
    }
    let (secure, rest) = match (written.strip_prefix("https://"), written.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err("an address on the web starts with https:// or http://".to_owned()),
    };
    if !written.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("an address holds no blanks, and other characters than ASCII as %XX".to_owned());
    }
    if rest.contains('#') {
        return Err("what follows a `#` is never sent".to_owned());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    if authority.contains('@') {
        return Err("logins do not belong in the repository".to_owned());
    }
    let has_port =
        authority.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let host = if has_port {
        host_port(authority)?.0
    } else if let Some(problem) = host_problem(authority) {
        return Err(problem);
    } else {
        authority.trim_matches(['[', ']']).to_owned()
    };
    let path = !after.is_empty() && after != "/";
    Ok(WebAddress { secure, loopback: is_loopback(&host), path, query: after.contains('?') })
}

/// Whether a host is the machine itself (RFC 6761 keeps `localhost` and all below it for that).
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(host_port("smtp.example:587"), Ok(("smtp.example".to_owned(), 587)));
        assert_eq!(host_port("[::1]:25"), Ok(("::1".to_owned(), 25)));
        for wrong in ["smtp.example", "smtp.example:0", "smtp.example:x", ":25", "a b:25", "::1:25"] {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
        for right in ["amqp://localhost", "amqps://broker.example:5671", "amqp://[::1]:5672", "amqp://[::1]"]
        {
            assert_eq!(amqp_url(right), Ok(true), "{right}");
        }
        for plain in ["amqp://broker.example:5672", "amqp://10.0.0.1", "amqp://localhost.example"] {
            assert_eq!(amqp_url(plain), Ok(false), "{plain}");
        }
        for wrong in ["http://x", "amqp://u:p@x", "amqp://x/vhost", "amqp://", "amqp://x:0"] {
            assert!(amqp_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn web_addresses() {
        let address = |written| web_address(written).map(|found| (found.secure, found.loopback));
        assert_eq!(address("https://hooks.example/services/T0?x=1"), Ok((true, false)));
        for local in
            ["http://localhost", "http://127.9.0.1:80/x", "http://[::1]:8080", "http://a.LOCALHOST./"]
        {
            assert_eq!(address(local), Ok((false, true)), "{local}");
        }
        assert_eq!(address("http://127.0.0.1.example/"), Ok((false, false)));
        assert_eq!(address("http://localhost.example"), Ok((false, false)));
        for wrong in [
            "",
            "hooks.example",
            "ftp://x",
            "https://",
            "https:///x",
            "https://u:p@x",
            "https://x y",
            "https://x/#a",
            "https://x:0",
            "https://x:y",
            "https://x/é",
            "https://[x]/",
            "HTTPS://x",
            "https://x\n",
        ] {
            assert!(web_address(wrong).is_err(), "{wrong}");
        }
        assert!(web_address(&format!("https://x/{}", "a".repeat(URL_BYTES_MAX))).is_err());
    }
}
