//! `webhook` and `escalate`: whom else an alert block tells.

use std::path::PathBuf;

use super::alert::{duration, recipients};
use super::installation::line;
use crate::block::{Named, Node};
use crate::diagnostic::Sink;
use crate::limits::{ESCALATE_AFTER, ESCALATIONS_MAX, WEBHOOKS_MAX};
use crate::network;
use crate::schema::{Escalation, Webhook, WebhookFormat};
use crate::value::{self, Value};

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
        Ok(_) => Some(written.to_owned()),
        Err(problem) => {
            sink.push(value.problem("bad-address", problem).label("not an address on the web"));
            None
        }
    }
}

/// The steps of escalation of an alert, soonest first.
pub(super) fn escalations(sink: &mut Sink<'_>, alert: Node<'_>) -> Vec<Escalation> {
    let mut steps: Vec<Escalation> = Vec::new();
    for Named { node, .. } in alert.inner(sink, "escalate", ESCALATIONS_MAX) {
        node.required(sink, "after", "\"30m\"");
        let after = duration(sink, node, "after", ESCALATE_AFTER);
        let to = recipients(sink, node);
        if let Some(after) = after {
            steps.push(Escalation { after, to });
        }
    }
    steps.sort_by_key(|step| step.after);
    steps
}
