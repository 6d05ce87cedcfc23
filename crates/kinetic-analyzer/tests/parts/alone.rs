//! A part, or the owner of a split source, by itself.

use super::*;

/// A part or an owner by itself.
fn one(part: u16, partitions: u16) -> World {
    let fast = analytic("fast", "fast", 1.1, 10, 1, 1);
    let mut schema = schema(&[fast]);
    for customer in schema.customers.values_mut() {
        customer.sources.values_mut().for_each(|source| source.partitions = partitions);
    }
    let mut world = World::new(schema);
    world.grants[0].source = key().with_part(part);
    world.tick();
    world
}

fn forwarded(effects: &[Effect]) -> Vec<Partial> {
    let partials = effects.iter().filter_map(|effect| match effect {
        Effect::Forward { partial, .. } => Some((**partial).clone()),
        _ => None,
    });
    partials.collect()
}

fn with_feeds(effects: &[Effect]) -> Vec<Partial> {
    forwarded(effects).into_iter().filter(|partial| !partial.groups.is_empty()).collect()
}

fn second(ns: i64) -> i64 {
    ns / 1_000_000_000 - START
}

#[test]
fn a_part_without_data_says_so_of_every_window() {
    let mut world = one(3, 3);
    world.pass_s(60);
    let said: Vec<_> = forwarded(&world.effects)
        .iter()
        .map(|partial| {
            assert_eq!((partial.source.part, partial.groups.len(), partial.of), (3, 0, 1));
            (partial.from_ns.map(second), second(partial.end_ns))
        })
        .collect();
    assert_eq!(said[..3], [(None, 10), (Some(10), 20), (Some(20), 30)], "{said:?}");
    assert!(said.len() >= 5, "{said:?}");
}

#[test]
fn a_parts_deliveries_are_acknowledged_after_its_values_and_its_snapshot_are_confirmed() {
    let mut world = one(1, 2);
    world.confirms = false;
    world.deliver("web-1", "fast:1.5|ms");
    world.pass_s(16);
    world.deliver("web-1", "fast:2.5|ms");
    let partials = with_feeds(&world.effects);
    assert_eq!(partials[0].groups[0].feeds, [PartialFeed { o: "web-1".into(), v: Some("1.5".into()), n: 1 }]);
    let kept = |world: &World| world.effects.iter().any(|effect| matches!(effect, Effect::Keep { .. }));
    assert!(acks(&world.effects).is_empty() && !kept(&world));
    for id in world.effects.clone().iter().filter_map(|effect| match effect {
        Effect::Forward { id, .. } => Some(*id),
        _ => None,
    }) {
        world.send(Input::Published { id });
    }
    assert!(acks(&world.effects).is_empty() && kept(&world));
    let slot = world.slot.unwrap();
    world.send(Input::Kept { slot, seq: 1 });
    assert_eq!(acks(&world.effects), [Effect::AckUpTo { slot, token: Token(1) }]);
}

fn partial_of(part: u16, end_s: i64, values: &[(&str, f64)]) -> Partial {
    let mut source = one(part, 3);
    for (origin, value) in values {
        source.deliver(origin, &format!("fast:{value}|ms"));
    }
    source.pass_s(30);
    let length = 10_000_000_000;
    let end_ns = Wall::from_secs(START + end_s).0;
    let mut partial = with_feeds(&source.effects).remove(0);
    (partial.from_ns, partial.end_ns) = (Some(end_ns - length), end_ns);
    partial
}

fn give(world: &mut World, partial: &Partial, exchange: &str, login: &str) -> Vec<Effect> {
    let body = String::from_utf8(encode(partial)).unwrap();
    let envelope = Envelope {
        kind: Some(names::TYPE_PARTIAL.into()),
        user_id: Some(login.to_owned().into()),
        ..Envelope::default()
    };
    world.deliver_with(envelope, exchange, &body, false)
}

#[test]
fn a_part_that_is_missing_holds_the_others_up_for_a_minute() {
    let mut world = one(0, 3);
    let values = [("web-1", 1.0), ("web-2", 1.1), ("web-3", 1.2), ("web-4", 9.0)];
    give(&mut world, &partial_of(1, 10, &values[..2]), names::PARTIALS_EXCHANGE, "kinetic");
    give(&mut world, &partial_of(2, 10, &values[2..]), names::PARTIALS_EXCHANGE, "kinetic");
    world.pass_s(59);
    assert_eq!((world.events(), world.stats().windows_incomplete), (vec![], 0));
    world.pass_s(2);
    let events = world.events();
    assert_eq!((events.len(), world.stats().windows_incomplete), (1, 1));
    assert_eq!((events[0].feed.origin.as_str(), events[0].numbers.unwrap().feeds), ("web-4", 4));
    give(&mut world, &partial_of(3, 10, &[("web-5", 1.0)]), names::PARTIALS_EXCHANGE, "kinetic");
    assert_eq!(world.stats().partial_rows_late, 1, "it comes too late, and that is counted");
}

