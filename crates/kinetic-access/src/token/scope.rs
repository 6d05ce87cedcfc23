//! Grants as RabbitMQ's OAuth2 plugin writes them: `<resource server>.<permission>:<vhost>/<name>[/<routing key>]`.

use std::fmt::Write as _;

use crate::login::Grant;
use crate::token::AUDIENCE;

/// What a grant in a vhost is called in a token. Names are percent-encoded but for letters, digits, `-`, `.`, `_`, `~`, so that a `*` in one
/// stands for itself; only the one that ends a grant stands for all that begin so.
///
/// A publish to a topic exchange needs a scope with a pattern for its routing key, also on 3.10; for any other exchange, and for a queue,
/// that third part changes nothing. So all have it.
#[must_use]
pub fn scopes(vhost: &str, grant: &Grant) -> Vec<String> {
    let rights = [("configure", &grant.configure), ("write", &grant.write), ("read", &grant.read)];
    let named = rights.into_iter().flat_map(|(right, names)| names.iter().map(move |name| (right, name)));
    named
        .map(|(right, name)| {
            let (name, all) = match name.strip_suffix('*') {
                Some(beginning) => (beginning, "*"),
                None => (name.as_str(), ""),
            };
            format!("{AUDIENCE}.{right}:{}/{}{all}/*", encoded(vhost), encoded(name))
        })
        .collect()
}

/// Percent-encoding (RFC 3986, section 2.1) of all but unreserved characters.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a String takes every text");
        }
        text
    })
}
