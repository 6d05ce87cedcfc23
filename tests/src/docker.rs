//! A small Docker engine on a Unix socket: it knows images and containers, refuses what an engine refuses, and runs the Kinetic
//! binary where a container is started. It keeps every request with its answer, and answers what it does not know with 501.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Launch, Process, kinetic};
use crate::smtp::unescape;

/// How often connections look whether the engine is down.
const LOOK: Duration = Duration::from_millis(20);

/// A request as it came, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `METHOD /path`.
    pub what: String,
    /// Parameters, decoded.
    pub query: BTreeMap<String, String>,
    /// Body; null where there is none.
    pub body: Value,
    /// Status of the answer.
    pub status: u16,
}

#[derive(Debug)]
struct Container {
    id: String,
    body: Value,
    /// `None` before it is started.
    process: Option<Process>,
}

impl Container {
    fn state(&mut self) -> (&'static str, String) {
        match self.process.as_mut().map(Process::ended) {
            None => ("created", "Created".to_owned()),
            Some(None) => ("running", "Up a moment".to_owned()),
            Some(Some(status)) => {
                ("exited", format!("Exited ({}) a moment ago", status.code().unwrap_or(137)))
            }
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    images: Vec<String>,
    /// By name.
    containers: BTreeMap<String, Container>,
    asked: Vec<Asked>,
    created: u32,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    held: Mutex<Held>,
    down: AtomicBool,
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine. Its containers end when it is dropped.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Engine {
    /// Listens on a socket in a folder; it has no image.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let shared = Shared { dir: dir.to_owned(), held: Mutex::default(), down: AtomicBool::new(true) };
        let mut engine = Self { shared: Arc::new(shared), listening: None };
        engine.come_up();
        engine
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.shared.dir.join("docker.sock")
    }

    /// An image is there from now on.
    pub fn pull(&self, image: &str) {
        self.shared.held().images.push(image.to_owned());
    }

    /// Somebody else's container, which is not started and carries no labels.
    pub fn occupy(&self, name: &str) {
        let container =
            Container { id: format!("foreign-{name}"), body: json!({"Labels": {}}), process: None };
        self.shared.held().containers.insert(name.to_owned(), container);
    }

    /// Somebody else removes his container.
    pub fn vacate(&self, name: &str) {
        self.shared.held().containers.remove(name);
    }

    /// SIGKILL to what runs in a container.
    ///
    /// # Panics
    /// If nothing does.
    pub fn kill(&self, name: &str) {
        let mut held = self.shared.held();
        let container = held.containers.get_mut(name).expect("the container is there");
        container.process.as_mut().expect("it was started").kill();
    }

    /// Names of the containers that are there, with their states.
    #[must_use]
    pub fn containers(&self) -> Vec<(String, &'static str)> {
        let mut held = self.shared.held();
        held.containers.iter_mut().map(|(name, container)| (name.clone(), container.state().0)).collect()
    }

    /// All requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.held().asked.clone()
    }

    /// How often something was asked, lists apart: `METHOD /path` begins so, and this was the status.
    #[must_use]
    pub fn count(&self, what: &str, status: u16) -> usize {
        self.asked().iter().filter(|asked| asked.what.starts_with(what) && asked.status == status).count()
    }

    /// The engine ends; its containers run on.
    pub fn go_down(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        if let Some(listening) = self.listening.take() {
            listening.join().ok();
        }
        std::fs::remove_file(self.socket()).ok();
    }

    /// It is back, and finds its containers.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn come_up(&mut self) {
        let listener = UnixListener::bind(self.socket()).expect("bind");
        listener.set_nonblocking(true).expect("no waiting");
        self.shared.down.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.listening = Some(std::thread::spawn(move || {
            let mut serving = Vec::new();
            while !shared.down.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let shared = Arc::clone(&shared);
                        serving.push(std::thread::spawn(move || serve(&stream, &shared)));
                    }
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
            serving.into_iter().for_each(|thread| drop(thread.join()));
        }));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.go_down();
    }
}

/// Requests of one connection, until either end has had enough.
fn serve(stream: &UnixStream, shared: &Shared) {
    stream.set_nonblocking(false).expect("waiting");
    stream.set_read_timeout(Some(LOOK)).expect("a timeout");
    let mut reader = BufReader::new(stream);
    while let Some((line, body)) = request(&mut reader, shared) {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), unescape(value, b'%')))
            .collect();
        let what = format!("{method} {path}");
        let mut held = shared.held();
        let (status, answer) = answer(&mut held, shared, (method, path), &query, &body);
        held.asked.push(Asked { what, query, body, status });
        drop(held);
        let text = if answer.is_null() { String::new() } else { answer.to_string() };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        let mut writer = stream;
        if writer.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

