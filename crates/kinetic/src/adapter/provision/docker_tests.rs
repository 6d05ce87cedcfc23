//! The shapes of requests, against a small engine of our own over a Unix socket: there is none on the machines that
//! run the tests.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// What an engine answers to the n-th request: status and body.
type Answers = Vec<(u16, Value)>;

/// An engine that answers in order and remembers what it was asked.
struct Fake {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    serving: tokio::task::JoinSet<()>,
}

impl Fake {
    fn start(answers: Answers) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let listener = UnixListener::bind(dir.path().join("docker.sock")).expect("bind");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(serve(listener, answers, Arc::clone(&asked)));
        Self { dir, asked, serving }
    }

    fn docker(&self) -> Docker {
        let launch = Launch::for_tests("amqp://me@broker.example/prod", self.dir.path());
        let config = DockerProvisioner {
            image: "registry.example/kinetic:1".to_owned(),
            socket: self.dir.path().join("docker.sock"),
            network: Some("metrics".to_owned()),
            env: BTreeMap::from([("TZ".to_owned(), "UTC".to_owned())]),
        };
        Docker::new(launch, config)
    }

    /// What it was asked: `METHOD path?query`, and the body.
    fn asked(mut self) -> Vec<(String, Value)> {
        self.serving.abort_all();
        std::mem::take(&mut *self.asked.lock().expect("lock"))
    }
}

async fn serve(listener: UnixListener, answers: Answers, asked: Arc<Mutex<Vec<(String, Value)>>>) {
    let mut answers = answers.into_iter();
    loop {
        let (mut stream, _) = listener.accept().await.expect("accept");
        while let Some((line, body)) = request(&mut stream).await {
            asked.lock().expect("lock").push((line, body));
            let (status, answer) = answers.next().expect("an answer for every request");
            let text = if answer.is_null() { String::new() } else { answer.to_string() };
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            stream.write_all((head + &text).as_bytes()).await.expect("write");
        }
    }
}

