//! Does the steps of a plan, in their order. What is made goes in bulk.

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kinetic_access::{Action, Args, Binding, Destination, Step, User, Value};
use serde_json::{Map, json};

use super::read::ReadBinding;
use super::{Management, PARALLEL, word};

/// Objects of one import.
const BULK_MAX: usize = 200;

/// What hears how far it is: steps done, of how many, and what is done now.
pub(crate) type Progress<'p> = &'p (dyn Fn(usize, usize, &str) + Sync);

/// Steps that may be done together, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    Vhosts,
    Exchanges,
    Queues,
    Bindings,
    /// Logins and rights; an import does logins first.
    Logins,
    OneByOne(&'static str),
}

fn batch(action: &Action) -> Batch {
    match action {
        Action::CreateVhost { .. } => Batch::Vhosts,
        Action::CreateExchange { .. } => Batch::Exchanges,
        Action::CreateQueue { .. } => Batch::Queues,
        Action::CreateBinding { .. } => Batch::Bindings,
        Action::PutUser { .. } | Action::PutRights { .. } => Batch::Logins,
        Action::RemoveUser { .. } => Batch::OneByOne("logins"),
        Action::RemoveRights { .. } => Batch::OneByOne("rights"),
        Action::CloseConnections { .. } => Batch::OneByOne("connections"),
        Action::RemoveExchange { .. } => Batch::OneByOne("exchanges"),
        Action::RemoveQueue { .. } => Batch::OneByOne("queues"),
        Action::RemoveBinding { .. } => Batch::OneByOne("bindings"),
    }
}

impl Management {
    /// Does all steps. What was done when an error ends it stays done; the next plan finds the rest.
    pub(crate) async fn apply(&self, steps: &[Step], progress: Progress<'_>) -> Result<()> {
        let mut done = 0;
        while done < steps.len() {
            let kind = batch(&steps[done].action);
            let rest = &steps[done..];
            let count = rest.iter().take(BULK_MAX).take_while(|step| batch(&step.action) == kind).count();
            let group = &rest[..count];
            progress(done, steps.len(), &group[0].action.to_string());
            if let Batch::OneByOne(_) = kind {
                let each: Vec<_> = group.iter().map(|step| self.remove(&step.action)).collect();
                stream::iter(each).buffer_unordered(PARALLEL).try_collect::<()>().await?;
            } else {
                self.make(group).await?;
            }
            done += count;
        }
        progress(done, steps.len(), "");
        Ok(())
    }

    async fn make(&self, steps: &[Step]) -> Result<()> {
        let mut lists: Map<String, serde_json::Value> = Map::new();
        for step in steps {
            let (list, object) = definition(&step.action).context("only what is made can be imported")?;
            let list = lists.entry(list).or_insert_with(|| json!([]));
            list.as_array_mut().context("all are lists")?.push(object);
        }
        let body = serde_json::to_vec(&lists)?;
        self.import(Bytes::from(body)).await
    }

    async fn remove(&self, action: &Action) -> Result<()> {
        let path = match action {
            Action::RemoveUser { name } => format!("/api/users/{}", word(name)),
            Action::CloseConnections { user } => format!("/api/connections/username/{}", word(user)),
            Action::RemoveRights { vhost, user } => {
                format!("/api/permissions/{}/{}", word(vhost), word(user))
            }
            Action::RemoveExchange { vhost, name } => {
                format!("/api/exchanges/{}/{}", word(vhost), word(name))
            }
            Action::RemoveQueue { vhost, name, .. } => format!("/api/queues/{}/{}", word(vhost), word(name)),
            Action::RemoveBinding { vhost, binding } => {
                return self.unbind(vhost, binding).await;
            }
            other => anyhow::bail!("{other} is made, not removed"),
        };
        self.delete(&path).await
    }

    /// A binding is removed by a key that RabbitMQ makes of its routing key.
    async fn unbind(&self, vhost: &str, binding: &Binding) -> Result<()> {
        let kind = match &binding.to {
            Destination::Queue(_) => 'q',
            Destination::Exchange(_) => 'e',
        };
        let (source, to) = (word(&binding.source), word(binding.to.name()));
        let path = format!("/api/bindings/{}/e/{source}/{kind}/{to}", word(vhost));
        for found in self.list::<ReadBinding>(&path).await? {
            let key = found.properties_key.clone();
            if found.into_binding() == *binding {
                self.delete(&format!("{path}/{}", word(&key))).await?;
            }
        }
        Ok(())
    }
}

/// How an object stands in definitions, and in which list.
fn definition(action: &Action) -> Option<(&'static str, serde_json::Value)> {
    Some(match action {
        Action::CreateVhost { vhost } => ("vhosts", json!({"name": vhost})),
        Action::PutUser { name, user } => ("users", login(name, user)),
        Action::PutRights { vhost, user, rights } => (
            "permissions",
            json!({
                "user": user, "vhost": vhost,
                "configure": rights.configure, "write": rights.write, "read": rights.read,
            }),
        ),
        Action::CreateExchange { vhost, name, exchange } => (
            "exchanges",
            json!({
                "name": name, "vhost": vhost, "type": exchange.kind, "durable": exchange.durable,
                "auto_delete": false, "internal": false, "arguments": args(&exchange.args),
            }),
        ),
        Action::CreateQueue { vhost, name, queue } => (
            "queues",
            json!({
                "name": name, "vhost": vhost, "durable": queue.durable, "auto_delete": false,
                "arguments": args(&queue.args),
            }),
        ),
        Action::CreateBinding { vhost, binding } => {
            let kind = match &binding.to {
                Destination::Queue(_) => "queue",
                Destination::Exchange(_) => "exchange",
            };
            let object = json!({
                "source": binding.source, "vhost": vhost, "destination": binding.to.name(),
                "destination_type": kind, "routing_key": binding.key, "arguments": {},
            });
            ("bindings", object)
        }
        _ => return None,
    })
}

fn login(name: &str, user: &User) -> serde_json::Value {
    let mut limits = Map::new();
    for (limit, value) in [("max-connections", user.connections_max), ("max-channels", user.channels_max)] {
        if let Some(value) = value {
            limits.insert(limit.to_owned(), json!(value));
        }
    }
    json!({
        "name": name,
        "password_hash": user.password_hash,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": user.tags,
        "limits": limits,
    })
}

fn args(args: &Args) -> serde_json::Value {
    let value = |value: &Value| match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
        Value::Flag(flag) => json!(flag),
        Value::Other => serde_json::Value::Null,
    };
    args.iter().map(|(name, one)| (name.clone(), value(one))).collect::<Map<_, _>>().into()
}