/// The first line of a request and its body; `None` at the connection's end, or the engine's.
fn request(reader: &mut BufReader<&UnixStream>, shared: &Shared) -> Option<(String, Value)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match reader.read_until(b'\n', &mut head) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if is_pause(&error) && !shared.down.load(Ordering::SeqCst) => {}
            Err(_) => return None,
        }
    }
    let head = String::from_utf8(head).expect("text");
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.get_ref().set_read_timeout(None).expect("no timeout");
    reader.read_exact(&mut body).ok()?;
    reader.get_ref().set_read_timeout(Some(LOOK)).expect("a timeout");
    Some((head.lines().next()?.to_owned(), serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

type Answer = (u16, Value);

fn refusal(status: u16, text: String) -> Answer {
    (status, json!({ "message": text }))
}

fn answer(
    held: &mut Held,
    shared: &Shared,
    (method, path): (&str, &str),
    query: &BTreeMap<String, String>,
    body: &Value,
) -> Answer {
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, words.as_slice()) {
        ("GET", ["containers", "json"]) => list(held, query),
        ("POST", ["containers", "create"]) => create(held, query, body),
        ("POST", ["containers", name, action @ ("start" | "stop")]) => match (find(held, name), *action) {
            (None, _) => refusal(404, format!("No such container: {name}")),
            (Some(container), "start") => start(container, shared),
            (Some(container), _) => stop(container),
        },
        ("DELETE", ["containers", name]) => {
            let key = held.containers.iter().find(|(key, one)| *key == name || one.id == **name);
            match key.map(|(key, _)| key.clone()) {
                Some(key) => {
                    held.containers.remove(&key);
                    (204, Value::Null)
                }
                None => refusal(404, format!("No such container: {name}")),
            }
        }
        _ => refusal(501, format!("{method} {path} is nothing that this engine knows")),
    }
}

/// A container by its name or its id, as an engine finds it.
fn find<'h>(held: &'h mut Held, name: &str) -> Option<&'h mut Container> {
    held.containers.iter_mut().find(|(key, one)| *key == name || one.id == name).map(|(_, one)| one)
}

fn list(held: &mut Held, query: &BTreeMap<String, String>) -> Answer {
    let filters: Value =
        query.get("filters").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let wanted: Vec<&str> =
        filters["label"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let all = query.get("all").is_some_and(|all| all == "true");
    let mut found = Vec::new();
    for (name, container) in &mut held.containers {
        let labels = container.body["Labels"].clone();
        let carries = |label: &str| {
            label.split_once('=').is_some_and(|(key, value)| labels[key].as_str() == Some(value))
        };
        let (state, status) = container.state();
        if wanted.iter().all(|label| carries(label)) && (all || state == "running") {
            found.push(json!({"Id": container.id, "Names": [format!("/{name}")], "State": state,
                              "Status": status, "Labels": labels}));
        }
    }
    (200, Value::Array(found))
}

fn create(held: &mut Held, query: &BTreeMap<String, String>, body: &Value) -> Answer {
    let name = query.get("name").cloned().unwrap_or_default();
    let image = body["Image"].as_str().unwrap_or_default();
    if !held.images.iter().any(|known| known == image) {
        return refusal(404, format!("No such image: {image}"));
    }
    if let Some(there) = held.containers.get(&name) {
        return refusal(
            409,
            format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{}\".",
                there.id
            ),
        );
    }
    held.created += 1;
    let id = format!("{:064x}", held.created);
    held.containers.insert(name, Container { id: id.clone(), body: body.clone(), process: None });
    (201, json!({"Id": id, "Warnings": []}))
}

/// Runs the binary with the words of the container, in which its paths are those of this machine.
fn start(container: &mut Container, shared: &Shared) -> Answer {
    if container.process.is_some() && container.state().0 == "running" {
        return (304, Value::Null);
    }
    let short = container.id.trim_start_matches('0').to_owned();
    let data_dir = shared.dir.join(format!("container-{short}"));
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut words = texts(&container.body["Cmd"]);
    for bind in texts(&container.body["HostConfig"]["Binds"]) {
        let parts: Vec<&str> = bind.split(':').collect();
        let [from, to, "ro"] = parts.as_slice() else {
            return refusal(400, format!("invalid volume specification: '{bind}'"));
        };
        if !Path::new(from).exists() {
            return refusal(400, format!("bind source path does not exist: {from}"));
        }
        words.iter_mut().filter(|word| word == to).for_each(|word| (*from).clone_into(word));
    }
    if let Some(place) = words.iter().position(|word| word == "--data-dir") {
        words[place + 1] = data_dir.to_string_lossy().into_owned();
    }
    let log = shared.dir.join(format!("container-{short}.log"));
    let launch = Launch::new(kinetic()).args(words).env("RUST_LOG", "kinetic=debug,info");
    container.process = Some(launch.start(&format!("container {short}"), &log));
    (204, Value::Null)
}

/// SIGTERM, and waits for the end as long as it takes: an analyzer ends by itself.
fn stop(container: &mut Container) -> Answer {
    let is_running = container.state().0 == "running";
    match container.process.as_mut().filter(|_| is_running) {
        Some(process) => {
            process.terminate();
            (204, Value::Null)
        }
        None => (304, Value::Null),
    }
}