/// One request of a connection, or `None` at its end.
async fn request(stream: &mut UnixStream) -> Option<(String, Value)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("text");
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.expect("a body");
    let line = head.lines().next().expect("a line").trim_end_matches(" HTTP/1.1").to_owned();
    Some((line, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

fn refusal(text: &str) -> Value {
    json!({"message": text})
}

#[tokio::test]
async fn a_container_is_created_with_all_that_an_analyzer_needs_and_no_secret() {
    let fake = Fake::start(vec![(201, json!({"Id": "c1", "Warnings": []})), (204, Value::Null)]);
    let secret = std::path::absolute(fake.dir.path().join("broker-password")).expect("absolute");
    fake.docker().start(&"auto-3".into()).await.expect("started");
    let asked = fake.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].0.starts_with("POST /containers/create?"), "{}", asked[0].0);
    assert!(asked[0].0.contains("name=kinetic-prod-auto-3"), "{}", asked[0].0);
    assert_eq!(asked[1].0.split('?').next(), Some("POST /containers/kinetic-prod-auto-3/start"));
    let body = &asked[0].1;
    assert_eq!(body["Image"], "registry.example/kinetic:1");
    assert_eq!(body["Env"], json!(["TZ=UTC"]));
    assert_eq!(body["Labels"], json!({"kinetic.control": "prod", "kinetic.node": "auto-3"}));
    assert_eq!(body["HostConfig"]["NetworkMode"], "metrics");
    assert_eq!(body["HostConfig"]["Binds"], json!([format!("{}:{PASSWORD_FILE}:ro", secret.display())]));
    let words: Vec<&str> = body["Cmd"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
    assert_eq!(
        words[..5],
        ["analyzer", "--amqp", "amqp://me@broker.example/prod", "--password-file", PASSWORD_FILE]
    );
    assert_eq!(words[words.len() - 2..], ["--node", "auto-3"]);
    assert!(!body.to_string().contains("hunter2"), "{body}");
}

#[tokio::test]
async fn a_container_that_does_not_start_is_not_left_behind() {
    let fake = Fake::start(vec![
        (201, json!({"Id": "c1", "Warnings": ["no swap limit"]})),
        (400, refusal("bind source path does not exist")),
        (204, Value::Null),
    ]);
    let error = fake.docker().start(&"auto-1".into()).await.expect_err("refused");
    assert!(format!("{error:#}").contains("bind source path does not exist"), "{error:#}");
    let asked = fake.asked();
    assert!(asked[2].0.starts_with("DELETE /containers/kinetic-prod-auto-1?"), "{asked:?}");
    assert!(asked[2].0.contains("force=true"), "{asked:?}");
}

#[tokio::test]
async fn an_absent_image_is_named() {
    let fake = Fake::start(vec![(404, refusal("No such image: registry.example/kinetic:1"))]);
    let error = format!("{:#}", fake.docker().start(&"auto-1".into()).await.expect_err("refused"));
    assert!(error.contains("No such image: registry.example/kinetic:1"), "{error}");
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn stopping_gives_time_and_is_done_with_what_is_not_there() {
    let there =
        || (200, json!([{"Id": "c1", "Labels": {"kinetic.control": "prod", "kinetic.node": "auto-1"}}]));
    let fake = Fake::start(vec![
        there(),
        (204, Value::Null),
        (204, Value::Null),
        there(),
        (304, Value::Null),
        (404, refusal("No such container")),
        there(),
        (500, refusal("the disk is full")),
        (200, json!([])),
    ]);
    let docker = fake.docker();
    docker.stop(&"auto-1".into()).await.expect("stopped");
    docker.stop(&"auto-1".into()).await.expect("not there any more");
    let error = docker.stop(&"auto-1".into()).await.expect_err("the engine cannot");
    assert!(format!("{error:#}").contains("the disk is full"), "{error:#}");
    docker.stop(&"auto-1".into()).await.expect("nothing of ours has that name");
    let asked = fake.asked();
    // {"label":["kinetic.control=prod","kinetic.node=auto-1"]}
    assert!(
        asked[0].0.contains("kinetic.control%3Dprod%22%2C%22kinetic.node%3Dauto-1%22%5D%7D"),
        "{asked:?}"
    );
    assert!(asked[1].0.starts_with("POST /containers/c1/stop?"), "{asked:?}");
    assert!(asked[1].0.contains("t=12"), "{asked:?}");
    assert!(asked[2].0.starts_with("DELETE /containers/c1?"), "{asked:?}");
    assert!(asked[2].0.contains("force=true"), "{asked:?}");
    assert_eq!(asked.len(), 9, "{asked:?}");
}

#[tokio::test]
async fn a_name_that_is_taken_is_left_to_whoever_has_it() {
    let taken = "Conflict. The container name \"/kinetic-prod-auto-1\" is already in use";
    let fake = Fake::start(vec![(409, refusal(taken))]);
    let error = format!("{:#}", fake.docker().start(&"auto-1".into()).await.expect_err("refused"));
    assert!(error.contains("already in use") && error.contains("kinetic-prod-auto-1"), "{error}");
    assert_eq!(fake.asked().len(), 1, "nothing is started, nothing is removed");
}

#[tokio::test]
async fn an_engine_that_ends_in_mid_sentence_is_an_error_and_one_that_is_back_is_used() {
    let mut fake = Fake::start(vec![(200, json!([]))]);
    let docker = fake.docker();
    docker.list().await.expect("there");
    fake.serving.shutdown().await;
    docker.list().await.expect_err("it is gone, and its socket's name is left");
    docker.start(&"auto-1".into()).await.expect_err("likewise");
    let socket = fake.dir.path().join("docker.sock");
    std::fs::remove_file(&socket).expect("removed");
    let listener = UnixListener::bind(&socket).expect("bind");
    fake.serving.spawn(serve(listener, vec![(200, json!([]))], Arc::clone(&fake.asked)));
    assert_eq!(docker.list().await.expect("back"), BTreeMap::new());
}

#[tokio::test]
async fn only_containers_of_this_installation_are_listed_as_what_they_are() {
    let container = |node: &str, state: &str, status: &str| {
        json!({"Id": node, "Names": [format!("/kinetic-prod-{node}")], "State": state, "Status": status,
               "Labels": {"kinetic.control": "prod", "kinetic.node": node}})
    };
    let fake = Fake::start(vec![(
        200,
        json!([
            container("auto-1", "running", "Up 2 hours"),
            container("auto-2", "exited", "Exited (137) 3 seconds ago"),
            container("auto-3", "created", "Created"),
            container("auto-4", "removing", "Removal In Progress"),
            json!({"Id": "x", "State": "running", "Labels": {"kinetic.control": "prod"}}),
        ]),
    )]);
    let list = fake.docker().list().await.expect("listed");
    let expect = [
        ("auto-1", Instance::Running),
        ("auto-2", Instance::Ended("Exited (137) 3 seconds ago".to_owned())),
        ("auto-3", Instance::Running),
        ("auto-4", Instance::Ending),
    ];
    assert_eq!(list, expect.map(|(node, instance)| (node.into(), instance)).into());
    let asked = fake.asked();
    assert!(asked[0].0.starts_with("GET /containers/json?"), "{asked:?}");
    assert!(asked[0].0.contains("all=true"), "{asked:?}");
    // {"label":["kinetic.control=prod"]}
    assert!(asked[0].0.contains("%7B%22label%22%3A%5B%22kinetic.control%3Dprod%22%5D%7D"), "{asked:?}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_asked_again() {
    let missing = PathBuf::from("/no/such/docker.sock");
    let fake = Fake::start(vec![(200, json!([]))]);
    let mut docker = fake.docker();
    let there = std::mem::replace(&mut docker.config.socket, missing);
    let error = format!("{:#}", docker.list().await.expect_err("nobody there"));
    assert!(error.contains("no Docker engine at /no/such/docker.sock"), "{error}");
    docker.config.socket = there;
    assert_eq!(docker.list().await.expect("there now"), BTreeMap::new());
}
