//! `webhook` and `escalate`: whom else an alert block tells.

use std::path::PathBuf;

use super::alert::{duration, recipients};
use super::installation::line;
use crate::block::{Named, Node};
use crate::diagnostic::{Problem, Sink};
use crate::limits::{ESCALATE_AFTER, ESCALATIONS_MAX, WEBHOOKS_MAX};
use crate::schema::{Escalation, Webhook, WebhookFormat};
use crate::value::{self, Value};
use crate::{mailbox, network};

/// The webhooks of an alert, in the order written.
pub(super) fn webhooks(sink: &mut Sink<'_>, alert: Node<'_>) -> Vec<Webhook> {
    let blocks = alert.inner(sink, "webhook", WEBHOOKS_MAX);
    blocks.into_iter().filter_map(|named| webhook(sink, named)).collect()
}

fn webhook(sink: &mut Sink<'_>, Named { name, node }: Named<'_>) -> Option<Webhook> {
    let url =
        node.required(sink, "url", "\"https://hooks.example/kinetic\"").and_then(|value| url(sink, value));
    let secret_file = node.get("secret_file").and_then(|value| line(sink, value)).map(PathBuf::from);
    let formats = [("alertmanager", WebhookFormat::Alertmanager), ("kinetic", WebhookFormat::Kinetic)];
    let format = node.get("format").and_then(|value| value::choice(sink, value, &formats));
    Some(Webhook { name: name.to_owned(), url: url?, secret_file, format: format.unwrap_or_default() })
}

fn url(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = value::text(sink, value, "an address such as \"https://hooks.example/kinetic\"")?;
    match network::web_address(written) {
        Ok(found) => {
            if !found.secure && !found.loopback {
                let message = "what is told here goes over the network as plain text";
                let problem = Problem::warning("plain-text", &value.at(), message).label("http, not https");
                sink.push(problem.help("write https://, or put a proxy that does TLS on this machine"));
            }
            Some(written.to_owned())
        }
        Err(problem) => {
            sink.push(value.problem("bad-address", problem).label("not an address on the web"));
            None
        }
    }
}

/// The steps of escalation of an alert, soonest first; `to` is told before them.
pub(super) fn escalations(sink: &mut Sink<'_>, alert: Node<'_>, to: &[String]) -> Vec<Escalation> {
    let mut steps: Vec<(Escalation, Node<'_>)> = Vec::new();
    for Named { node, .. } in alert.inner(sink, "escalate", ESCALATIONS_MAX) {
        node.required(sink, "after", "\"30m\"");
        let after = duration(sink, node, "after", ESCALATE_AFTER);
        let to = recipients(sink, node);
        if let Some(after) = after {
            steps.push((Escalation { after, to }, node));
        }
    }
    steps.sort_by_key(|(step, _)| step.after);
    let mut told: Vec<String> = to.iter().map(|to| mailbox::address(to)).collect();
    for (step, node) in &steps {
        let here: Vec<String> = step.to.iter().map(|to| mailbox::address(to)).collect();
        if let Some(again) = here.iter().find(|address| told.contains(address))
            && let Some(value) = node.get("to")
        {
            let message = format!("`{again}` has been told when this is due, and is told nothing new by it");
            let problem = Problem::warning("idle-escalation", &value.at(), message).label("told already");
            sink.push(problem.help("name somebody else; who was told is reminded by `repeat_interval`"));
        }
        told.extend(here);
    }
    steps.into_iter().map(|(step, _)| step).collect()
}
