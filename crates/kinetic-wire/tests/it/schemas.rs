//! `schemas/` and `docs/wire.md` say what the messages are: both are held against the types here.
//!
//! After a message has changed, write the schemas anew and look at the difference:
//! `cargo test -p kinetic-wire -- --ignored write_schemas`

use std::path::{Path, PathBuf};

use kinetic_wire::{
    Acknowledge, Acknowledged, AlertEvent, AnnounceTest, Announcement, AskSilence, Beacon, Bounce, Bounced,
    Drain, EpisodesQuestion, EpisodesReply, FollowLink, Goodbye, Heartbeat, LeaderToken, LeaseReply, Linked,
    Locate, LocateReply, MapChange, MapQuestion, MapReply, Nudge, Partial, Register, Released, Relieve,
    Relieved, RpcError, SchemaNotice, Silenced, SilencesQuestion, SilencesReply, Snapshot, Subscribe,
    Subscribed, SuppressionsQuestion, SuppressionsReply, TestAnnounced, TestStage, Unsilence,
    UnsubscribedQuestion, UnsubscribedReply, Unsuppress, Unsuppressed, decode, encode,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One message: its name in `schemas/` and in `docs/wire.md`, its schema, and how it reads and writes JSON.
struct Message {
    name: &'static str,
    schema: Value,
    rewrite: fn(&[u8]) -> Result<Vec<u8>, String>,
}

fn message<T: JsonSchema + Serialize + DeserializeOwned>(name: &'static str) -> Message {
    Message {
        name,
        schema: schemars::schema_for!(T).to_value(),
        rewrite: |body| Ok(encode(&decode::<T>(body).map_err(|error| format!("{error:?}"))?)),
    }
}

fn messages() -> Vec<Message> {
    vec![
        message::<Register>("register"),
        message::<Heartbeat>("heartbeat"),
        message::<Drain>("drain"),
        message::<LeaseReply>("lease-reply"),
        message::<Goodbye>("goodbye"),
        message::<Released>("released"),
        message::<Locate>("locate"),
        message::<LocateReply>("locate-reply"),
        message::<RpcError>("rpc-error"),
        message::<SchemaNotice>("schema-notice"),
        message::<AlertEvent>("alert"),
        message::<Announcement>("notification"),
        message::<Snapshot>("snapshot"),
        message::<Partial>("partial"),
        message::<LeaderToken>("token"),
        message::<MapChange>("map-change"),
        message::<MapQuestion>("map"),
        message::<MapReply>("map-reply"),
        message::<Relieve>("relieve"),
        message::<Relieved>("relieved"),
        message::<Nudge>("nudge"),
        message::<Beacon>("beacon"),
        message::<AskSilence>("silence"),
        message::<Unsilence>("unsilence"),
        message::<Silenced>("silenced"),
        message::<SilencesQuestion>("silences"),
        message::<SilencesReply>("silences-reply"),
        message::<Acknowledge>("acknowledge"),
        message::<Acknowledged>("acknowledged"),
        message::<EpisodesQuestion>("episodes"),
        message::<EpisodesReply>("episodes-reply"),
        message::<AnnounceTest>("test-event"),
        message::<TestAnnounced>("test-announced"),
        message::<TestStage>("test-stage"),
        message::<Bounce>("bounce"),
        message::<Bounced>("bounced"),
        message::<SuppressionsQuestion>("suppressions"),
        message::<SuppressionsReply>("suppressions-reply"),
        message::<Unsuppress>("unsuppress"),
        message::<Unsuppressed>("unsuppressed"),
        message::<FollowLink>("link"),
        message::<Linked>("linked"),
        message::<UnsubscribedQuestion>("unsubscribed"),
        message::<UnsubscribedReply>("unsubscribed-reply"),
        message::<Subscribe>("subscribe"),
        message::<Subscribed>("subscribed"),
    ]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[expect(clippy::disallowed_methods, reason = "this test is about files of the repository")]
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn pretty(schema: &Value) -> String {
    serde_json::to_string_pretty(schema).expect("a value serialises") + "\n"
}

#[test]
fn schemas_are_those_of_the_messages() {
    for message in messages() {
        let path = format!("schemas/{}.json", message.name);
        let written: Value = serde_json::from_str(&read(&path)).expect("JSON");
        assert!(
            written == message.schema,
            "{path} is not the schema of the message any more: write it anew as this file's head says"
        );
    }
}

#[test]
fn there_is_no_schema_without_a_message() {
    let names: Vec<String> = messages().iter().map(|message| format!("{}.json", message.name)).collect();
    for entry in root().join("schemas").read_dir().expect("the folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        assert!(names.contains(&name), "schemas/{name} belongs to no message");
    }
}

#[test]
#[ignore = "writes schemas/ anew"]
#[expect(clippy::disallowed_methods, reason = "this test is about files of the repository")]
fn write_schemas() {
    for message in messages() {
        let path = root().join(format!("schemas/{}.json", message.name));
        std::fs::write(&path, pretty(&message.schema)).expect("a writable folder");
    }
}

/// The fenced blocks of `docs/wire.md` that begin with "```json NAME".
fn examples() -> Vec<(String, String)> {
    let text = read("docs/wire.md");
    let mut examples = Vec::new();
    for block in text.split("```json ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a line after the fence");
        let (body, _) = rest.split_once("```").expect("a closing fence");
        examples.push((name.trim().to_owned(), body.to_owned()));
    }
    examples
}

#[test]
fn every_message_has_an_example_that_is_exactly_one() {
    let (messages, examples) = (messages(), examples());
    for (name, body) in &examples {
        let message = messages.iter().find(|message| message.name == name).expect("an example of a message");
        let written = (message.rewrite)(body.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let parse = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("JSON");
        assert_eq!(parse(&written), parse(body.as_bytes()), "the example of {name} lacks or invents a field");
    }
    for message in &messages {
        assert!(examples.iter().any(|(name, _)| name == message.name), "no example of {}", message.name);
    }
}

#[test]
fn schemas_agree_with_the_examples() {
    for (name, body) in examples() {
        let schema: Value = serde_json::from_str(&read(&format!("schemas/{name}.json"))).expect("JSON");
        let example: Value = serde_json::from_str(&body).expect("JSON");
        let properties = schema["properties"].as_object().expect("properties");
        for key in example.as_object().expect("an object").keys() {
            assert!(properties.contains_key(key), "{name}: {key} is not in the schema");
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            assert!(example.get(key.as_str().expect("a name")).is_some(), "{name}: {key} is required");
        }
    }
}

/// Every name on the broker and every header stands in `docs/wire.md`.
#[test]
fn every_name_is_explained() {
    use kinetic_wire::{Envelope, names};
    let text = read("docs/wire.md");
    let headers = [
        Envelope::ORIGIN,
        Envelope::PROFILE,
        Envelope::TS_NS,
        Envelope::SEQ,
        Envelope::INC,
        Envelope::EPOCH,
        Envelope::CUSTOMER,
        Envelope::TRACEPARENT,
    ];
    let broker = [
        names::CONTROL_VHOST,
        names::RPC_EXCHANGE,
        names::RPC_QUEUE,
        names::ALERT_QUEUE,
        names::ALERTS,
        names::ALERTS_DEAD,
        names::NOTIFICATIONS_EXCHANGE,
        names::SCHEMA_EXCHANGE,
        names::DEAD_EXCHANGE,
        names::DEAD_QUEUE,
        names::DEAD_OTHERS,
        names::TYPE_ALERT,
        names::TYPE_NOTIFICATION,
        names::PARTIALS_EXCHANGE,
        names::TYPE_PARTIAL,
        names::TYPE_SCHEMA_NOTICE,
        names::TRACE_EXCHANGE,
        names::TYPE_TEST,
        names::TYPE_TEST_STAGE,
    ];
    for name in headers.into_iter().chain(broker).chain(names::rpc::ALL).chain(names::rpc::ALERT) {
        assert!(text.contains(&format!("`{name}`")), "docs/wire.md does not explain {name}");
    }
}
