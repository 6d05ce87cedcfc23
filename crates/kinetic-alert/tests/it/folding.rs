//! What a failing service explains of those that depend on it, and what it does not.

use std::time::Duration;

use insta::assert_snapshot;
use kinetic_schema::Schema;
use kinetic_schema::schema::{Alert as AlertBlock, Escalation, GroupBy, Hours, HoursSpan, Matching};

use crate::places::{PLACES, Place, glob, schema_of, world_of};
use crate::quiet::silence;
use crate::world::{Relay, World, alert_block, config};

const WEB: &str = "checkout/frontends/web-1";
const WEB2: &str = "checkout/frontends/web-2";
const CART: &str = "cart/api/c-1";
const DB: &str = "db/primaries/d-1";
const DB2: &str = "db/replicas/d-2";

fn block(name: &str, services: &[&str], group_by: GroupBy) -> AlertBlock {
    let to = format!("{name}@acme.example");
    let matching =
        Matching { services: services.iter().map(|name| glob(name)).collect(), ..Matching::default() };
    AlertBlock { analytics: Vec::new(), matching, group_by, ..alert_block(name, &[&to]) }
}

/// One team that is told of everything.
fn everything(group_by: GroupBy) -> Vec<AlertBlock> {
    vec![block("team", &[], group_by)]
}

fn world() -> World {
    world_of(everything(GroupBy::Cluster))
}

/// The topology with other dependencies of `checkout`.
fn checkout_on(depends_on: &'static [&'static str], alerts: Vec<AlertBlock>) -> Schema {
    let mut places: Vec<Place> = PLACES.to_vec();
    places[0].1 = depends_on;
    schema_of(&places, alerts)
}

fn text(world: &World, subject: &str) -> String {
    let mail = world.inbox.iter().rev().find(|(_, email)| email.subject.contains(subject));
    mail.map(|(_, email)| email.text.lines().take(4).collect::<Vec<_>>().join("\n")).unwrap_or_default()
}

