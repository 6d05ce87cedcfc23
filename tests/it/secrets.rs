//! Every secret of a whole installation is looked for in all that its processes say of themselves, while they log all they can.

#![expect(clippy::disallowed_methods, reason = "a story looks into the files of those that it is about")]

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kinetic_tests::hooks::HookCatcher;
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::postgres::Postgres;
use kinetic_tests::process::{Launch, kinetic, run};
use kinetic_tests::schema::{Customer, Queues, SECRET, Watch, installation};
use kinetic_tests::traffic::{Fleet, SLOW_HOST, line};
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::is_about;

/// Passwords that nothing would take.
const WRONG: &str = "a-wrong-secret-of-the-stories";
/// Passwords of the relay and of the receiver of posts.
const SMTP_PASSWORD: &str = "relay-password-of-the-stories";
const HOOK_SECRET: &str = "hook-secret-of-the-stories";
/// What every signed token begins with: `{"alg":` in base64url.
const TOKEN: &str = "eyJhbGciOi";
/// Secrets shorter than this would be found by chance.
const SECRET_BYTES_MIN: usize = 12;

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder of ours").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What holds secrets, by its name.
fn is_secret(path: &Path) -> bool {
    let name = text(Path::new(path.file_name().expect("a file has a name")));
    let is_public = name.ends_with(".pub.pem") || name.ends_with(".log") || name.ends_with(".hcl");
    !is_public && ["secret", "password", "key", ".pem"].iter().any(|word| name.contains(word))
}

/// Processes of this world: the program with a path of the world's folder on its command line, or one of its own.
fn processes(dir: &Path, more: &[u32]) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").expect("Linux").flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        let is_named = more.iter().any(|id| path.ends_with(id.to_string()));
        is_named || fs::read_to_string(path.join("cmdline")).is_ok_and(|words| words.contains(&text(dir)))
    };
    entries.filter(ours).collect()
}

/// The relay that wants a login cannot be reached; the other one takes the mails.
fn mail_and_tokens(world: &World, keys: &Path) -> String {
    let (_, plain) = installation(world.vhost(), Queues::Classic, world.smtp.address());
    let password = text(&world.secret_file("smtp-password", SMTP_PASSWORD));
    let fallback = format!(
        "relay = \"127.0.0.1:9\"\n  username = \"kinetic\"\n  password_file = \"{password}\"\n  tls = \"starttls\"\n  fallback \
         \"other\" {{\n    relay = \"{}\"\n    tls = \"none\"\n  }}\n  from",
        world.smtp.address()
    );
    let head = plain.split("relay = ").next().expect("a region before it");
    let made = run(Launch::new(kinetic()).args(["token", "new", "2026-a", "--keys", &text(keys)]));
    let block = &made[made.find("tokens {").expect("the block to be pushed")..];
    let end = block.rfind('}').expect("its end") + 1;
    format!(
        "{}  {fallback} = \"alerts@kinetic.example\"\n}}\n\n{}\n",
        head.replace("  vhost", "  tokens = true\n  vhost"),
        &block[..end]
    )
}

