//! `mail`, with its `fallback` and `dkim` blocks.

use std::path::PathBuf;

use super::installation::{address, line};
use crate::block::Node;
use crate::diagnostic::{Problem, Sink};
use crate::limits::{BOUNCES_LOCAL_BYTES_MAX, FALLBACKS_MAX};
use crate::schema::{Dkim, Mail, MailTls, Relay};
use crate::value::{self, Value};
use crate::{mailbox, network};

pub(super) fn mail(sink: &mut Sink<'_>, node: Node<'_>) -> Option<Mail> {
    let first = relay(sink, node, None);
    let from = node.required(sink, "from", "\"alerts@example.org\"");
    let from_address = from.and_then(|from| address(sink, from));
    let mut relays: Vec<Option<Relay>> = vec![first];
    for named in node.inner(sink, "fallback", FALLBACKS_MAX) {
        relays.push(relay(sink, named.node, Some(named.name)));
    }
    let dkim = node.only(sink, "dkim").and_then(|node| dkim(sink, node, from_address.as_deref()));
    let bounces = node.get("bounces").and_then(|value| bounces(sink, value));
    let public_url = node.get("public_url").and_then(|value| public_url(sink, value));
    let relays: Option<Vec<Relay>> = relays.into_iter().collect();
    Some(Mail { relays: relays?, from: from_address?, dkim, bounces, public_url })
}

/// The relay of a `mail` or `fallback` block.
fn relay(sink: &mut Sink<'_>, node: Node<'_>, name: Option<&str>) -> Option<Relay> {
    let relay = node.required(sink, "relay", "\"smtp.example:587\"").and_then(|relay| {
        let written = value::text(sink, relay, "host:port as a string")?;
        match network::host_port(written) {
            Ok(relay) => Some(relay),
            Err(problem) => {
                let problem = relay.problem("bad-address", problem).label("not host:port");
                sink.push(problem.help("write for example \"smtp.example:587\""));
                None
            }
        }
    });
    let port = relay.as_ref().map_or(587, |(_, port)| *port);
    let default_tls = if port == 465 { MailTls::Implicit } else { MailTls::StartTls };
    let choices = [("starttls", MailTls::StartTls), ("implicit", MailTls::Implicit), ("none", MailTls::None)];
    let tls = node.get("tls").and_then(|tls| value::choice(sink, tls, &choices)).unwrap_or(default_tls);
    let mut login = |name: &'static str| node.get(name).and_then(|value| line(sink, value));
    let (username, password_file) = (login("username"), login("password_file").map(PathBuf::from));
    for (given, missing, example) in [
        (node.get("username"), "password_file", "\"/etc/kinetic/smtp-password\""),
        (node.get("password_file"), "username", "\"kinetic\""),
    ] {
        if given.is_some() {
            node.required(sink, missing, example);
        }
    }
    let (host, port) = relay?;
    if let Some(value) =
        node.get("password_file").filter(|_| tls == MailTls::None && !network::is_loopback(&host))
    {
        let message = "the password goes over the network as plain text";
        let problem = Problem::warning("plain-text", &value.at(), message).label("with tls = \"none\"");
        sink.push(problem.help("leave out `tls`, or the login"));
    }
    let name = name.map_or_else(|| format!("{host}:{port}"), str::to_owned);
    Some(Relay { name, host, port, tls, username, password_file })
}

fn dkim(sink: &mut Sink<'_>, node: Node<'_>, from: Option<&str>) -> Option<Dkim> {
    let mut host = |name, example| {
        let value = node.required(sink, name, example)?;
        let written = value::text(sink, value, "a host name as a string")?;
        if let Some(problem) = mailbox::domain_problem(written) {
            sink.push(value.problem("bad-address", problem).label("not a host name"));
            return None;
        }
        Some((value, written.to_ascii_lowercase()))
    };
    let domain = host("domain", "\"example.org\"");
    let selector = host("selector", "\"kinetic\"").map(|(_, selector)| selector);
    let key_file = node
        .required(sink, "key_file", "\"/etc/kinetic/dkim.pem\"")
        .and_then(|value| line(sink, value))
        .map(PathBuf::from);
    let (value, domain) = domain?;
    if let Some(sender) = from.map(mailbox::domain)
        && !aligned(&domain, &sender)
    {
        let message = format!("mail from `{sender}` signed by `{domain}` is not aligned");
        let problem =
            Problem::warning("dkim-alignment", &value.at(), message).label("not the sender's domain");
        sink.push(problem.help(format!(
            "receivers that follow DMARC take such a signature for none; write \"{sender}\", or a domain above it"
        )));
    }
    Some(Dkim { domain, selector: selector?, key_file: key_file? })
}

/// Whether one domain is the other, or stands below it (RFC 7489's relaxed alignment, as far as it shows without a list
/// of public suffixes).
fn aligned(one: &str, other: &str) -> bool {
    let below = |inner: &str, outer: &str| inner.strip_suffix(outer).is_some_and(|rest| rest.ends_with('.'));
    one == other || below(one, other) || below(other, one)
}

fn bounces(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = address(sink, value)?;
    let local = written.rsplit_once('@').map_or(written.as_str(), |(local, _)| local);
    let (message, help) = if written.contains(['<', '>']) {
        (
            "`bounces` is an address without a name",
            "write user@host alone: nobody reads a name there".to_owned(),
        )
    } else if local.len() > BOUNCES_LOCAL_BYTES_MAX {
        (
            "too much stands before the `@` of `bounces`",
            format!(
                "at most {BOUNCES_LOCAL_BYTES_MAX} bytes, since `+` and a token are put behind them and 64 are possible"
            ),
        )
    } else if local.contains('+') {
        ("`bounces` already holds a `+`", "`+` and a token are put before its `@`".to_owned())
    } else {
        return Some(written);
    };
    sink.push(value.problem("bad-address", message).label("cannot be made a sender of each mail").help(help));
    None
}

fn public_url(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = value::text(sink, value, "an address such as \"https://alerts.example.org\"")?;
    let problem = match network::web_address(written) {
        Err(problem) => problem,
        Ok(found) if found.query => "a path may follow the host, and no `?`".to_owned(),
        Ok(found) if !found.secure && !found.loopback => {
            "links that act on alerts go over https://; plain http:// is for this machine alone".to_owned()
        }
        Ok(_) => return Some(written.trim_end_matches('/').to_owned()),
    };
    sink.push(value.problem("bad-address", problem).label("cannot stand in a mail"));
    None
}
