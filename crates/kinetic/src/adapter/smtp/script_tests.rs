//! The adapter against a relay that answers by a script: whatever it is told in whichever state, and when it hangs up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kinetic_wire::Wall;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What the relay does at a command that begins so; `CONTENT` is the final dot, `GREETING` the connection.
#[derive(Clone, Copy, Debug)]
struct Line {
    at: &'static str,
    /// `None`: it hangs up.
    reply: Option<&'static str>,
}

#[derive(Clone, Default)]
struct Script {
    odd: Arc<Mutex<Option<Line>>>,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn odd(&self, line: Option<Line>) {
        *self.odd.lock().expect("no panic") = line;
    }

    /// The reply at a command; `None` to hang up.
    fn reply(&self, command: &str) -> Option<String> {
        let odd = *self.odd.lock().expect("no panic");
        if let Some(line) = odd.filter(|line| command.starts_with(line.at)) {
            return line.reply.map(str::to_owned);
        }
        let usual = match command.get(..4).unwrap_or(command) {
            "GREE" => "220 here",
            "EHLO" => "250-here\r\n250-8BITMIME\r\n250 DSN",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 2.0.0 ok",
        };
        Some(usual.to_owned())
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            self.connections.fetch_add(1, Ordering::SeqCst);
            let script = self.clone();
            // A connection that ends is what some scripts are about.
            #[expect(clippy::disallowed_methods, reason = "a test's server")]
            tokio::spawn(async move { script.session(socket).await });
        }
    }

    async fn session(self, socket: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(socket);
        let mut command = "GREETING".to_owned();
        let mut content = false;
        loop {
            if !content || command == "." {
                let asked = if content { "CONTENT" } else { command.as_str() };
                self.heard.lock().ok()?.push(asked.to_owned());
                let reply = self.reply(asked)?;
                stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
                content = reply.starts_with("354");
            }
            command.clear();
            if stream.read_line(&mut command).await.ok()? == 0 {
                return None;
            }
            command.truncate(command.trim_end().len());
        }
    }
}

pub(super) fn email() -> Email {
    Email {
        post: None,
        message_id: "k1.acme.0.1.1.aa@kinetic.example".into(),
        from: "Kinetic <alerts@kinetic.example>".into(),
        to: "oncall@acme.example".into(),
        envelope_from: Some("bounces+00ff@kinetic.example".into()),
        subject: "[FIRING] s".into(),
        date: Wall::from_secs(1_795_159_693),
        headers: Vec::new(),
        text: "web-7 is slow\n".into(),
        html: "<p>web-7 is slow</p>".into(),
        plot: None,
    }
}

async fn relay() -> (Script, Relay) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let script = Script::default();
    #[expect(clippy::disallowed_methods, reason = "a test's server")]
    tokio::spawn(script.clone().serve(listener));
    (script, relay_at(port))
}

/// The relay that listens there.
pub(super) fn relay_at(port: u16) -> Relay {
    let declared = schema::Relay {
        name: "script".into(),
        host: "127.0.0.1".into(),
        port,
        tls: MailTls::None,
        username: None,
        password_file: None,
    };
    Relay::new(&declared, None).expect("a relay")
}

pub(super) fn said(attempt: &Attempt) -> String {
    match attempt {
        Attempt::Accepted { .. } => "accepted".to_owned(),
        Attempt::MaybeAccepted { .. } => "perhaps".to_owned(),
        Attempt::Busy { .. } => "busy".to_owned(),
        Attempt::Retry { failed, .. } => format!("retry {failed:?}"),
        Attempt::Refused { failed, .. } => format!("refused {failed:?}"),
    }
}

#[tokio::test]
async fn every_state_may_defer_refuse_or_end() {
    let (script, relay) = relay().await;
    let cases = [
        ("GREETING", Some("421 4.3.2 busy"), "retry Relay"),
        ("GREETING", Some("554 5.7.1 not you"), "retry Relay"),
        ("GREETING", None, "retry Relay"),
        ("EHLO", Some("421 closing"), "retry Relay"),
        ("EHLO", None, "retry Relay"),
        ("MAIL", Some("451 later"), "retry Message"),
        ("MAIL", Some("550 no"), "refused Message"),
        ("MAIL", None, "retry Relay"),
        ("RCPT", Some("450 4.7.1 greylisted"), "retry Recipient"),
        ("RCPT", Some("550 5.1.1 no such user"), "refused Recipient"),
        ("RCPT", Some("421 4.3.2 closing"), "retry Relay"),
        ("RCPT", None, "retry Relay"),
        ("DATA", Some("451 later"), "retry Message"),
        ("DATA", Some("554 no"), "refused Message"),
        ("DATA", None, "retry Relay"),
        ("CONTENT", Some("452 4.2.0 later"), "retry Recipient"),
        ("CONTENT", Some("451 later"), "retry Message"),
        ("CONTENT", Some("554 5.6.0 no"), "refused Message"),
        ("CONTENT", None, "perhaps"),
    ];
    for (at, reply, wanted) in cases {
        script.odd(Some(Line { at, reply }));
        // A connection of its own, so that also the first states are come past.
        relay.idle.lock().expect("no panic").clear();
        let attempt = relay.send(&email()).await;
        assert_eq!(said(&attempt), wanted, "{at} {reply:?}: {attempt:?}");
        script.odd(None);
        let attempt = relay.send(&email()).await;
        assert_eq!(said(&attempt), "accepted", "after {at} {reply:?}: {attempt:?}");
    }
}

#[tokio::test]
async fn connections_are_used_again_and_one_that_was_closed_meanwhile_costs_nothing() {
    let (script, relay) = relay().await;
    for _ in 0..5 {
        assert_eq!(said(&relay.send(&email()).await), "accepted");
    }
    script.odd(Some(Line { at: "RCPT", reply: Some("550 5.1.1 no such user") }));
    assert_eq!(said(&relay.send(&email()).await), "refused Recipient");
    script.odd(None);
    assert_eq!(said(&relay.send(&email()).await), "accepted");
    assert_eq!(script.connections.load(Ordering::SeqCst), 1, "also after a refusal");
    // The relay ends the connection at the next command, as many do when a client has been idle.
    script.odd(Some(Line { at: "RSET", reply: None }));
    script.heard.lock().expect("no panic").clear();
    script.odd(Some(Line { at: "MAIL", reply: Some("421 4.4.2 idle for too long") }));
    let odd = Arc::clone(&script.odd);
    let attempt = async { relay.send(&email()).await };
    let heal = async {
        while !script.heard.lock().expect("no panic").iter().any(|heard| heard.starts_with("MAIL")) {
            tokio::task::yield_now().await;
        }
        *odd.lock().expect("no panic") = None;
    };
    let (attempt, ()) = tokio::join!(attempt, heal);
    assert_eq!(said(&attempt), "accepted");
    assert_eq!(script.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_transaction_names_one_recipient_its_bounces_and_what_reports_are_wanted() {
    let (script, relay) = relay().await;
    assert_eq!(said(&relay.send(&email()).await), "accepted");
    let heard = script.heard.lock().expect("no panic").clone();
    assert_eq!(
        heard[3..],
        [
            "MAIL FROM:<bounces+00ff@kinetic.example> RET=HDRS ENVID=k1.acme.0.1.1.aa@kinetic.example",
            "RCPT TO:<oncall@acme.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;oncall@acme.example",
            "DATA",
            "CONTENT",
        ]
    );
    assert!(heard[0] == "GREETING" && heard[1].starts_with("EHLO ") && heard[2].starts_with("EHLO "));
}
