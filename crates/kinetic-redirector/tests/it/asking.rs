//! What a client asks for beside its customer's address: a profile, data types, and an order of the addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_redirector::machine::{AddressOrder, Effect, Input, Map, MapBuilder};
use kinetic_wire::names::rpc;
use kinetic_wire::{DataType, Epoch, Incarnation, Locate, LocateReply, RpcCode, RpcError, decode, encode};
use uuid::Uuid;

use crate::harness::{World, caller, config, map, regions};

/// A customer's sources, each with its profile if it has one.
type Sources<'a> = &'a [(&'a str, Option<&'a str>, DataType)];

/// Customer `acme` with these sources.
fn acme(revision: &str, sources: Sources<'_>) -> Map {
    let mut map = regions(revision);
    map.customer(&"acme".into(), &"eu".into(), false);
    for (name, profile, data_type) in sources {
        map.source(name, *data_type, 1, 0);
        profile.iter().for_each(|profile| _ = map.profile(profile));
    }
    map.customer(&"bare".into(), &"eu".into(), false);
    map.build()
}

const TWO: Sources<'_> = &[("hosts", Some("db"), DataType::Collectd), ("web", Some("web"), DataType::Statsd)];

fn world(map: Map) -> World {
    World::new(config(Duration::ZERO), map)
}

fn question(profile: Option<&str>, data_types: &[DataType]) -> Locate {
    Locate {
        v: 1,
        client: Incarnation(Uuid::from_u128(9)),
        origin: None,
        profile: profile.map(str::to_owned),
        data_types: data_types.to_vec(),
        have_epoch: None,
        listen: false,
    }
}

fn ask(world: &mut World, login: &str, question: &Locate) -> Result<LocateReply, RpcError> {
    let from = caller(&format!("{login} {}", question.client.0.as_u128()));
    let token = world.send_from(&from, rpc::LOCATE, Some(login), &encode(question));
    let body = world.replies.get(&token).expect("an answer");
    decode(body).map_err(|_| decode(body).expect("a refusal"))
}

/// What is asked of `acme`, and the answer's epoch or the refusal's code.
fn check(
    world: &mut World,
    profile: Option<&str>,
    data_types: &[DataType],
    expect: Result<(), RpcCode>,
) -> String {
    match ask(world, "acme.k1", &question(profile, data_types)) {
        Ok(reply) => {
            assert_eq!(expect, Ok(()), "{profile:?} {data_types:?}");
            reply.region.as_str().to_owned()
        }
        Err(refused) => {
            assert_eq!(expect, Err(refused.code), "{profile:?} {data_types:?}: {}", refused.message);
            assert!(refused.message.len() < 2_000 && refused.retry_s > 0);
            refused.message
        }
    }
}

#[test]
fn a_profile_and_data_types_are_those_of_some_source() {
    use DataType::{Auto, Collectd, Influx, Statsd};
    let mut world = world(acme("r1", TWO));
    for (profile, data_types, expect) in [
        (None, &[][..], Ok(())),
        (None, &[Statsd][..], Ok(())),
        (None, &[Statsd, Collectd, Statsd][..], Ok(())),
        (None, &[Auto][..], Ok(())),
        (None, &[Influx][..], Err(RpcCode::NoSource)),
        (None, &[Statsd, Influx][..], Err(RpcCode::NoSource)),
        (Some("web"), &[][..], Ok(())),
        (Some("web"), &[Auto, Statsd][..], Ok(())),
        (Some("web"), &[Collectd][..], Err(RpcCode::NoSource)),
        (Some("db"), &[Collectd][..], Ok(())),
        (Some("wbe"), &[][..], Err(RpcCode::UnknownProfile)),
        (Some(""), &[Influx][..], Err(RpcCode::UnknownProfile)),
    ] {
        check(&mut world, profile, data_types, expect);
    }
    // A source that finds out what it is sent takes anything.
    world.handle(Input::MapChanged { map: acme("r2", &[("any", None, Auto)]).into() });
    check(&mut world, None, &[Statsd, Influx], Ok(()));
    check(&mut world, Some("web"), &[Statsd], Err(RpcCode::UnknownProfile));
    let refused = ask(&mut world, "bare.k1", &question(None, &[Auto])).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (RpcCode::NoSource, "bare has no source: add one to the schema")
    );
    ask(&mut world, "bare.k1", &question(None, &[])).expect("who asks for nothing of the kind is answered");
}

