//! Credentials that `locate` hands out: taken, renewed on the standing connection, and left when they lapse.

use std::time::Duration;

use kinetic_agent::machine::Input;
use kinetic_wire::{Credential, LocateReply};

use crate::harness::{Shell, answer, config, endpoint};

const LIFE: Duration = Duration::from_secs(900);

/// An answer with a credential that is good for so long, on a clock that is nobody else's.
fn credited(token: &str, life: Duration) -> LocateReply {
    let now_ms = 77_000;
    let expires_ms = now_ms + i64::try_from(life.as_millis()).expect("short");
    let credential = Credential { login: "acme.2026-a".to_owned(), token: token.to_owned(), expires_ms };
    LocateReply { now_ms, credential: Some(credential), ..answer(1, &[endpoint("a", 0)]) }
}

/// Located, connected, logged in by a token.
fn ready() -> Shell {
    let mut shell = Shell::new(config());
    shell.handle(Input::Tick);
    shell.handle(Input::Located(&credited("t1", LIFE)));
    shell.handle(Input::Connected);
    shell
}

#[test]
fn a_connection_goes_on_with_one_token_after_another() {
    let mut shell = ready();
    assert_eq!((shell.connects.len(), &shell.tokens), (1, &vec![Some("t1".to_owned())]));
    for round in 2..10 {
        let asked = shell.locates.len();
        shell.run_for(LIFE * 2 / 5 - Duration::from_secs(1));
        assert!(round > 2 || shell.locates.len() == asked + 1, "refresh_s (240 s) comes first");
        shell.run_for(LIFE / 10);
        assert!(shell.locates.len() > asked, "before half of its life is over");
        shell.handle(Input::Located(&credited(&format!("t{round}"), LIFE)));
    }
    assert_eq!(shell.renewed.len(), 8);
    assert_eq!((shell.connects.len(), shell.agent.stats().renewals), (1, 8), "one connection");
    assert_eq!(shell.agent.stats().lapses, 0);
}

#[test]
fn a_short_life_makes_it_ask_sooner_than_refresh_says() {
    let mut shell = ready();
    shell.run_for(Duration::from_secs(300));
    shell.handle(Input::Located(&credited("t2", Duration::from_secs(5))));
    let asked = shell.locates.len();
    shell.run_for(Duration::from_millis(1_999));
    assert_eq!(shell.locates.len(), asked);
    shell.run_for(Duration::from_millis(502));
    assert_eq!(shell.locates.len(), asked + 1);
}

#[test]
fn the_same_token_told_again_is_nothing_new() {
    let mut shell = ready();
    shell.run_for(Duration::from_secs(300));
    let again = LocateReply { now_ms: 377_000, ..credited("t1", LIFE) };
    shell.handle(Input::Located(&again));
    assert!(shell.renewed.is_empty() && shell.connects.len() == 1);
}

#[test]
fn a_token_that_lapses_leaves_the_key() {
    let mut shell = ready();
    shell.datagram("a:1|c");
    shell.run_for(Duration::from_secs(889));
    assert_eq!(shell.connects.len(), 1, "the redirector is silent, and the token still good");
    shell.run_for(Duration::from_secs(2));
    assert_eq!(shell.tokens, [Some("t1".to_owned()), None], "ten seconds before it expires");
    assert_eq!(shell.agent.stats().lapses, 1);
    shell.handle(Input::Connected);
    shell.run_for(LIFE);
    assert_eq!(shell.connects.len(), 2, "the key does not lapse");
    shell.handle(Input::Located(&credited("t2", LIFE)));
    assert_eq!(shell.tokens.last(), Some(&Some("t2".to_owned())), "and a token again when there is one");
    assert!(shell.renewed.is_empty(), "what a key opened takes no token");
}

#[test]
fn a_connection_that_breaks_is_made_with_the_newest_and_never_with_a_lapsed_one() {
    let mut shell = ready();
    shell.run_for(Duration::from_secs(300));
    shell.handle(Input::Located(&credited("t2", LIFE)));
    shell.handle(Input::Disconnected);
    shell.run_for(Duration::from_secs(60));
    assert_eq!(shell.tokens.last(), Some(&Some("t2".to_owned())));
    shell.handle(Input::Disconnected);
    let connects = shell.connects.len();
    // Asleep for the whole life of the token: it is too old when the machine looks again.
    shell.sleep(LIFE);
    assert_eq!((shell.connects.len(), shell.tokens.last()), (connects + 1, Some(&None)));
}

#[test]
fn another_login_s_token_is_for_another_connection() {
    let mut shell = ready();
    shell.run_for(Duration::from_secs(300));
    let mut other = credited("t2", LIFE);
    other.credential.as_mut().expect("it has one").login = "acme.host-8".to_owned();
    shell.handle(Input::Located(&other));
    assert!(shell.renewed.is_empty());
    assert_eq!(shell.tokens, [Some("t1".to_owned()), Some("t2".to_owned())]);
}

#[test]
fn nonsense_is_no_credential() {
    for life_ms in [0, -1, i64::MIN, i64::MAX] {
        let mut shell = Shell::new(config());
        shell.handle(Input::Tick);
        let mut reply = credited("t1", LIFE);
        reply.credential.as_mut().expect("it has one").expires_ms = life_ms;
        reply.now_ms = if life_ms > 0 { i64::MIN } else { 0 };
        shell.handle(Input::Located(&reply));
        shell.handle(Input::Connected);
        shell.run_for(Duration::from_secs(3_600));
        assert_eq!(shell.tokens[0].is_some(), life_ms > 0);
        assert_eq!(shell.connects.len(), 1);
    }
}
