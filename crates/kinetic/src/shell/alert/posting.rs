//! Attempts at posts to webhooks, and what becomes of an attempt at anything in the log and the heartbeat.

use kinetic_alert::machine::{Attempt, Failed, MailId};
use kinetic_alert::webhook::Post;
use kinetic_schema::Schema;
use kinetic_wire::Wall;

use crate::adapter::webhook::{Posted, Poster};
use crate::telemetry::{Health, Telemetry};

/// One attempt at a post. Its webhook is the schema's at this moment: a new address or key counts at once.
pub(super) async fn attempt(poster: &Poster, schema: &Schema, id: &MailId, post: &Post) -> Attempt {
    let Some(webhook) = post.declared(schema) else {
        let detail = "the schema no longer names this webhook".to_owned();
        return Attempt::Refused { failed: Failed::Message, detail };
    };
    match poster.post(webhook, &id.0, post).await {
        Posted::Taken(detail) => Attempt::Accepted { detail },
        Posted::Perhaps(detail) => Attempt::MaybeAccepted { detail },
        Posted::Later { after: Some(after), detail } => Attempt::Busy { after, detail },
        Posted::Later { after: None, detail } => Attempt::Retry { failed: Failed::Relay, detail },
        Posted::Refused(detail) => Attempt::Refused { failed: Failed::Message, detail },
    }
}

/// Says how an attempt at a post ended. That a customer's receiver fails is no failure of this node.
pub(super) fn say_posted(id: &MailId, to: &str, attempt: &Attempt) {
    match attempt {
        Attempt::Accepted { detail } => tracing::info!(post = id.0, to, detail, "posted"),
        Attempt::MaybeAccepted { detail } => {
            tracing::warn!(post = id.0, to, detail, "perhaps posted; posting it again as it is");
        }
        Attempt::Retry { detail, .. } | Attempt::Busy { detail, .. } => {
            tracing::warn!(post = id.0, to, detail, "not posted yet; trying again");
        }
        Attempt::Refused { detail, .. } => tracing::error!(post = id.0, to, detail, "post refused"),
    }
}

/// Says how an attempt at a mail ended.
pub(super) fn say_mailed(telemetry: &Telemetry, now: Wall, id: &MailId, attempt: &Attempt) {
    let failing = |detail: &String| telemetry.health("mail", Health::Failing(detail.clone()), now);
    match attempt {
        Attempt::Accepted { detail } => {
            tracing::info!(mail = id.0, detail, "mail accepted");
            telemetry.health("mail", Health::Ok, now);
        }
        Attempt::MaybeAccepted { detail } => {
            tracing::warn!(mail = id.0, detail, "mail perhaps taken; sending it again as it is");
            failing(detail);
        }
        Attempt::Retry { detail, .. }
        | Attempt::Busy { detail, .. }
        | Attempt::Refused { failed: Failed::Relay, detail } => {
            tracing::warn!(mail = id.0, detail, "mail not taken yet; trying again");
            failing(detail);
        }
        Attempt::Refused { detail, .. } => tracing::error!(mail = id.0, detail, "mail refused"),
    }
}