#[test]
fn what_a_dependency_explains_is_said_when_that_has_recovered() {
    let mut world = world();
    world.fire_at(1.0, DB);
    world.fire_at(5.0, CART);
    world.fire_at(6.0, WEB);
    world.fire_at(7.0, DB2);
    world.run_until(30.0);
    assert_snapshot!(world.subjects(), @r#"
    2 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    8 team first_firing [FIRING] db/replicas: d-2 checkout.latency above its peers
    "#);
    assert_snapshot!(text(&world, "db/replicas"), @r#"
    d-2 in db/replicas: checkout.latency mean is 412.5, its 11 peers average 101.2 (98 to 104.9): 3.3 standard deviations above (limit 3), since 11:59:57 UTC
    Folded under this: cart/api (1 feed), checkout/frontends (1 feed). What depends on this is mailed on its own if it still fires once this has recovered.

    Firing (1)
    "#);
    assert_eq!(world.stats().folds, 2);
    world.resolve_at(40.0, DB);
    world.run_until(49.0);
    // One of its clusters still fails, and that is explanation enough.
    world.resolve_at(50.0, DB2);
    world.run_until(54.5);
    assert_snapshot!(text(&world, "db/primaries"), @r#"
    d-1 in db/primaries: checkout.latency mean is back in line at 103.4, its 11 peers average 101.2 (98 to 104.9), after 10 s
    Still failing of what depends on this: cart/api (1 feed), checkout/frontends (1 feed).

    Resolved (1)
    "#);
    assert_snapshot!(text(&world, "cart/api"), @r#"
    c-1 in cart/api: checkout.latency mean is 412.2, its 11 peers average 101.2 (98 to 104.9): 3.3 standard deviations above (limit 3), since 11:59:55 UTC
    db, which cart depends on, has recovered; cart has not.
    Folded under this: checkout/frontends (1 feed). What depends on this is mailed on its own if it still fires once this has recovered.
    "#);
    world.resolve_at(60.0, CART);
    world.run_until(80.0);
    world.resolve_at(90.0, WEB);
    world.run_until(100.0);
    assert_snapshot!(world.subjects(), @r#"
    2 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    8 team first_firing [FIRING] db/replicas: d-2 checkout.latency above its peers
    41 team resolved [RESOLVED] db/primaries: d-1 checkout.latency above its peers
    51 team resolved [RESOLVED] db/replicas: d-2 checkout.latency above its peers
    51 team dependency_recovered [STILL FIRING] cart/api: c-1 checkout.latency above its peers
    61 team dependency_recovered [STILL FIRING] checkout/frontends: web-1 checkout.latency above its peers
    61 team resolved [RESOLVED] cart/api: c-1 checkout.latency above its peers
    91 team resolved [RESOLVED] checkout/frontends: web-1 checkout.latency above its peers
    "#);
    assert_eq!(world.stats().groups, 0);
}

#[test]
fn a_dependency_that_fires_within_group_wait_folds_what_was_before_it() {
    let mut world = world();
    world.fire_at(1.0, WEB);
    world.fire_at(1.9, DB);
    world.run_until(10.0);
    assert_snapshot!(world.subjects(), @"2.9 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers");
    assert_snapshot!(text(&world, "db"), @r#"
    d-1 in db/primaries: checkout.latency mean is 412.2, its 11 peers average 101.2 (98 to 104.9): 3.3 standard deviations above (limit 3), since 11:59:51 UTC
    Folded under this: checkout/frontends (1 feed). What depends on this is mailed on its own if it still fires once this has recovered.

    Firing (1)
    "#);
    world.resolve_at(20.0, DB);
    world.run_until(40.0);
    assert_snapshot!(world.subjects(), @r#"
    2.9 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    21 team dependency_recovered [STILL FIRING] checkout/frontends: web-1 checkout.latency above its peers
    21 team resolved [RESOLVED] db/primaries: d-1 checkout.latency above its peers
    "#);
}

#[test]
fn what_was_told_before_it_was_folded_ends_in_mails_of_its_own() {
    let mut world = world();
    world.fire_at(1.0, WEB);
    world.fire_at(1.0, WEB2);
    world.fire_at(5.0, DB);
    world.fire_at(8.0, "checkout/frontends/web-3");
    world.run_until(30.0);
    world.resolve_at(30.0, WEB);
    world.run_until(50.0);
    // Neither repeated nor forgotten.
    world.run_until(1_000.0);
    assert_snapshot!(world.mails(), @r#"
    2 team first_firing firing=2 resolved=0 seq=1
    6 team first_firing firing=1 resolved=0 seq=1
    30 team fewer_firing firing=2 resolved=1 seq=2
    606 team repeat_interval_elapsed firing=1 resolved=0 seq=2
    "#);
    assert_snapshot!(text(&world, "checkout/frontends"), @r#"
    web-3 in checkout/frontends: checkout.latency mean is 412.8, its 11 peers average 101.2 (98 to 104.9): 3.3 standard deviations above (limit 3), since 11:59:58 UTC
    1 more feed is out of line too; 1 feed is back in line.
    db, which checkout depends on, has been failing since 11:59:55 UTC; you are told of it in mails of its own, and of what is new here once it has recovered.
    "#);
    world.resolve_at(1_000.0, DB);
    world.run_until(1_010.0);
    world.resolve_at(1_020.0, WEB2);
    world.resolve_at(1_020.0, "checkout/frontends/web-3");
    world.run_until(1_050.0);
    assert_snapshot!(world.subjects(), @r#"
    2 team first_firing [FIRING 2] checkout/frontends: web-2 checkout.latency above its peers
    6 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    30 team fewer_firing [FIRING 2] checkout/frontends: web-2 checkout.latency above its peers
    606 team repeat_interval_elapsed [STILL FIRING] db/primaries: d-1 checkout.latency above its peers
    1001 team dependency_recovered [STILL FIRING 2] checkout/frontends: web-2 checkout.latency above its peers
    1001 team resolved [RESOLVED] db/primaries: d-1 checkout.latency above its peers
    1021 team resolved [RESOLVED] checkout/frontends: web-2 checkout.latency above its peers
    "#);
}

#[test]
fn all_that_was_told_may_end_while_folded() {
    for send_resolved in [true, false] {
        let mut world = world_of(vec![AlertBlock { send_resolved, ..block("team", &[], GroupBy::Cluster) }]);
        world.fire_at(1.0, WEB);
        world.fire_at(5.0, DB);
        world.resolve_at(20.0, WEB);
        world.run_until(40.0);
        world.resolve_at(50.0, DB);
        world.run_until(100.0);
        assert_eq!(world.stats().groups, 0);
        assert_eq!(world.subjects().matches("checkout/frontends").count(), if send_resolved { 2 } else { 1 });
        assert!(!world.subjects().contains("dependency_recovered"));
    }
}

#[test]
fn what_ends_while_folded_and_was_never_told_is_never_mailed() {
    let mut world = world();
    world.fire_at(1.0, DB);
    world.fire_at(5.0, WEB);
    world.resolve_at(20.0, WEB);
    world.run_until(30.0);
    world.resolve_at(40.0, DB);
    world.run_until(60.0);
    assert!(!world.subjects().contains("checkout/frontends"), "{}", world.subjects());
    assert_eq!(world.stats().groups, 0);
}

#[test]
fn a_chain_unfolds_from_its_end() {
    let mut world = world();
    world.fire_at(1.0, WEB);
    world.fire_at(1.2, CART);
    world.fire_at(1.4, DB);
    world.run_until(20.0);
    world.resolve_at(20.0, DB);
    world.run_until(40.0);
    assert_snapshot!(text(&world, "cart"), @r#"
    c-1 in cart/api: checkout.latency mean is 412.2, its 11 peers average 101.2 (98 to 104.9): 3.3 standard deviations above (limit 3), since 11:59:51 UTC
    db, which cart depends on, has recovered; cart has not.
    Folded under this: checkout/frontends (1 feed). What depends on this is mailed on its own if it still fires once this has recovered.
    "#);
    // Each was folded once: what one service explains no more, another still does.
    assert_eq!(world.stats().folds, 2);
    world.resolve_at(40.0, CART);
    world.run_until(60.0);
    assert_snapshot!(world.subjects(), @r#"
    2.4 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    21 team resolved [RESOLVED] db/primaries: d-1 checkout.latency above its peers
    21 team dependency_recovered [STILL FIRING] cart/api: c-1 checkout.latency above its peers
    41 team dependency_recovered [STILL FIRING] checkout/frontends: web-1 checkout.latency above its peers
    41 team resolved [RESOLVED] cart/api: c-1 checkout.latency above its peers
    "#);
}

#[test]
fn who_is_not_told_of_the_dependency_is_told_that_it_fails() {
    let mut world = world_of(vec![
        block("shop", &["checkout", "cart"], GroupBy::Cluster),
        block("dba", &["db"], GroupBy::Cluster),
        block("both", &["checkout", "db"], GroupBy::Cluster),
    ]);
    world.fire_at(1.0, DB);
    world.run_until(5.0);
    world.fire_at(5.0, WEB);
    world.run_until(20.0);
    assert_snapshot!(text(&world, "checkout/frontends"), @r#"
    web-1 in checkout/frontends: checkout.latency mean is 412.2, its 11 peers average 101.2 (98 to 104.9): 3.3 standard deviations above (limit 3), since 11:59:55 UTC
    db, which checkout depends on, has been failing since 11:59:51 UTC.

    Firing (1)
    "#);
    // Of cart he is told, and cart explains checkout to him.
    world.fire_at(20.0, CART);
    world.fire_at(25.0, WEB2);
    world.run_until(30.0);
    world.resolve_at(40.0, DB);
    world.run_until(60.0);
    let mut lines: Vec<String> = world.subjects().lines().map(str::to_owned).collect();
    lines.sort_by_key(|line| line.split(' ').nth(1).map(str::to_owned));
    assert_snapshot!(lines.join("\n"), @r#"
    2 both first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    41 both dependency_recovered [STILL FIRING 2] checkout/frontends: web-2 checkout.latency above its peers
    41 both resolved [RESOLVED] db/primaries: d-1 checkout.latency above its peers
    2 dba first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    41 dba resolved [RESOLVED] db/primaries: d-1 checkout.latency above its peers
    6 shop first_firing [FIRING] checkout/frontends: web-1 checkout.latency above its peers
    21 shop first_firing [FIRING] cart/api: c-1 checkout.latency above its peers
    "#);
}

#[test]
fn a_service_that_is_mailed_as_one_is_folded_as_one() {
    let mut world = world_of(everything(GroupBy::Service));
    world.fire_at(1.0, DB);
    world.fire_at(5.0, WEB);
    world.fire_at(5.0, "checkout/workers/w-1");
    world.fire_at(7.0, DB2);
    world.run_until(20.0);
    assert_snapshot!(text(&world, "db"), @r#"
    d-2 in db/replicas: checkout.latency mean is 412.5, its 11 peers average 101.2 (98 to 104.9): 3.3 standard deviations above (limit 3), since 11:59:57 UTC
    1 more feed is out of line too. In all 2 feeds of 2 clusters.
    Folded under this: checkout/frontends (1 feed), checkout/workers (1 feed). What depends on this is mailed on its own if it still fires once this has recovered.
    "#);
    world.resolve_at(30.0, DB);
    world.resolve_at(30.0, DB2);
    world.run_until(50.0);
    assert_snapshot!(world.subjects(), @r#"
    2 team first_firing [FIRING] db: primaries d-1 checkout.latency above its peers
    12 team more_firing [FIRING 2] db: primaries d-1 checkout.latency above its peers
    31 team dependency_recovered [STILL FIRING 2] checkout: workers w-1 checkout.latency above its peers
    31 team resolved [RESOLVED] db: primaries d-1 checkout.latency above its peers
    "#);
}

#[test]
fn a_site_and_a_customer_are_never_folded_but_explain() {
    for group_by in [GroupBy::Site, GroupBy::Customer] {
        let mut blocks = vec![block("team", &["db"], group_by), block("other", &["checkout"], group_by)];
        for block in &mut blocks {
            block.to = vec!["team@acme.example".to_owned()];
        }
        blocks.push(AlertBlock { to: blocks[0].to.clone(), ..block("rest", &["cart"], GroupBy::Cluster) });
        let mut world = world_of(blocks);
        world.fire_at(1.0, DB);
        world.fire_at(5.0, CART);
        world.fire_at(6.0, WEB);
        world.resolve_at(20.0, DB);
        world.run_until(40.0);
        let mut reasons: Vec<String> = world
            .subjects()
            .lines()
            .map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "))
            .collect();
        reasons.sort();
        assert_eq!(
            reasons,
            [
                "2 team first_firing",
                "21 team dependency_recovered",
                "21 team resolved",
                "7 team first_firing"
            ],
            "{}",
            world.subjects()
        );
    }
}

#[test]
fn a_dependency_that_was_never_told_of_leaves_the_reason_as_it_is() {
    let mut world = world();
    world.fire_at(1.0, WEB);
    world.fire_at(1.5, DB);
    world.resolve_at(2.2, DB);
    world.run_until(30.0);
    assert_snapshot!(world.subjects(), @"3.2 team first_firing [FIRING] checkout/frontends: web-1 checkout.latency above its peers");
}

#[test]
fn a_dependency_that_is_soon_back_folds_again() {
    let mut world = world();
    world.fire_at(1.0, DB);
    world.fire_at(5.0, WEB);
    world.resolve_at(20.0, DB);
    world.fire_at(20.5, DB);
    world.run_until(60.0);
    assert_snapshot!(world.subjects(), @"2 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers");
    world.resolve_at(70.0, DB);
    world.resolve_at(70.5, WEB);
    world.run_until(90.0);
    assert_eq!(world.inbox.len(), 2, "{}", world.subjects());
}

#[test]
fn a_dependency_that_waits_for_a_relay_explains_nonetheless() {
    let mut world = world();
    world.relay = Relay::Down;
    world.fire_at(1.0, DB);
    world.fire_at(5.0, WEB);
    world.run_until(100.0);
    world.relay = Relay::Up;
    world.run_until(400.0);
    assert_eq!(world.subjects().lines().count(), 1, "{}", world.subjects());
}

#[test]
fn a_mail_about_a_recovery_that_expires_is_said_again() {
    let config = kinetic_alert::AlertConfig { mail_expiry: Duration::from_secs(20), ..config() };
    let mut world = World::with(config, schema_of(&PLACES, everything(GroupBy::Cluster)));
    world.fire_at(1.0, WEB);
    world.fire_at(5.0, DB);
    world.run_until(30.0);
    world.relay = Relay::Down;
    world.resolve_at(40.0, DB);
    world.run_until(64.0);
    world.crash(usize::MAX);
    world.relay = Relay::Up;
    world.run_until(120.0);
    assert!(world.subjects().contains("dependency_recovered"), "{}", world.story());
}

#[test]
fn dependencies_come_and_go_with_the_schema() {
    let none: &[&str] = &[];
    let mut world = World::with(config(), checkout_on(none, everything(GroupBy::Cluster)));
    world.fire_at(1.0, DB);
    world.run_until(5.0);
    world.fire_at(5.0, WEB);
    world.run_until(10.0);
    world.change_schema(checkout_on(&["db"], everything(GroupBy::Cluster)));
    world.fire_at(20.0, WEB2);
    world.run_until(40.0);
    let told = "2 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
6 team first_firing [FIRING] checkout/frontends: web-1 checkout.latency above its peers
";
    assert_eq!(world.subjects(), told);
    // It no longer explains what it has explained.
    world.change_schema(checkout_on(none, everything(GroupBy::Cluster)));
    world.run_until(60.0);
    assert_snapshot!(&world.subjects()[told.len()..], @"41 team more_firing [FIRING 2] checkout/frontends: web-1 checkout.latency above its peers");
    // It does again; and then nobody is told of it any more.
    world.change_schema(checkout_on(&["db"], everything(GroupBy::Cluster)));
    world.fire_at(70.0, "checkout/frontends/web-3");
    world.run_until(90.0);
    assert_eq!(world.inbox.len(), 3);
    world.change_schema(checkout_on(&["db"], vec![block("team", &["c*"], GroupBy::Cluster)]));
    world.run_until(120.0);
    assert_snapshot!(world.subjects().lines().last().unwrap(), @"91 team more_firing [FIRING 3] checkout/frontends: web-1 checkout.latency above its peers");
}

#[test]
fn a_dependency_that_is_dropped_between_its_recovery_and_the_mail_is_not_spoken_of() {
    let mut world = world();
    world.fire_at(1.0, DB);
    world.fire_at(5.0, WEB);
    world.resolve_at(20.0, DB);
    world.run_until(20.5);
    world.change_schema(checkout_on(&[], everything(GroupBy::Cluster)));
    world.run_until(40.0);
    assert_snapshot!(world.subjects(), @r#"
    2 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    21 team resolved [RESOLVED] db/primaries: d-1 checkout.latency above its peers
    21.5 team first_firing [FIRING] checkout/frontends: web-1 checkout.latency above its peers
    "#);
}

#[test]
fn a_restart_at_any_time_changes_no_fold() {
    let story: [(f64, &str, bool); 10] = [
        (1.0, WEB, true),
        (5.0, DB, true),
        (6.0, CART, true),
        (8.0, WEB2, true),
        (20.0, WEB, false),
        (40.0, DB, false),
        (60.0, CART, false),
        (62.5, DB2, true),
        (80.0, WEB2, false),
        (90.0, DB2, false),
    ];
    for group_by in [GroupBy::Cluster, GroupBy::Service] {
        let run = |restart: f64, survive: usize| {
            let mut world = world_of(everything(group_by));
            let crash = |world: &mut World, next: f64| {
                if World::secs(world.now.wall) < restart && restart <= next {
                    world.run_until(restart);
                    world.crash(survive);
                    world.settle();
                }
            };
            for (secs, place, fires) in story {
                crash(&mut world, secs);
                if fires { world.fire_at(secs, place) } else { world.resolve_at(secs, place) }
            }
            crash(&mut world, 119.0);
            world.run_until(120.0);
            assert_eq!(world.stats().groups, 0, "{restart}\n{}", world.story());
            let mut lines: Vec<String> =
                world.subjects().lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
            lines.sort();
            lines
        };
        let told = run(1_000.0, 0);
        assert!(told.iter().any(|line| line.contains("dependency_recovered")), "{told:?}");
        for restart in [3.0, 5.2, 6.5, 8.2, 15.0, 20.2, 32.0, 40.2, 45.0, 60.2, 61.7, 66.0, 70.0, 85.0] {
            assert_eq!(run(restart, usize::MAX), told, "{group_by:?} {restart}");
        }
    }
}

#[test]
fn what_is_silenced_explains_nothing() {
    let mut world = world();
    assert_eq!(world.request("silence", &silence("night", "d-*", 0.0, 100.0))["ok"], true);
    world.fire_at(1.0, DB);
    world.fire_at(5.0, WEB);
    world.run_until(99.0);
    assert_snapshot!(text(&world, "checkout/frontends"), @r#"
    web-1 in checkout/frontends: checkout.latency mean is 412.2, its 11 peers average 101.2 (98 to 104.9): 3.3 standard deviations above (limit 3), since 11:59:55 UTC
    db, which checkout depends on, has been failing since 11:59:51 UTC.

    Firing (1)
    "#);
    world.fire_at(110.0, WEB2);
    world.run_until(130.0);
    assert_snapshot!(world.subjects(), @r#"
    6 team first_firing [FIRING] checkout/frontends: web-1 checkout.latency above its peers
    101 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    "#);
}

#[test]
fn a_silence_unfolds_what_was_folded_under_what_it_means() {
    let slow = AlertBlock { group_wait: Duration::from_secs(10), ..block("dba", &["db"], GroupBy::Cluster) };
    let to = slow.to.clone();
    let mut world = world_of(vec![slow, AlertBlock { to, ..block("team", &["checkout"], GroupBy::Service) }]);
    world.fire_at(1.0, DB);
    world.fire_at(1.5, WEB);
    world.run_until(3.0);
    assert_eq!((world.stats().folds, world.inbox.len()), (1, 0));
    assert_eq!(world.request("silence", &silence("night", "d-*", 0.0, 100.0))["ok"], true);
    world.run_until(50.0);
    assert_snapshot!(world.subjects(), @"4 dba first_firing [FIRING] checkout: frontends web-1 checkout.latency above its peers");
}

#[test]
fn a_block_outside_its_hours_explains_nothing() {
    let span = HoursSpan { days: [true; 7], from_min: 780, to_min: 840 };
    let during = vec![Hours { name: "office".into(), time_zone: "UTC".into(), spans: vec![span] }];
    let office = AlertBlock { during, ..block("dba", &["db"], GroupBy::Cluster) };
    let to = office.to.clone();
    let always = AlertBlock { to, ..block("team", &["checkout"], GroupBy::Cluster) };
    let mut world = world_of(vec![office, always]);
    world.fire_at(1.0, DB);
    world.fire_at(5.0, WEB);
    world.run_until(50.0);
    assert_snapshot!(world.subjects(), @"6 dba first_firing [FIRING] checkout/frontends: web-1 checkout.latency above its peers");
    // It is noon. Once it is open and has spoken, it explains.
    world.fire_at(3_000.0, DB);
    world.fire_at(3_000.0, WEB);
    world.run_until(3_602.0);
    world.fire_at(3_610.0, WEB2);
    world.run_until(3_700.0);
    assert!(world.subjects().lines().last().unwrap().contains("db/primaries"), "{}", world.subjects());
}

#[test]
fn what_is_folded_is_not_escalated() {
    let escalations =
        vec![Escalation { after: Duration::from_secs(100), to: vec!["lead@acme.example".into()] }];
    let shop = AlertBlock { escalations, ..block("shop", &["checkout"], GroupBy::Cluster) };
    let to = shop.to.clone();
    let mut world = world_of(vec![shop, AlertBlock { to, ..block("dba", &["db"], GroupBy::Cluster) }]);
    world.fire_at(1.0, DB);
    world.fire_at(5.0, WEB);
    world.run_until(300.0);
    world.crash(usize::MAX);
    world.resolve_at(310.0, DB);
    world.run_until(420.0);
    assert_snapshot!(world.subjects(), @r#"
    2 shop first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    311 shop dependency_recovered [STILL FIRING] checkout/frontends: web-1 checkout.latency above its peers
    311 shop resolved [RESOLVED] db/primaries: d-1 checkout.latency above its peers
    411 lead escalated [ESCALATED] checkout/frontends: web-1 checkout.latency above its peers
    "#);
}

#[test]
fn what_came_back_with_its_dependency_and_fires_anew_fires_for_a_reason_of_its_own() {
    let mut world = world();
    world.fire_at(1.0, WEB);
    world.fire_at(5.0, DB);
    world.resolve_at(20.0, DB);
    world.resolve_at(20.3, WEB);
    world.fire_at(20.6, WEB);
    world.fire_at(30.0, WEB2);
    world.run_until(60.0);
    let last = world.subjects().lines().last().map(str::to_owned);
    assert_eq!(
        last.as_deref(),
        Some("31 team more_firing [FIRING 2] checkout/frontends: web-1 checkout.latency above its peers")
    );
    assert!(!world.subjects().contains("dependency_recovered"), "{}", world.subjects());
}
