//! `watchdog` and `provisioner`: how an installation looks after itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::alert;
use super::installation::line;
use crate::block::{Named, Node, variants};
use crate::diagnostic::{Problem, Sink};
use crate::limits::{
    COOL_DOWN_DEFAULT, DOCKER_SOCKET_DEFAULT, EXEC_TIMEOUT, EXEC_TIMEOUT_DEFAULT, IDLE_AFTER_DEFAULT,
    LOAD_HIGH_DEFAULT, LOAD_LOW_DEFAULT, NODE_SILENT_AFTER, NODE_SILENT_AFTER_DEFAULT, PROVISIONED_MAX,
    SCALE_AFTER_MAX, SCALE_UP_AFTER_DEFAULT, WORDS_MAX,
};
use crate::schema::{
    DockerProvisioner, ExecProvisioner, ProcessProvisioner, Provisioner, ProvisionerKind, Watchdog,
};
use crate::suggest;
use crate::value::{self, Value};

pub(super) fn watchdog(sink: &mut Sink<'_>, node: Node<'_>) -> Option<Watchdog> {
    let mut silent_after =
        |name| alert::duration(sink, node, name, NODE_SILENT_AFTER).unwrap_or(NODE_SILENT_AFTER_DEFAULT);
    let (analyzer, redirector) =
        (silent_after("analyzer_silent_after"), silent_after("redirector_silent_after"));
    let timing = alert::timing(sink, node);
    let to = alert::recipients(sink, node);
    (!to.is_empty()).then_some(Watchdog {
        analyzer_silent_after: analyzer,
        redirector_silent_after: redirector,
        to,
        group_wait: timing.group_wait,
        group_interval: timing.group_interval,
        repeat_interval: timing.repeat_interval,
        send_resolved: timing.send_resolved,
    })
}

pub(super) fn provisioner(sink: &mut Sink<'_>, named: Named<'_>) -> Option<Provisioner> {
    let node = named.node;
    let kind = kind(sink, named);
    let bounds = bounds(sink, node);
    let loads = loads(sink, node);
    let mut wait = |name, default| {
        alert::duration(sink, node, name, (Duration::ZERO, SCALE_AFTER_MAX)).unwrap_or(default)
    };
    let scale_up_after = wait("scale_up_after", SCALE_UP_AFTER_DEFAULT);
    let idle_after = wait("idle_after", IDLE_AFTER_DEFAULT);
    let cool_down = wait("cool_down", COOL_DOWN_DEFAULT);
    let dry_run = node.get("dry_run").and_then(|value| value::boolean(sink, value)).unwrap_or_default();
    let ((min, max), (load_low, load_high)) = (bounds?, loads?);
    Some(Provisioner {
        kind: kind?,
        min,
        max,
        scale_up_after,
        idle_after,
        cool_down,
        load_high,
        load_low,
        dry_run,
    })
}

/// What the label says, with the attributes that only this kind has.
fn kind(sink: &mut Sink<'_>, Named { name, node }: Named<'_>) -> Option<ProvisionerKind> {
    match name {
        "process" => Some(ProvisionerKind::Process(process(sink, node))),
        "docker" => docker(sink, node).map(ProvisionerKind::Docker),
        "exec" => exec(sink, node).map(ProvisionerKind::Exec),
        _ => {
            let message = format!("there is no provisioner of kind `{name}`");
            let problem = Problem::error("unknown-kind", &node.name_at(), message).label("unknown");
            let kinds = || variants("provisioner").filter_map(|shape| shape.variant);
            sink.push(match suggest::closest(name, kinds()) {
                Some(near) => problem.help(format!("did you mean \"{near}\"?")),
                None => problem.help(format!("it is one of {}", suggest::listed(kinds()))),
            });
            None
        }
    }
}

/// `min` and `max`.
fn bounds(sink: &mut Sink<'_>, node: Node<'_>) -> Option<(u32, u32)> {
    let count = |sink: &mut Sink<'_>, value: Value<'_>, least: u64| {
        value::whole(sink, value, least..=u64::from(PROVISIONED_MAX))
            .and_then(|count| u32::try_from(count).ok())
    };
    let min = match node.get("min") {
        Some(value) => count(sink, value, 0),
        None => Some(0),
    };
    let max = node.required(sink, "max", "4").and_then(|value| count(sink, value, 1));
    let (min, max) = (min?, max?);
    if let Some(value) = node.get("min").filter(|_| min > max) {
        let message = format!("`min` ({min}) is more than `max` ({max})");
        sink.push(value.problem("out-of-range", message).label("more than `max`"));
        return None;
    }
    Some((min, max))
}

/// `load_low` and `load_high`: where they meet, every analyzer that is retired is wanted back at once.
fn loads(sink: &mut Sink<'_>, node: Node<'_>) -> Option<(f64, f64)> {
    let mut share = |name, default| match node.get(name) {
        Some(value) => value::real(sink, value, 0.01..=1.0, "a share of capacity from 0.01 to 1"),
        None => Some(default),
    };
    let (low, high) = (share("load_low", LOAD_LOW_DEFAULT), share("load_high", LOAD_HIGH_DEFAULT));
    let (low, high) = (low?, high?);
    if let Some(value) = node.get("load_low").or_else(|| node.get("load_high")).filter(|_| low >= high) {
        let message = format!("`load_low` ({low}) is not less than `load_high` ({high})");
        let help = "leave a gap between them, or analyzers come and go all the time";
        sink.push(value.problem("out-of-range", message).label("too close").help(help));
        return None;
    }
    Some((low, high))
}

