//! What is on a broker.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use futures_util::future::{try_join, try_join_all, try_join3};
use kinetic_access::{
    Action, Args, Binding, Destination, Exchange, Objects, Plan, Queue, Rights, User, Value, Vhost, Wanted,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Management, word};

/// Queues that are to be removed and whose messages are counted.
const COUNTED_MAX: usize = 500;

#[derive(Deserialize)]
struct ReadVhost {
    name: String,
}

#[derive(Deserialize)]
struct ReadUser {
    name: String,
    #[serde(default)]
    password_hash: String,
    tags: ReadTags,
    limits: Option<serde_json::Value>,
}

/// Tags were one text before 3.9.
#[derive(Deserialize)]
#[serde(untagged)]
enum ReadTags {
    List(BTreeSet<String>),
    Text(String),
}

#[derive(Deserialize)]
struct ReadRights {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Deserialize)]
struct ReadExchange {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    durable: bool,
    #[serde(default)]
    arguments: serde_json::Value,
}

#[derive(Deserialize)]
struct ReadQueue {
    name: String,
    durable: bool,
    #[serde(default)]
    arguments: serde_json::Value,
}

#[derive(Deserialize)]
pub(super) struct ReadBinding {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) destination_type: String,
    pub(super) routing_key: String,
    #[serde(default)]
    pub(super) arguments: serde_json::Value,
    #[serde(default)]
    pub(super) properties_key: String,
}

#[derive(Deserialize)]
struct ReadDepth {
    messages: Option<u64>,
}

#[derive(Deserialize)]
struct ReadFlag {
    name: String,
    state: String,
}

/// What a broker is able to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// It bounds the connections and channels of a login.
    pub(crate) user_limits: bool,
}

impl Management {
    /// All users, and all that is in these vhosts; of the others what anybody may do there.
    pub(crate) async fn objects(&self, vhosts: &BTreeSet<String>) -> Result<(Objects, Abilities)> {
        let (names, users, flags) = try_join3(
            self.list::<ReadVhost>("/api/vhosts?columns=name"),
            self.list::<ReadUser>("/api/users"),
            self.list::<ReadFlag>("/api/feature-flags"),
        )
        .await?;
        let mut objects = Objects::default();
        for vhost in names {
            objects.vhosts.insert(vhost.name, Vhost::default());
        }
        let flag = flags.iter().find(|flag| flag.name == "user_limits");
        let user_limits = flag
            .map_or_else(|| users.iter().all(|user| user.limits.is_some()), |flag| flag.state == "enabled");
        objects.users = users.into_iter().map(ReadUser::into_user).collect();
        let here: Vec<String> =
            vhosts.iter().filter(|name| objects.vhosts.contains_key(*name)).cloned().collect();
        let contents = try_join_all(here.iter().map(|name| self.contents(name)));
        let (rights, contents) = try_join(self.list::<ReadRights>("/api/permissions"), contents).await?;
        objects.vhosts.extend(here.into_iter().zip(contents));
        for ReadRights { user, vhost, configure, write, read } in rights {
            // A vhost that was made since is looked into the next time.
            if let Some(vhost) = objects.vhosts.get_mut(&vhost) {
                vhost.rights.insert(user, Rights { configure, write, read });
            }
        }
        Ok((objects, Abilities { user_limits }))
    }

    async fn contents(&self, vhost: &str) -> Result<Vhost> {
        let of = word(vhost);
        let exchanges = format!("/api/exchanges/{of}?disable_stats=true&columns=name,type,durable,arguments");
        let queues = format!("/api/queues/{of}?disable_stats=true&columns=name,durable,arguments");
        let bindings = format!("/api/bindings/{of}");
        let (exchanges, queues, bindings) = try_join3(
            self.list::<ReadExchange>(&exchanges),
            self.list::<ReadQueue>(&queues),
            self.list::<ReadBinding>(&bindings),
        )
        .await?;
        let exchanges = exchanges.into_iter().map(|ReadExchange { name, kind, durable, arguments }| {
            (name, Exchange { kind, durable, args: args(&arguments) })
        });
        let queues = queues
            .into_iter()
            .map(|ReadQueue { name, durable, arguments }| (name, Queue { durable, args: args(&arguments) }));
        let bindings = bindings.into_iter().filter(|binding| !binding.source.is_empty());
        Ok(Vhost {
            exchanges: exchanges.collect(),
            queues: queues.collect(),
            bindings: bindings.map(ReadBinding::into_binding).collect(),
            rights: BTreeMap::new(),
        })
    }

    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let body = self.get(path).await?;
        serde_json::from_slice(&body).with_context(|| {
            format!("the answer of {}:{} to {path} is not what RabbitMQ says", self.host, self.port)
        })
    }

    /// Says of queues that are to be removed how many messages go with them.
    pub(crate) async fn count_messages(&self, plan: &mut Plan) {
        let removed = plan.steps.iter_mut().filter_map(|step| match &mut step.action {
            Action::RemoveQueue { vhost, name, messages } => Some((vhost, name, messages)),
            _ => None,
        });
        for (vhost, name, messages) in removed.take(COUNTED_MAX) {
            let path = format!("/api/queues/{}/{}?columns=messages", word(vhost), word(name));
            let depth = self.get(&path).await.ok();
            let depth = depth.and_then(|body| serde_json::from_slice::<ReadDepth>(&body).ok());
            *messages = depth.and_then(|depth| depth.messages);
        }
    }
}

/// What is wanted of a broker that cannot bound logins.
pub(crate) fn without_limits(wanted: &mut Wanted) {
    for user in wanted.objects.users.values_mut() {
        user.connections_max = None;
        user.channels_max = None;
    }
}

impl ReadUser {
    fn into_user(self) -> (String, User) {
        let limit = |name: &str| {
            let value = self.limits.as_ref()?.get(name)?.as_u64()?;
            u32::try_from(value).ok()
        };
        let user = User {
            tags: match &self.tags {
                ReadTags::List(tags) => tags.clone(),
                ReadTags::Text(text) => {
                    text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
                }
            },
            connections_max: limit("max-connections"),
            channels_max: limit("max-channels"),
            password_hash: self.password_hash,
        };
        (self.name, user)
    }
}

impl ReadBinding {
    pub(super) fn into_binding(self) -> Binding {
        let to = if self.destination_type == "exchange" {
            Destination::Exchange(self.destination)
        } else {
            Destination::Queue(self.destination)
        };
        let has_args = self.arguments.as_object().is_some_and(|args| !args.is_empty());
        Binding { source: self.source, to, key: self.routing_key, has_args }
    }
}

fn args(arguments: &serde_json::Value) -> Args {
    let Some(arguments) = arguments.as_object() else { return Args::new() };
    arguments.iter().map(|(name, value)| (name.clone(), self::value(value))).collect()
}

fn value(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Number(number) => number.as_i64().map_or(Value::Other, Value::Number),
        serde_json::Value::Bool(flag) => Value::Flag(*flag),
        _ => Value::Other,
    }
}
