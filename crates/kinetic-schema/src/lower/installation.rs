//! `region`, and the texts that blocks of the installation share.

use crate::block::Named;
use crate::diagnostic::{Problem, Sink};
use crate::limits::{REGION_NAME_BYTES_MAX, ZONES_MAX};
use crate::notation::{NameRule, name_problem};
use crate::schema::{AddressOrder, QueueType, Region};
use crate::value::{self, Value};
use crate::{mailbox, network};

pub(super) fn region(sink: &mut Sink<'_>, named: Named<'_>) -> Region {
    let mut amqp = Vec::new();
    if let Some(list) = named.node.get("amqp") {
        for url in value::list(sink, list, 16) {
            let Some(written) = value::text(sink, url, "an address such as \"amqps://broker.example:5671\"")
            else {
                continue;
            };
            match network::amqp_url(written) {
                Ok(secure) => {
                    if !secure {
                        let message = "metrics and logins go to this broker as plain text";
                        let problem =
                            Problem::warning("plain-text", &url.at(), message).label("amqp, not amqps");
                        sink.push(
                            problem.help("write amqps:// and the broker's port for TLS, commonly 5671"),
                        );
                    }
                    amqp.push(written.to_owned());
                }
                Err(problem) => {
                    sink.push(url.problem("bad-address", problem).label("not a broker's address"))
                }
            }
        }
    }
    let orders = [("listed", AddressOrder::Listed), ("by_origin", AddressOrder::ByOrigin)];
    let order = named.node.get("order").and_then(|value| value::choice(sink, value, &orders));
    let vhost = named.node.get("vhost").and_then(|vhost| vhost_name(sink, vhost));
    let kinds = [("classic", QueueType::Classic), ("quorum", QueueType::Quorum)];
    let queues = named.node.get("queues").and_then(|value| value::choice(sink, value, &kinds));
    Region {
        name: named.name.into(),
        amqp,
        order: order.unwrap_or_default(),
        vhost: vhost.unwrap_or_else(|| named.name.to_owned()),
        queues: queues.unwrap_or_default(),
        management: named.node.get("management").and_then(|value| management(sink, value)),
        tokens: named.node.get("tokens").and_then(|value| value::boolean(sink, value)).unwrap_or_default(),
        zones: named.node.get("zones").map(|zones| zone_names(sink, zones)).unwrap_or_default(),
    }
}

/// `management`: where RabbitMQ's HTTP API is.
fn management(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = value::text(sink, value, "an address such as \"https://broker.example:15671\"")?;
    let problem = match network::web_address(written) {
        Err(problem) => problem,
        Ok(found) if found.path || found.query => {
            "nothing follows the port: the API's own path is known".to_owned()
        }
        Ok(found) => {
            if !found.secure && !found.loopback {
                let message = "logins are sent to this address as plain text";
                let problem = Problem::warning("plain-text", &value.at(), message).label("http, not https");
                sink.push(problem.help("write https://, and RabbitMQ's port for it, commonly 15671"));
            }
            return Some(written.trim_end_matches('/').to_owned());
        }
    };
    sink.push(value.problem("bad-address", problem).label("not a management API"));
    None
}

/// `zones`: names as an analyzer's `--zone` says them.
fn zone_names(sink: &mut Sink<'_>, zones: Value<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for value in value::list(sink, zones, ZONES_MAX) {
        let Some(written) = value::text(sink, value, "a zone's name as a string") else { continue };
        if let Some(problem) = name_problem(NameRule::Region, written) {
            sink.push(value.problem("bad-name", problem).label("not a zone's name"));
        } else if names.iter().any(|other| other == written) {
            let message = format!("`{written}` stands here twice");
            sink.push(value.problem("duplicate-entry", message).label("again"));
        } else {
            names.push(written.to_owned());
        }
    }
    names
}

fn vhost_name(sink: &mut Sink<'_>, vhost: Value<'_>) -> Option<String> {
    let written = value::text(sink, vhost, "a string")?;
    if written.is_empty() || written.len() > REGION_NAME_BYTES_MAX || written.chars().any(char::is_control) {
        let message =
            format!("a vhost's name has 1 to {REGION_NAME_BYTES_MAX} bytes and no control characters");
        sink.push(vhost.problem("bad-name", message));
        return None;
    }
    Some(written.to_owned())
}

/// A string of one line, not empty.
pub(super) fn line(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = value::text(sink, value, "a string")?;
    if written.is_empty() || written.len() > 1_024 || written.chars().any(char::is_control) {
        sink.push(value.problem("bad-text", format!("`{}` must be one line of text", value.attribute)));
        return None;
    }
    Some(written.to_owned())
}

/// An RFC 5322 mailbox.
pub(super) fn address(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = value::text(sink, value, "an e-mail address as a string")?;
    match mailbox::problem(written) {
        None => Some(written.trim().to_owned()),
        Some(problem) => {
            let problem = value.problem("bad-address", format!("this is not an e-mail address: {problem}"));
            sink.push(problem.label("not an address"));
            None
        }
    }
}
