//! One host of a fleet falls silent while its peers go on, comes back, and then the whole fleet falls silent: one mail each
//! time, which says who and since when, and one when it is over.

use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::smtp::Mail;
use kinetic_tests::traffic::{Fleet, HOSTS, METRIC, SLOW_HOST};
use kinetic_tests::{BrokerKind, World, steadily};

use crate::common::{QUIET, first_line};

on_both_brokers!(who_falls_silent_is_mailed_once_and_told_of_again);

/// Who is told of single hosts.
const HOST_TO: &str = "hosts@acme.example";
/// Who is told of the fleet.
const FLEET_TO: &str = "fleet@acme.example";
/// Length of a window, milliseconds.
const WINDOW_MS: i64 = 1_000;

/// Two rules: any host that says nothing for four seconds, and the whole fleet. Eighty rounds are left out before a host that
/// only shares its machine with others is taken for a silent one.
fn rules() -> String {
    let rule = |name: &str, each: &str, to: &str| {
        format!(
            "analytic \"{name}\" {{\n  on     = service.web.cluster.hosts\n  metric = \"{METRIC}\"\n  window = \"{WINDOW_MS}ms\"\n\n  \
             rule \"silent\" {{\n    after = \"4s\"\n    each  = \"{each}\"\n  }}\n}}\n\nalert \"{name}\" {{\n  analytics       = \
             [analytic.{name}]\n  to              = [\"{to}\"]\n  group_wait      = \"1s\"\n  group_interval  = \"1s\"\n  \
             repeat_interval = \"1h\"\n}}\n\n"
        )
    };
    rule("gone", "feed", HOST_TO) + &rule("dark", "cluster", FLEET_TO)
}

fn who_falls_silent_is_mailed_once_and_told_of_again(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    world.schema.write(&("customers/acme/alerts.hcl".to_owned(), rules()));
    world.schema.push();
    let engine = world.engine();
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");
    let wait_for = |to: &str, start: &str| {
        world
            .smtp
            .wait_for(start, |mail| mail.header("To") == Some(to) && first_line(mail).starts_with(start))
    };
    // A window with all of them in it is closed: from now on they are known.
    fleet.flow(30 * HOSTS.len() as u64);

    fleet.mute(&[SLOW_HOST]);
    let silent = format!("{SLOW_HOST} in web/hosts: {METRIC} has been silent since ");
    let mail = wait_for(HOST_TO, &silent);
    says_since(&mail, fleet.last_ms(SLOW_HOST));
    assert_eq!(mail.header("Subject"), Some(&*format!("[FIRING] web/hosts: {SLOW_HOST} {METRIC} is silent")));
    assert!(fleet.last_ms(HOSTS[0]) > fleet.last_ms(SLOW_HOST), "its peers went on");
    only(&world, &[HOST_TO]);

    fleet.mute(&[]);
    wait_for(HOST_TO, &format!("{SLOW_HOST} in web/hosts: {METRIC} is heard again, after "));

    fleet.mute(&HOSTS);
    let mail = wait_for(FLEET_TO, &format!("web/hosts as a whole: {METRIC} has been silent since "));
    says_since(&mail, fleet.last_ms(HOSTS[0]));
    let mail = wait_for(HOST_TO, &format!("{} in web/hosts: {METRIC} has been silent since ", HOSTS[0]));
    says_since(&mail, fleet.last_ms(HOSTS[0]));
    let text = mail.part("text/plain");
    assert!(text.contains("Firing (8)"), "{text}");
    HOSTS.iter().for_each(|host| assert!(text.contains(host), "{text}"));

    fleet.mute(&[]);
    wait_for(FLEET_TO, &format!("web/hosts as a whole: {METRIC} is heard again, after "));
    wait_for(HOST_TO, &format!("{} in web/hosts: {METRIC} is heard again, after ", HOSTS[0]));
    only(&world, &[FLEET_TO, FLEET_TO, HOST_TO, HOST_TO, HOST_TO, HOST_TO]);
    assert_eq!(engine.alert.metric("kinetic_alert_stale_epoch_total"), 0);
}

/// A feed is silent since the end of the window that had its last sample in it.
fn says_since(mail: &Mail, last_ms: i64) {
    let since = (last_ms / WINDOW_MS + 1) * WINDOW_MS / 1_000;
    let (hours, minutes, seconds) = (since / 3_600 % 24, since / 60 % 60, since % 60);
    let want = format!("{hours:02}:{minutes:02}:{seconds:02} UTC");
    let line = first_line(mail);
    assert!(line.contains(&want), "{line}: not since {want}");
}

/// Makes sure that so many mails have come to these addresses, and that no other comes.
fn only(world: &World, to: &[&str]) {
    steadily("no other mail comes", QUIET, || {
        let mails = world.smtp.inbox();
        let mut got: Vec<&str> = mails.iter().filter_map(|mail| mail.header("To")).collect();
        got.sort_unstable();
        if got == to { Ok(()) } else { Err(mails.iter().map(first_line).collect::<Vec<_>>()) }
    });
}