fn process(sink: &mut Sink<'_>, node: Node<'_>) -> ProcessProvisioner {
    let data_dir = node.get("data_dir").and_then(|value| absolute(sink, value, ""));
    ProcessProvisioner { data_dir }
}

fn docker(sink: &mut Sink<'_>, node: Node<'_>) -> Option<DockerProvisioner> {
    let image =
        node.required(sink, "image", "\"registry.example/kinetic:1.0\"").and_then(|value| image(sink, value));
    let socket = match node.get("socket") {
        Some(value) => absolute(sink, value, SOCKET_SCHEME),
        None => DOCKER_SOCKET_DEFAULT.strip_prefix(SOCKET_SCHEME).map(PathBuf::from),
    };
    let network = node.get("network").and_then(|value| line(sink, value));
    let env = node.get("env").map(|value| environment(sink, value)).unwrap_or_default();
    Some(DockerProvisioner { image: image?, socket: socket?, network, env })
}

/// How a Unix socket is told from other addresses.
const SOCKET_SCHEME: &str = "unix://";

/// An absolute path behind a scheme.
fn absolute(sink: &mut Sink<'_>, value: Value<'_>, scheme: &str) -> Option<PathBuf> {
    let written = line(sink, value)?;
    let path = written.strip_prefix(scheme).map(Path::new).filter(|path| path.has_root());
    if path.is_none() {
        let (wanted, label) = match scheme {
            "" => ("an absolute path".to_owned(), "not an absolute path"),
            _ => (format!("`{scheme}` and an absolute path"), "no socket of this machine"),
        };
        let message = format!("`{}` must be {wanted}", value.attribute);
        sink.push(value.problem("bad-path", message).label(label));
    }
    path.map(Path::to_path_buf)
}

fn image(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let image = line(sink, value)?;
    if image.contains(char::is_whitespace) {
        let message = "`image` must be an image's name such as \"registry.example/kinetic:1.0\"";
        sink.push(value.problem("bad-name", message).label("holds blanks"));
        return None;
    }
    Some(image)
}

/// `env`: names and values. What looks like a secret is pointed at, since everybody who may read the repository reads it.
fn environment(sink: &mut Sink<'_>, value: Value<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, text, at) in value::strings(sink, value, WORDS_MAX, "an object such as { TZ = \"UTC\" }") {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
            let message = "a variable's name is made of letters, digits and `_`, and starts with no digit";
            sink.push(Problem::error("bad-name", &at, message).label("not a variable's name"));
        } else if text.contains(char::is_control) {
            let message = format!("the value of `{name}` must be one line of text");
            sink.push(Problem::error("bad-text", &at, message));
        } else {
            if looks_secret(name) {
                let message =
                    format!("`{name}` looks like a secret, and whoever reads this repository reads it");
                let help = "keep it in a file that the container mounts, and say where: NAME_FILE = \"/run/secrets/…\"";
                sink.push(Problem::warning("secret", &at, message).label("is it one?").help(help));
            }
            env.insert(name.to_owned(), text.to_owned());
        }
    }
    env
}

/// Whether a variable of this name commonly holds a secret itself, rather than the name of a file that does.
fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words =
        ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE_KEY", "ACCESS_KEY", "API_KEY"];
    !name.ends_with("_FILE") && !name.ends_with("_PATH") && words.iter().any(|word| name.contains(word))
}

fn exec(sink: &mut Sink<'_>, node: Node<'_>) -> Option<ExecProvisioner> {
    let mut command = |name, example| {
        let value = node.required(sink, name, example)?;
        command(sink, value, example)
    };
    let start = command("start", "[\"/usr/local/bin/start-analyzer\", \"{node}\"]");
    let stop = command("stop", "[\"/usr/local/bin/stop-analyzer\", \"{node}\"]");
    let timeout = alert::duration(sink, node, "timeout", EXEC_TIMEOUT).unwrap_or(EXEC_TIMEOUT_DEFAULT);
    Some(ExecProvisioner { start: start?, stop: stop?, timeout })
}

/// A program and its arguments.
fn command(sink: &mut Sink<'_>, list: Value<'_>, example: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut sound = true;
    for value in value::some_list(sink, list, WORDS_MAX, &format!("write for example {example}")) {
        let word = line(sink, value);
        if let Some(unknown) = word.as_deref().and_then(unknown_placeholder) {
            let message = format!("`{unknown}` stands for nothing: only `{{node}}` is replaced");
            sink.push(value.problem("bad-template", message).label("no such placeholder"));
            sound = false;
        }
        match word {
            Some(word) => words.push(word),
            None => sound = false,
        }
    }
    if let Some(program) = words.first().filter(|program| words.len() == 1 && program.contains(' ')) {
        let rest: Vec<String> = program.split_whitespace().map(|word| format!("\"{word}\"")).collect();
        let message = format!("there is no shell that would take `{program}` apart");
        let help = format!("write each word by itself: [{}]", rest.join(", "));
        sink.push(list.problem("bad-command", message).label("one word").help(help));
        return None;
    }
    (sound && !words.is_empty()).then_some(words)
}

/// The first `{word}` that is not `{node}`. What is no word in braces is left alone: JSON is an argument like any other.
fn unknown_placeholder(word: &str) -> Option<&str> {
    let mut rest = word;
    while let Some(start) = rest.find('{') {
        rest = &rest[start..];
        let end = rest.find('}')?;
        let inner = &rest[1..end];
        let is_word = !inner.is_empty() && inner.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if is_word && inner != "node" {
            return Some(&rest[..=end]);
        }
        rest = &rest[1..];
    }
    None
}