#[test]
fn after_a_lost_subscription_every_part_is_heard_again() {
    let mut world = one(0, 3);
    let values = [("web-1", 1.0), ("web-2", 1.1), ("web-3", 9.0), ("web-4", 1.2)];
    let partials: Vec<_> = (0..3).map(|n| partial_of(n + 1, 10, &values[usize::from(n)..][..2])).collect();
    give(&mut world, &partials[0], names::PARTIALS_EXCHANGE, "kinetic");
    give(&mut world, &partials[1], names::PARTIALS_EXCHANGE, "kinetic");
    let slot = world.slot.unwrap();
    world.send(Input::SubscriptionLost { slot });
    world.recall(slot);
    give(&mut world, &partials[0], names::PARTIALS_EXCHANGE, "kinetic");
    give(&mut world, &partials[2], names::PARTIALS_EXCHANGE, "kinetic");
    world.pass_s(5);
    assert_eq!(world.stats().windows_closed, 0, "the second has not come again");
    give(&mut world, &partials[1], names::PARTIALS_EXCHANGE, "kinetic");
    let events = world.events();
    assert_eq!((events.len(), events[0].numbers.unwrap().feeds), (1, 4));
}

#[test]
fn values_are_believed_from_our_own_nodes_alone() {
    let mut world = one(0, 3);
    let partial = partial_of(1, 10, &[("web-1", 1.0)]);
    for (exchange, login) in
        [("in.other", "kinetic"), (names::PARTIALS_EXCHANGE, "acme.web"), ("", "kinetic")]
    {
        let effects = give(&mut world, &partial, exchange, login);
        assert!(matches!(acks(&effects)[..], [Effect::Reject { .. }]), "{exchange} {login}");
    }
    assert_eq!((world.stats().partials, world.stats().rejected), (0, 3));
    let stale = Partial { epoch: Epoch(0), ..partial.clone() };
    give(&mut world, &partial, names::PARTIALS_EXCHANGE, "kinetic");
    give(&mut world, &stale, names::PARTIALS_EXCHANGE, "kinetic");
    let stats = world.stats();
    assert_eq!((stats.partials, stats.partial_rows, stats.partials_stale), (2, 1, 1));
    // A part judges nothing, and so takes nothing from others.
    let mut part = one(2, 3);
    let effects = give(&mut part, &partial, names::PARTIALS_EXCHANGE, "kinetic");
    assert!(matches!(acks(&effects)[..], [Effect::Reject { .. }]));
}

#[test]
fn another_number_of_parts_takes_the_source_up_anew() {
    let mut world = one(0, 1);
    world.deliver("web-1", "fast:1|ms");
    let first = world.slot;
    let mut split = watched(3);
    world.send(Input::SchemaChanged { schema: Arc::new(split.clone()), revision: "rev2".into() });
    assert_ne!(world.slot, first, "it is an owner of parts now");
    let second = world.slot;
    split.regions.clear();
    world.send(Input::SchemaChanged { schema: Arc::new(split), revision: "rev3".into() });
    assert_eq!(world.slot, second, "nothing has changed about that");
    // What the queue still held of before is judged with what the parts send.
    world.deliver("web-9", "fast:1|ms");
    assert_eq!(world.stats().samples, 2);
}

/// What a part says of windows: from there to there, in seconds.
fn said(part: u16, from_s: Option<i64>, end_s: i64, values: &[(&str, f64)]) -> Partial {
    let mut partial = partial_of(part, end_s, if values.is_empty() { &[("web-0", 1.0)] } else { values });
    partial.from_ns = from_s.map(|from| Wall::from_secs(START + from).0);
    if values.is_empty() {
        partial.groups.clear();
    }
    partial
}

fn hear(world: &mut World, part: u16, from_s: Option<i64>, end_s: i64, values: &[(&str, f64)]) {
    give(world, &said(part, from_s, end_s, values), names::PARTIALS_EXCHANGE, "kinetic");
}