#[test]
fn a_refusal_says_what_there_is_and_what_to_do() {
    let mut world = world(acme("r1", TWO));
    assert_eq!(
        check(&mut world, Some("wbe"), &[], Err(RpcCode::UnknownProfile)),
        "no source of acme has the profile \"wbe\"; there are \"db\", \"web\": ask for one of these, or give \"wbe\" to a \
         source in the schema"
    );
    assert_eq!(
        check(&mut world, Some("web"), &[DataType::Influx], Err(RpcCode::NoSource)),
        "no source of acme with the profile \"web\" takes influx; taken are statsd: send one of these, or add a source to \
         the schema"
    );
    assert_eq!(
        check(&mut world, None, &[DataType::Influx, DataType::Graphite], Err(RpcCode::NoSource)),
        "no source of acme takes graphite, influx; taken are collectd, statsd: send one of these, or add a source to the \
         schema"
    );
    world.handle(Input::MapChanged { map: acme("r2", &[("web", None, DataType::Statsd)]).into() });
    assert_eq!(
        check(&mut world, Some("web"), &[], Err(RpcCode::UnknownProfile)),
        "no source of acme has a profile: ask without \"web\", or give it to a source in the schema"
    );
    // However many there are, and whatever is asked for.
    let names: Vec<String> = (0..40).map(|at| format!("p{at:02}{}", "-".repeat(50))).collect();
    let many: Vec<_> =
        names.iter().map(|name| (name.as_str(), Some(name.as_str()), DataType::Statsd)).collect();
    world.handle(Input::MapChanged { map: acme("r3", &many).into() });
    let message = check(&mut world, Some(&"\u{1}\"x".repeat(500)), &[], Err(RpcCode::UnknownProfile));
    assert!(message.contains("and 32 more"), "{message}");
    check(&mut world, Some(&names[39]), &[DataType::Statsd], Ok(()));
    let huge = question(Some(&"x".repeat(20_000)), &[]);
    assert_eq!(ask(&mut world, "acme.k1", &huge).unwrap_err().code, RpcCode::Malformed);
}

#[test]
fn whose_refusal_becomes_an_answer_is_nudged_and_the_reverse() {
    let mut world = world(acme("r1", TWO));
    let listen = |world: &mut World, client: u128, profile, data_types: &[DataType]| {
        let client = Incarnation(Uuid::from_u128(client));
        let question = Locate { client, listen: true, ..question(profile, data_types) };
        ask(world, "acme.k1", &question).map(|reply| reply.epoch).map_err(|refused| refused.code)
    };
    let first = listen(&mut world, 1, None, &[]).expect("an answer");
    listen(&mut world, 2, Some("web"), &[DataType::Statsd]).expect("an answer");
    assert_eq!(listen(&mut world, 3, Some("cache"), &[]), Err(RpcCode::UnknownProfile));
    assert_eq!(listen(&mut world, 4, None, &[DataType::Influx]), Err(RpcCode::NoSource));
    world.done();
    let nudged = |world: &mut World, revision, sources| {
        world.handle(Input::MapChanged { map: acme(revision, sources).into() });
        world.sleep(Duration::from_millis(20));
        let name = |effect| match effect {
            Effect::Nudge { caller } => caller.reply_to.to_string(),
            other => format!("{other:?}"),
        };
        world.done().into_iter().map(name).collect::<Vec<_>>()
    };
    let renamed: Sources<'_> = &[
        ("a", Some("web"), DataType::Statsd),
        ("b", Some("db"), DataType::Collectd),
        ("c", Some("db"), DataType::Collectd),
    ];
    assert_eq!(
        nudged(&mut world, "r2", renamed),
        [""; 0],
        "what sources are called and how many there are is all the same"
    );
    assert_eq!(listen(&mut world, 1, None, &[]), Ok(first));
    let more: Sources<'_> = &[
        ("hosts", Some("db"), DataType::Collectd),
        ("lines", Some("cache"), DataType::Influx),
        ("web", Some("web"), DataType::Statsd),
    ];
    assert_eq!(nudged(&mut world, "r3", more), ["acme.k1 3", "acme.k1 4"]);
    assert!(listen(&mut world, 3, Some("cache"), &[]).expect("an answer") > first);
    let retyped: Sources<'_> =
        &[("lines", Some("cache"), DataType::Influx), ("web", Some("web"), DataType::Graphite)];
    assert_eq!(nudged(&mut world, "r4", retyped), ["acme.k1 2"]);
    // A customer that is not there, too, can come to be.
    let zoo = Locate { listen: true, ..question(None, &[]) };
    assert_eq!(ask(&mut world, "zoo.k1", &zoo).unwrap_err().code, RpcCode::UnknownCustomer);
    world.handle(Input::MapChanged { map: map("r5", &[("zoo", &["web"])]).into() });
    world.sleep(Duration::from_millis(20));
    assert!(world.done().contains(&Effect::Nudge { caller: caller("zoo.k1 9") }));
}