#[test]
fn no_secret_is_said_anywhere() {
    if !all_here("secrets", &[Need::Git, Need::Postgres]) {
        return;
    }
    let acme = Customer::acme(&[Watch { hysteresis: "1 of 1", ..Watch::default() }]);
    let world = World::start_talkative(BrokerKind::Embedded, std::slice::from_ref(&acme));
    let hooks = HookCatcher::start(&[]);
    let keys = world.dir().join("token-keys");
    let secret = world.secret_file("hook-secret", HOOK_SECRET);
    let webhook = format!(
        "  send_resolved = false\n\n  webhook \"pager\" {{\n    url = \"http://{}/\"\n    secret_file = \"{}\"\n  }}\n",
        hooks.address(),
        secret.display()
    );
    for (path, text) in acme.files() {
        world.schema.write(&(path, text.replace("  send_resolved   = false\n", &webhook)));
    }
    world.schema.write(&("kinetic.hcl".to_owned(), mail_and_tokens(&world, &keys)));
    world.schema.push();

    let database = Postgres::shared().database();
    let database_password = Postgres::shared().password_file(world.dir());
    let redirector = world.role("redirector", "redirector", &["--token-keys", &text(&keys)]);
    redirector.wait_healthy();
    let words = ["--history", &database, "--history-password-file", &database_password];
    let links = ["--links-listen", "127.0.0.1:0", "--webhook-nets", "127.0.0.0/8"];
    let alert = world.role("alert", "alert", &[words, links].concat());
    alert.wait_healthy();
    let analyzer = world.analyzer("analyzer");
    let agent = world.agent(&acme, "agent", &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");
    fleet.slow_down();
    eventually("the agent publishes", || {
        socket.send_to(line("web-01", false).as_bytes(), agent.udp).expect("send");
        match agent.node.metric("kinetic_agent_confirmed_total") {
            0 => Err(agent.node.metrics()),
            _ => Ok(()),
        }
    });
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    eventually("the webhook is told", || if hooks.hooks().is_empty() { Err("not yet") } else { Ok(()) });
    drop(fleet);

    let nodes = [&redirector, &alert, &analyzer, &agent.node];
    let said = said(&world, &acme, &nodes);
    let secrets = secrets(&world);
    for (what, said) in &said {
        for (whose, secret) in &secrets {
            assert!(
                !said.contains(secret.as_str()),
                "{what} says a secret of {whose}: {}",
                around(said, secret)
            );
        }
        assert!(!said.contains(TOKEN), "{what} says a token: {}", around(said, TOKEN));
    }
}

/// What stands around a find, so that whoever reads the failure knows where it comes from.
fn around(said: &str, secret: &str) -> String {
    let at = said.find(secret).unwrap_or_default();
    let (from, to) = (at.saturating_sub(300), (at + 20).min(said.len()));
    String::from_utf8_lossy(&said.as_bytes()[from..to]).into_owned()
}

/// Secrets by the file that holds them, in the forms in which they could be printed. All such files are their owner's alone.
fn secrets(world: &World) -> Vec<(String, String)> {
    let mut secrets = vec![("the wrong password".to_owned(), WRONG.to_owned())];
    for path in files(world.dir()).into_iter().filter(|path| is_secret(path)) {
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} may be read by others: {mode:o}", path.display());
        let Ok(content) = fs::read_to_string(&path) else { continue };
        let lines = content.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        let long = lines.filter(|line| line.len() >= SECRET_BYTES_MIN);
        secrets.extend(long.map(|line| (text(&path), line.to_owned())));
    }
    for folder in ["broker", "redirector", "alert", "analyzer"] {
        for path in files(&world.dir().join(folder)) {
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} holds customers' data: {mode:o}", path.display());
        }
    }
    for known in [SECRET, SMTP_PASSWORD, HOOK_SECRET, Postgres::PASSWORD] {
        assert!(secrets.iter().any(|(_, secret)| secret == known), "a file holds {known}");
    }
    assert!(secrets.len() >= 8, "the broker's own, the links' and the tokens' are among them: {secrets:?}");
    // The bytes of a secret as `{:?}` of a list prints them.
    let listed = |secret: &str| format!("{:?}", &secret.as_bytes()[..8]).trim_matches(['[', ']']).to_owned();
    let lists: Vec<_> = secrets.iter().map(|(whose, secret)| (whose.clone(), listed(secret))).collect();
    secrets.extend(lists);
    secrets
}

/// All that the processes say of themselves, by where.
fn said(world: &World, acme: &Customer, nodes: &[&Node]) -> Vec<(String, String)> {
    let mut said = Vec::new();
    for node in nodes {
        said.push(("/metrics".to_owned(), node.metrics()));
        said.push(("/__heartbeat__".to_owned(), node.heartbeat().expect("an answer").body));
    }
    let ids: Vec<u32> = nodes.iter().map(|node| node.process.id()).collect();
    let processes = processes(world.dir(), &ids);
    assert!(processes.len() >= 5, "the broker and four roles: {processes:?}");
    for file in
        processes.iter().flat_map(|process| ["cmdline", "environ", "comm"].map(|file| process.join(file)))
    {
        // Who is not root may not even look into what belongs to him.
        let bytes = fs::read(&file).unwrap_or_default();
        said.push((text(&file), String::from_utf8_lossy(&bytes).into_owned()));
    }
    let wrong = text(&world.secret_file("wrong", WRONG));
    let broker =
        |login: &str, password: &str| format!("amqp://{login}{password}@{}/{}", world.amqp(), world.vhost());
    let (login, in_url) = (acme.login(), format!(":{WRONG}"));
    let attempts: [&[&str]; 4] = [
        &["locate", "--amqp", &broker(&login, ""), "--password-file", &wrong],
        &["locate", "--amqp", &broker(&login, &in_url)],
        &["map", "--amqp", &broker("kinetic", ""), "--password-file", &wrong],
        &["alert", "--amqp", &broker("kinetic", &in_url), "--schema", &world.schema.remote()],
    ];
    for words in attempts {
        let output = Launch::new(kinetic()).env("RUST_LOG", "trace").args(words.iter().copied()).output();
        assert!(!output.status.success(), "{words:?}");
        let printed = [output.stdout, output.stderr].concat();
        said.push((words[0].to_owned(), String::from_utf8_lossy(&printed).into_owned()));
    }
    for log in files(world.dir()).iter().filter(|path| path.extension().is_some_and(|ending| ending == "log"))
    {
        let bytes = fs::read(log).expect("a log");
        assert!(!bytes.is_empty(), "{} is a log", log.display());
        said.push((text(log), String::from_utf8_lossy(&bytes).into_owned()));
    }
    said
}
