//! Routing, and groups of more than one cluster.

use insta::assert_snapshot;
use kinetic_schema::schema::{Alert as AlertBlock, GroupBy, Matching, Severity};

use crate::mail::event_with_trail;
use crate::places::{PLACES, glob, schema_of, world_of};
use crate::world::{Relay, World, alert_block, config, header};

/// A block that tells of everything.
fn block(name: &str, group_by: GroupBy) -> AlertBlock {
    let to = format!("{name}@acme.example");
    AlertBlock { analytics: Vec::new(), group_by, ..alert_block(name, &[&to]) }
}

fn matching(name: &str, matching: Matching) -> AlertBlock {
    AlertBlock { matching, ..block(name, GroupBy::Cluster) }
}

/// Who is mailed of each of these.
fn told(alerts: Vec<AlertBlock>) -> String {
    let places = [
        "checkout/frontends/web-1",
        "full-disk:checkout/workers/w-1",
        "cart/api/c-1",
        "full-disk:db/primaries/d-1",
        "search/nodes/s-1",
    ];
    let told = |place: &&str| {
        let mut world = world_of(alerts.clone());
        world.fire_at(1.0, place);
        world.run_until(10.0);
        let mut to: Vec<&str> =
            world.inbox.iter().map(|(_, email)| email.to.split('@').next().unwrap()).collect();
        to.sort();
        format!("{place}: {}\n", to.join(" "))
    };
    places.iter().map(told).collect()
}