/// A region of these brokers, told by origin.
fn cluster(revision: &str, brokers: &[&str], order: AddressOrder) -> Map {
    let mut map = MapBuilder::new(revision, 0);
    let addresses = brokers.iter().map(|host| (format!("amqp://{host}:5672"), "eu".to_owned())).collect();
    map.region(&"eu".into(), addresses, Vec::new()).order(&"eu".into(), order);
    map.customer(&"acme".into(), &"eu".into(), false).source("web", DataType::Statsd, 1, 0);
    map.build()
}

/// What each origin is told, best first.
fn told(world: &mut World) -> BTreeMap<String, Vec<String>> {
    let origin = |at| {
        let origin = format!("web-{at}.example");
        let asked = Locate { origin: Some(origin.clone()), ..question(None, &[]) };
        let reply = ask(world, "acme.k1", &asked).expect("an answer");
        let places: Vec<u32> = reply.endpoints.iter().map(|endpoint| endpoint.priority).collect();
        assert_eq!(places, Vec::from_iter(0..reply.endpoints.len() as u32), "priorities follow the order");
        assert!(
            reply.endpoints.iter().all(|endpoint| endpoint.exchange == "in.acme" && endpoint.vhost == "eu")
        );
        (origin, reply.endpoints.into_iter().map(|endpoint| endpoint.uri).collect())
    };
    (0..600).map(origin).collect()
}

#[test]
fn a_fleet_spreads_over_a_cluster_and_moves_only_when_it_has_to() {
    let (by_origin, listed) = (AddressOrder::ByOrigin, AddressOrder::Listed);
    let mut world = world(cluster("r1", &["a", "b", "c"], by_origin));
    let before = told(&mut world);
    assert_eq!(told(&mut world), before, "the same again");
    let mut orders: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    before.values().for_each(|order| *orders.entry(order.clone()).or_default() += 1);
    assert!(orders.len() == 6 && orders.values().all(|count| (60..150).contains(count)), "{orders:?}");
    // Another redirector, whose schema lists them in another order, says the same.
    assert_eq!(told(&mut self::world(cluster("r1", &["c", "a", "b", "a"], by_origin))), before);

    let version = |world: &mut World| ask(world, "acme.k1", &question(None, &[])).expect("an answer").epoch;
    let first: Epoch = version(&mut world);
    world.handle(Input::MapChanged { map: cluster("r2", &["b", "c", "a"], by_origin).into() });
    assert_eq!(version(&mut world), first, "no answer differs");
    world.handle(Input::MapChanged { map: cluster("r3", &["a", "c"], by_origin).into() });
    assert!(version(&mut world) > first);
    for (origin, after) in told(&mut world) {
        let left: Vec<_> = before[&origin].iter().filter(|uri| !uri.contains("//b:")).cloned().collect();
        assert_eq!(after, left, "{origin}: without b, and else as before");
    }
    world.handle(Input::MapChanged { map: cluster("r4", &["c", "a"], listed).into() });
    let listed: BTreeSet<Vec<String>> = told(&mut world).into_values().collect();
    assert_eq!(Vec::from_iter(listed), [["amqp://c:5672", "amqp://a:5672"]]);
    world.handle(Input::MapChanged { map: cluster("r5", &[], by_origin).into() });
    assert_eq!(ask(&mut world, "acme.k1", &question(None, &[])).expect("an answer").endpoints, []);
}

#[test]
fn without_an_origin_processes_spread() {
    let mut world = world(cluster("r1", &["a", "b", "c"], AddressOrder::ByOrigin));
    let first = |at| {
        let asked = Locate { client: Incarnation(Uuid::from_u128(at)), ..question(None, &[]) };
        ask(&mut world, "acme.k1", &asked).expect("an answer").endpoints[0].uri.clone()
    };
    let firsts: BTreeSet<String> = (0..40).map(first).collect();
    assert_eq!(firsts.len(), 3);
}
