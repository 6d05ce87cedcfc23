//! Postfix's `smtp-sink` in every state of a transaction: a program that is not ours says what failures look like.

use std::time::Duration;

use kinetic_alert::machine::Failed;
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::postfix::Sink;

use super::script_tests::{email, relay_at, said};

/// Replies that say nothing more than their code.
const SOFT: [&str; 2] = ["-b", "451 later"];
const HARD: [&str; 2] = ["-B", "550 no"];

async fn send(words: &[&str]) -> String {
    let sink = Sink::start(words);
    let attempt = relay_at(sink.address().port()).send(&email()).await;
    said(&attempt)
}

#[tokio::test]
async fn a_real_relay_may_defer_refuse_or_end_in_every_state() {
    if !all_here("a_real_relay_may_defer_refuse_or_end_in_every_state", &[Need::Postfix]) {
        return;
    }
    let relay = format!("retry {:?}", Failed::Relay);
    for state in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let early = matches!(state, "CONNECT" | "EHLO");
        let of = |whose: &str, end: &str| match state {
            _ if early => relay.clone(),
            "RCPT" => format!("{end} Recipient"),
            _ => format!("{end} {whose}"),
        };
        assert_eq!(
            send(&[&SOFT[..], &["-r", state]].concat()).await,
            of("Message", "retry"),
            "4xx to {state}"
        );
        assert_eq!(
            send(&[&HARD[..], &["-f", state]].concat()).await,
            of("Message", "refused"),
            "5xx to {state}"
        );
        assert_eq!(send(&["-Q", state]).await, relay, "421 to {state}");
        let ended = if state == "." { "perhaps" } else { relay.as_str() };
        assert_eq!(send(&["-q", state]).await, ended, "{state} ends the connection");
        // Its own word: the system is at fault, whatever the state.
        assert_eq!(send(&["-r", state]).await, relay, "450 4.3.0 to {state}");
    }
    assert_eq!(send(&["-W", "MAIL:1", "-W", "RCPT:1", "-w", "1"]).await, "accepted", "slow replies");
    assert_eq!(send(&["-e"]).await, relay, "no EHLO, no mail");
    // One connection serves many mails.
    let sink = Sink::start(&["-n", "1"]);
    let relay = relay_at(sink.address().port());
    for _ in 0..3 {
        let attempt = tokio::time::timeout(Duration::from_secs(60), relay.send(&email())).await;
        assert_eq!(said(&attempt.expect("in time")), "accepted");
    }
}