/// The clocks of all parts were ahead: once one says something of the present, windows are open again that they had closed.
#[test]
fn parts_that_were_all_ahead() {
    let mut world = one(0, 3);
    for part in 1..=3 {
        hear(&mut world, part, None, 10, &[]);
        hear(&mut world, part, Some(10), 3600, &[]);
    }
    world.pass_s(25);
    for part in 1..=3 {
        hear(&mut world, part, None, 40, &[]);
    }
    assert_eq!(world.stats().clocks_brought_back, 1);
    world.pass_s(30);
    for (part, values) in [(1, [("web-1", 1.0), ("web-2", 1.1)]), (2, [("web-3", 1.2), ("web-4", 9.0)])] {
        hear(&mut world, part, Some(40), 50, &values);
    }
    assert_eq!(world.events(), []);
    hear(&mut world, 3, Some(40), 50, &[]);
    let events = world.events();
    assert_eq!((events.len(), events[0].numbers.unwrap().feeds), (1, 4));
    assert_eq!((world.stats().windows_incomplete, world.stats().clocks_brought_back), (0, 1));
}

/// The clock of one part was ahead: once it is not, the others' windows wait for it again.
#[test]
fn one_part_that_was_ahead() {
    let mut world = one(0, 3);
    hear(&mut world, 1, None, 3600, &[]);
    for part in 2..=3 {
        hear(&mut world, part, None, 20, &[]);
    }
    world.pass_s(25);
    // It takes what it has said for known up to here, and goes on.
    hear(&mut world, 1, None, 30, &[]);
    hear(&mut world, 2, Some(20), 40, &[("web-1", 1.0), ("web-2", 1.1)]);
    hear(&mut world, 3, Some(20), 40, &[("web-3", 1.2)]);
    world.pass_s(10);
    assert_eq!(world.events(), []);
    hear(&mut world, 1, Some(30), 40, &[("web-4", 9.0)]);
    let events = world.events();
    assert_eq!((events.len(), events[0].numbers.unwrap().feeds), (1, 4));
    assert_eq!((world.stats().windows_incomplete, world.stats().clocks_brought_back), (0, 1));
}

/// A part whose clock was ahead says at once that it begins anew.
#[test]
fn a_part_that_was_ahead_begins_anew() {
    let mut world = one(1, 2);
    let hour = Duration::from_secs(3600);
    world.pass_s(22);
    world.now.wall = world.now.wall + hour;
    world.deliver("web-1", "fast:1|ms");
    world.pass_s(12);
    let ahead = forwarded(&world.effects).last().map(|partial| second(partial.end_ns)).unwrap();
    assert!(ahead > 3000, "{ahead}");
    world.now.wall = Wall(world.now.wall.0 - 3_600_000_000_000);
    world.effects.clear();
    world.deliver("web-1", "fast:2|ms");
    world.pass_s(20);
    world.deliver("web-1", "fast:3|ms");
    world.pass_s(30);
    let said: Vec<_> = forwarded(&world.effects)
        .iter()
        .map(|partial| (partial.from_ns.map(second), second(partial.end_ns), partial.groups.len()))
        .collect();
    assert_eq!(said[..3], [(None, 50, 0), (Some(50), 60, 1), (Some(60), 70, 0)], "{said:?}");
}

/// A part has changed hands, and then the judge: what the part's former owner had said of a window may be delivered again after
/// what its successor says of the next.
#[test]
fn a_former_owners_word_counts_of_what_it_had_closed() {
    let mut world = one(0, 2);
    let values = [("web-1", 1.0), ("web-2", 1.1), ("web-3", 1.2), ("web-4", 9.0)];
    let successor = |from: i64, end: i64| Partial { epoch: Epoch(2), ..said(1, Some(from), end, &[]) };
    give(&mut world, &successor(10, 20), names::PARTIALS_EXCHANGE, "kinetic");
    give(&mut world, &said(1, Some(10), 20, &values[..1]), names::PARTIALS_EXCHANGE, "kinetic");
    assert_eq!(world.stats().partials_stale, 1, "its successor has begun there");
    give(&mut world, &said(1, None, 10, &values[..3]), names::PARTIALS_EXCHANGE, "kinetic");
    hear(&mut world, 2, None, 10, &values[3..]);
    hear(&mut world, 2, Some(10), 20, &[]);
    world.pass_s(5);
    let (events, stats) = (world.events(), world.stats());
    assert_eq!((events.len(), events[0].numbers.unwrap().feeds), (1, 4));
    assert_eq!((stats.partials_stale, stats.windows_incomplete, stats.partial_rows_late), (1, 0, 0));
}