#[test]
fn blocks_choose_by_names_sites_severities_and_labels() {
    let label = |name: &str, pattern: &str| [(name.to_owned(), glob(pattern))].into();
    let blocks = vec![
        block("all", GroupBy::Cluster),
        AlertBlock { analytics: vec!["full-disk".into()], ..block("disk", GroupBy::Cluster) },
        matching("c-services", Matching { services: vec![glob("c*"), glob("x")], ..Matching::default() }),
        matching("workers", Matching { clusters: vec![glob("work*")], ..Matching::default() }),
        matching("fra", Matching { sites: vec![glob("fra-*")], ..Matching::default() }),
        matching("everywhere", Matching { sites: vec![glob("*")], ..Matching::default() }),
        matching("critical", Matching { severities: vec![Severity::Critical], ..Matching::default() }),
        matching("cart-team", Matching { labels: label("team", "cart-*"), ..Matching::default() }),
        matching("capacity", Matching { labels: label("kind", "capacity"), ..Matching::default() }),
        matching("nothing", Matching { labels: label("absent", "*"), ..Matching::default() }),
        matching(
            "both",
            Matching {
                sites: vec![glob("fra-1")],
                severities: vec![Severity::Critical],
                ..Matching::default()
            },
        ),
    ];
    assert_snapshot!(told(blocks), @r#"
    checkout/frontends/web-1: all c-services everywhere fra
    full-disk:checkout/workers/w-1: all both c-services capacity critical disk everywhere fra workers
    cart/api/c-1: all c-services cart-team everywhere fra
    full-disk:db/primaries/d-1: all capacity critical disk everywhere
    search/nodes/s-1: all
    "#);
}

#[test]
fn a_block_that_does_not_continue_keeps_what_it_matches() {
    let only = |name: &str, service: &str| AlertBlock {
        continues: false,
        ..matching(name, Matching { services: vec![glob(service)], ..Matching::default() })
    };
    // The names stand in another order than the blocks.
    let blocks = vec![
        block("z-first", GroupBy::Cluster),
        only("y-checkout", "checkout"),
        block("a-rest", GroupBy::Site),
    ];
    assert_snapshot!(told(blocks), @r#"
    checkout/frontends/web-1: y-checkout z-first
    full-disk:checkout/workers/w-1: y-checkout z-first
    cart/api/c-1: a-rest z-first
    full-disk:db/primaries/d-1: a-rest z-first
    search/nodes/s-1: a-rest z-first
    "#);
}

#[test]
fn what_the_schema_does_not_know_is_chosen_by_its_names() {
    let mut world = world_of(vec![
        block("all", GroupBy::Site),
        matching("new", Matching { services: vec![glob("new*")], ..Matching::default() }),
        matching("grave", Matching { severities: vec![Severity::Warning], ..Matching::default() }),
    ]);
    world.fire_at(1.0, "unheard-of:new-service/nodes/n-1");
    world.run_until(10.0);
    assert_snapshot!(world.subjects(), @r#"
    2 all first_firing [FIRING] no site: new-service/nodes n-1 checkout.latency above its peers
    2 new first_firing [FIRING] new-service/nodes: n-1 checkout.latency above its peers
    "#);
}

#[test]
fn names_that_would_be_taken_for_a_blocks_group_are_refused() {
    let mut world = world_of(vec![block("team", GroupBy::Customer)]);
    for place in ["@team:checkout/frontends/web-1", "@fra-1/frontends/web-1", "*/x/web-1", "checkout/*/web-1"]
    {
        world.fire_at(1.0, place);
    }
    world.run_until(10.0);
    assert_eq!((world.rejected, world.inbox.len()), (4, 0));
}

/// Fires in three clusters of two services, and ends.
fn story(world: &mut World) {
    world.fire_at(1.0, "checkout/frontends/web-1");
    world.fire_at(1.5, "full-disk:checkout/workers/w-9");
    world.fire_at(1.7, "search/nodes/s-3");
    world.fire_at(4.0, "checkout/frontends/web-2");
    world.resolve_at(30.0, "full-disk:checkout/workers/w-9");
    world.resolve_at(50.0, "checkout/frontends/web-1");
    world.resolve_at(50.5, "checkout/frontends/web-2");
    world.resolve_at(50.6, "search/nodes/s-3");
    world.run_until(100.0);
}

#[test]
fn one_episode_per_group_at_every_level() {
    for group_by in [GroupBy::Cluster, GroupBy::Service, GroupBy::Site, GroupBy::Customer] {
        let mut world = world_of(vec![block("team", group_by)]);
        story(&mut world);
        assert_snapshot!(format!("{group_by:?}"), format!("{}\n{}", world.mails(), world.subjects()));
        assert_eq!((world.stats().alerts, world.stats().groups, world.stats().alerts_firing), (0, 0, 0));
        world.assert_ids_name_one_mail();
    }
}

#[test]
fn a_mail_about_a_service_ranks_feeds_over_its_clusters() {
    for group_by in [GroupBy::Service, GroupBy::Customer] {
        let mut world = world_of(vec![block("team", group_by)]);
        story(&mut world);
        let mail = &world.inbox[world.inbox.len() / 2].1;
        assert_snapshot!(format!("text_{group_by:?}"), mail.text);
        assert_snapshot!(format!("html_{group_by:?}"), mail.html);
        if group_by == GroupBy::Customer {
            assert_eq!(header(&world.inbox[0].1, "X-Kinetic-Rule"), "full-disk, slow-host");
        }
    }
}

#[test]
fn a_restart_at_any_time_changes_no_mail_of_a_coarser_group() {
    for group_by in [GroupBy::Service, GroupBy::Site, GroupBy::Customer] {
        let mut world = world_of(vec![block("team", group_by)]);
        story(&mut world);
        let told = world.mails();
        for restart in [1.2, 2.5, 8.0, 32.0, 45.0, 50.55, 53.5] {
            let mut world = world_of(vec![block("team", group_by)]);
            world.fire_at(1.0, "checkout/frontends/web-1");
            let crash = |world: &mut World, next: f64| {
                if World::secs(world.now.wall) < restart && restart <= next {
                    world.run_until(restart);
                    world.crash(usize::MAX);
                    world.settle();
                }
            };
            for (secs, place, ends) in [
                (1.5, "full-disk:checkout/workers/w-9", false),
                (1.7, "search/nodes/s-3", false),
                (4.0, "checkout/frontends/web-2", false),
                (30.0, "full-disk:checkout/workers/w-9", true),
                (50.0, "checkout/frontends/web-1", true),
                (50.5, "checkout/frontends/web-2", true),
                (50.6, "search/nodes/s-3", true),
            ] {
                crash(&mut world, secs);
                if ends { world.resolve_at(secs, place) } else { world.fire_at(secs, place) }
            }
            crash(&mut world, 99.0);
            world.run_until(100.0);
            // Only moments differ: after a restart the queue is read first.
            let words = |mails: &str| -> Vec<String> {
                let mut words: Vec<String> =
                    mails.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
                words.sort();
                words
            };
            assert_eq!(words(&world.mails()), words(&told), "{group_by:?} {restart}\n{}", world.mails());
            assert_eq!(world.stats().alerts, 0);
        }
    }
}

#[test]
fn an_alert_counts_once_however_many_groups_hold_it() {
    let blocks = vec![
        block("a", GroupBy::Cluster),
        block("b", GroupBy::Service),
        block("c", GroupBy::Site),
        block("d", GroupBy::Customer),
    ];
    let config = kinetic_alert::AlertConfig { alerts_max: 2, ..config() };
    let mut world = World::with(config, schema_of(&PLACES, blocks));
    world.fire_at(1.0, "checkout/frontends/web-1");
    world.fire_at(1.0, "cart/api/c-1");
    world.fire_at(1.0, "db/primaries/d-1");
    assert_eq!((world.stats().alerts, world.stats().alerts_firing, world.stats().alerts_refused), (2, 2, 1));
    world.run_until(5.0);
    // Back, but not said everywhere: it still takes its place.
    world.relay = Relay::Down;
    world.resolve_at(6.0, "checkout/frontends/web-1");
    world.fire_at(7.0, "db/primaries/d-1");
    assert_eq!((world.stats().alerts, world.stats().alerts_firing, world.stats().alerts_refused), (2, 1, 2));
    world.fire_at(7.5, "checkout/frontends/web-1");
    assert_eq!((world.stats().alerts_firing, world.stats().alerts_refused), (2, 2));
    world.resolve_at(8.5, "checkout/frontends/web-1");
    world.relay = Relay::Up;
    world.run_until(60.0);
    assert_eq!(world.stats().alerts, 1);
    world.crash(0);
    world.run_until(70.0);
    assert_eq!((world.stats().alerts, world.stats().alerts_firing), (1, 1));
}

#[test]
fn a_stale_alert_ends_in_every_group_that_holds_it() {
    for restarts in [&[][..], &[3_650.0], &[1_000.0, 3_601.5]] {
        let mut world = world_of(vec![block("team", GroupBy::Site)]);
        world.fire_at(1.0, "checkout/frontends/web-1");
        for restart in restarts {
            world.run_until(*restart);
            world.crash(usize::MAX);
        }
        world.run_until(9_000.0);
        let mut reasons: Vec<&str> =
            world.inbox.iter().map(|(_, email)| header(email, "X-Kinetic-Reason")).collect();
        reasons.retain(|reason| *reason != "repeat_interval_elapsed");
        assert_eq!(reasons, ["first_firing", "resolved"], "{restarts:?}");
        assert_eq!((world.stats().alerts, world.stats().groups), (0, 0));
    }
}

#[test]
fn wider_groups_show_the_picture_also_after_a_change_of_the_schema() {
    let mut world = world_of(vec![block("team", GroupBy::Service)]);
    world.push_at(1.0, &event_with_trail("web-1", 1));
    world.run_until(10.0);
    let first = world.inbox[0].1.plot.clone();
    assert_eq!(first.as_ref().map(|plot| plot.points.len()), Some(13));
    world.change_schema(schema_of(&PLACES, vec![block("team", GroupBy::Customer)]));
    world.run_until(30.0);
    assert_eq!(world.inbox.len(), 2);
    assert_eq!(world.inbox[1].1.plot, first);
}

#[test]
fn a_new_schema_refills_groups() {
    let live = refilled(|_| {});
    assert_snapshot!(live.mails(), @r#"
    2 team first_firing firing=1 resolved=0 seq=1
    11 team first_firing firing=2 resolved=0 seq=1
    11 team first_firing firing=1 resolved=0 seq=1
    31 team first_firing firing=2 resolved=0 seq=1
    51 team more_firing firing=3 resolved=0 seq=2
    91 team fewer_firing firing=1 resolved=1 seq=3
    121 team resolved firing=0 resolved=1 seq=4
    "#);
    assert_snapshot!(live.subjects(), @r#"
    2 team first_firing [FIRING] db/primaries: d-1 checkout.latency above its peers
    11 team first_firing [FIRING 2] site fra-1: cart/api c-1 checkout.latency above its peers
    11 team first_firing [FIRING] site ams-2: db/primaries d-1 checkout.latency above its peers
    31 team first_firing [FIRING 2] acme: cart/api c-1 checkout.latency above its peers
    51 team more_firing [FIRING 3] acme: cart/api c-1 checkout.latency above its peers
    91 team fewer_firing [FIRING] acme: cart/api c-1 checkout.latency above its peers
    121 team resolved [RESOLVED] acme: cart/api c-1 checkout.latency above its peers
    "#);
    assert_eq!(refilled(|world| world.crash(usize::MAX)).mails(), live.mails());
}

fn refilled(after_a_change: impl Fn(&mut World)) -> World {
    let mut world = world_of(vec![block("team", GroupBy::Cluster)]);
    world.fire_at(1.0, "checkout/frontends/web-1");
    world.fire_at(1.0, "cart/api/c-1");
    world.fire_at(1.0, "db/primaries/d-1");
    world.run_until(10.0);
    world.change_schema(schema_of(&PLACES, vec![block("team", GroupBy::Site)]));
    world.run_until(30.0);
    // The site is told of db no more, and of what is fresh there.
    let no_db = |group_by| {
        let c_only = Matching { services: vec![glob("c*")], ..Matching::default() };
        schema_of(&PLACES, vec![AlertBlock { matching: c_only, ..block("team", group_by) }])
    };
    world.change_schema(no_db(GroupBy::Customer));
    world.run_until(50.0);
    world.change_schema(schema_of(&PLACES, vec![block("team", GroupBy::Customer)]));
    world.run_until(70.0);
    world.change_schema(no_db(GroupBy::Customer));
    after_a_change(&mut world);
    world.resolve_at(90.0, "cart/api/c-1");
    world.resolve_at(90.0, "db/primaries/d-1");
    world.run_until(120.0);
    world.resolve_at(120.0, "checkout/frontends/web-1");
    world.run_until(160.0);
    assert_eq!((world.stats().alerts, world.stats().groups), (0, 0));
    world.assert_ids_name_one_mail();
    world
}
