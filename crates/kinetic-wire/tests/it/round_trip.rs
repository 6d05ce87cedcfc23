//! Every message survives its encoding, and no body makes the decoder do anything but say no.

use kinetic_wire::{
    Acknowledge, Acknowledged, AcknowledgementState, AlertEvent, AlertId, AlertState, AnalyzerState,
    AskSilence, Beacon, Bounce, Bounced, Breach, BreachKind, Breached, Change, Credential, CustomerName,
    DataType, Direction, Drain, Endpoint, EpisodeState, EpisodesQuestion, EpisodesReply, Epoch, Evacuated,
    Feed, FeedState, FiringFeed, FollowLink, Goodbye, Grant, Heartbeat, Hold, Incarnation, LaneState,
    LeaderToken, LeaseId, LeaseReply, Limits, LinkAct, LinkAction, Linked, Listening, Locate, LocateReply,
    MapChange, MapQuestion, MapReply, MetricState, MoveRecord, MoveWhy, NodeId, Nudge, Numbers, OwnerState,
    Partial, PartialFeed, PartialGroup, Register, Released, Relieve, Relieved, Reply, Role, RpcCode,
    RpcError, SchemaNotice, Serves, Silence, SilenceName, Silenced, SilencesQuestion, SilencesReply,
    Snapshot, SourceKey, SourceState, Subscribe, Subscribed, Subscription, SuppressionState,
    SuppressionsQuestion, SuppressionsReply, Term, ToldState, TrailPoint, Unsilence, UnsubscribedQuestion,
    UnsubscribedReply, Unsubscription, Unsuppress, Unsuppressed, WatchState, credit, decode, encode,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9-]{0,12}", any::<String>()]
}

fn source() -> impl Strategy<Value = SourceKey> {
    (text(), text(), 0..3_u16)
        .prop_map(|(customer, source, part)| SourceKey::new(&customer, &source).with_part(part))
}

/// Eighths: the JSON reader is exact to the last bit for these, and within one unit of it for the rest.
fn number() -> impl Strategy<Value = f64> {
    any::<i32>().prop_map(|eighths| f64::from(eighths) / 8.0)
}

const DATA_TYPES: [DataType; 5] =
    [DataType::Statsd, DataType::Collectd, DataType::Graphite, DataType::Influx, DataType::Auto];
const DIRECTIONS: [Direction; 3] = [Direction::Above, Direction::Below, Direction::Both];
const CODES: [RpcCode; 22] = [
    RpcCode::UnknownAddress,
    RpcCode::BadLink,
    RpcCode::ExpiredLink,
    RpcCode::UnknownSubscription,
    RpcCode::LastRecipient,
    RpcCode::UnknownSilence,
    RpcCode::UnknownEpisode,
    RpcCode::TestUnderWay,
    RpcCode::Invalid,
    RpcCode::Malformed,
    RpcCode::UnknownCustomer,
    RpcCode::Disabled,
    RpcCode::UnknownProfile,
    RpcCode::NoSource,
    RpcCode::UnknownNode,
    RpcCode::Unauthenticated,
    RpcCode::UnknownLease,
    RpcCode::Superseded,
    RpcCode::Replayed,
    RpcCode::Overload,
    RpcCode::NotLeader,
    RpcCode::Version,
];

const WHYS: [MoveWhy; 8] = [
    MoveWhy::Placed,
    MoveWhy::Adopted,
    MoveWhy::OwnerLost,
    MoveWhy::OwnerLeft,
    MoveWhy::Restarted,
    MoveWhy::Unfit,
    MoveWhy::Balance,
    MoveWhy::Changed,
];

fn serves() -> impl Strategy<Value = Serves> {
    (vec(text(), 0..3), vec(select(&DATA_TYPES), 0..3), vec(text(), 0..3)).prop_map(
        |(regions, data_types, customers)| Serves {
            regions: regions.iter().map(|name| name.as_str().into()).collect(),
            data_types,
            customers: customers.iter().map(|name| name.as_str().into()).collect(),
        },
    )
}

fn holds() -> impl Strategy<Value = Vec<Hold>> {
    vec(
        (source(), any::<u64>(), any::<u64>()).prop_map(|(source, epoch, rate)| Hold {
            source,
            epoch: Epoch(epoch),
            rate,
        }),
        0..4,
    )
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let grant = |(source, region, epoch): (_, String, _)| Grant {
        source,
        region: region.as_str().into(),
        epoch: Epoch(epoch),
    };
    vec((source(), text(), any::<u64>()).prop_map(grant), 0..4)
}

/// Encoded, decoded and the same; also through [`Reply`], as a requester reads it.
fn check<T>(message: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let body = encode(message);
    assert_eq!(&decode::<T>(&body).expect("its own encoding"), message);
    let Reply::Ok(reply) = decode::<Reply<T>>(&body).expect("its own encoding") else {
        panic!("an answer was read as a refusal");
    };
    assert_eq!(&reply, message);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn requests(
        (node, schema, origin, profile) in (text(), option::of(text()), option::of(text()), option::of(text())),
        (inc, lease, holds, serves) in (uuid(), uuid(), holds(), serves()),
        (seq, load, lag_ms, deadline_ms) in (any::<u64>(), number(), any::<u64>(), any::<u64>()),
        (v, capacity, epoch) in (any::<u32>(), any::<u32>(), option::of(any::<u64>())),
        data_types in vec(select(&DATA_TYPES), 0..4),
    ) {
        let (node, inc, lease) = (NodeId::new(&node), Incarnation(inc), LeaseId(lease));
        check(&Drain { v, lease, node: node.clone(), inc, deadline_ms });
        check(&Goodbye { v, lease, node: node.clone(), inc });
        check(&Heartbeat {
            v, lease, node: node.clone(), inc, seq, load, lag_ms, schema: schema.clone(), holds: holds.clone(),
            generation: seq, witness: v > 7,
            evacuated: holds.iter().map(|hold| Evacuated { source: hold.source.clone(), region: "r".into(), epoch: hold.epoch }).collect(),
        });
        check(&Register {
            v, node, inc, serves, capacity, zone: profile.clone(), witness: v > 7, schema, generation: seq, holds,
            relieved: epoch.map(Term),
        });
        check(&Locate { v, client: inc, origin, profile, data_types, have_epoch: epoch.map(Epoch), listen: v > 7 });
    }

    #[test]
    fn answers(
        (lease, term, grant, revoke) in (uuid(), any::<u64>(), grants(), vec(source(), 0..4)),
        (ttl_ms, heartbeat_ms, backoff_ms, now_ms) in (any::<u64>(), any::<u64>(), any::<u64>(), any::<i64>()),
        (customer, region, uri, message) in (text(), text(), text(), text()),
        (priority, message_bytes, batch_ms) in (any::<u32>(), any::<u64>(), any::<u64>()),
        code in select(&CODES),
        (login, life) in (text(), option::of(any::<i64>())),
    ) {
        let (lease, term) = (LeaseId(lease), Term(term));
        check(&LeaseReply {
            moving: revoke.clone(),
            ok: true, lease, term, ttl_ms, heartbeat_ms, grant, revoke: revoke.clone(), backoff_ms, now_ms,
            relieved: term.0 > 7,
        });
        check(&Released { ok: true, released: revoke, now_ms });
        let credential =
            life.map(|expires_ms| Credential { login, token: "eyJ.t.s".to_owned(), expires_ms });
        let located = LocateReply {
            ok: true,
            customer: customer.as_str().into(),
            region: region.as_str().into(),
            endpoints: vec![Endpoint { uri, vhost: region.clone(), exchange: customer, priority }],
            epoch: Epoch(ttl_ms),
            ttl_s: heartbeat_ms,
            refresh_s: backoff_ms,
            stale_ok_s: message_bytes,
            backoff_s: batch_ms,
            limits: Limits { message_bytes, batch_ms },
            now_ms,
            credential: credential.clone(),
        };
        check(&located);
        if let Some(credential) = credential {
            let mut body = encode(&LocateReply { credential: None, ..located.clone() });
            prop_assert!(credit(&mut body, &encode(&credential)));
            prop_assert_eq!(&decode::<LocateReply>(&body).expect("still one answer"), &located);
            let shown = format!("{located:?}");
            prop_assert!(!shown.contains("eyJ"), "{}", shown);
        }
        let refusal = RpcError { ok: false, code, message, retry_s: batch_ms };
        prop_assert_eq!(&decode::<RpcError>(&encode(&refusal)).expect("its own encoding"), &refusal);
        let read: Reply<LeaseReply> = decode(&encode(&refusal)).expect("a refusal");
        prop_assert_eq!(read, Reply::Refused(refusal.clone()));
        let mut refused = encode(&refusal);
        prop_assert!(!credit(&mut refused, b"{}"), "a refusal carries none");
        prop_assert_eq!(refused, encode(&refusal));
    }

    #[test]
    fn redirectors_words(
        (leader, revision, routes, source) in (text(), text(), text(), source()),
        (term, seq, epoch, rate) in (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()),
        (inc, lease, at, serves) in (uuid(), uuid(), any::<i64>(), serves()),
        (flag, load, owned, zone) in (any::<bool>(), number(), any::<bool>(), option::of(text())),
        (why, role) in (select(&WHYS), select(&[Role::Redirector, Role::Analyzer, Role::Alert])),
    ) {
        let (node, inc, epoch) = (NodeId::new(&leader), Incarnation(inc), Epoch(epoch));
        let owner = OwnerState { node: node.clone(), epoch, since_ms: at, why, held: flag, leaving: !flag };
        let state = SourceState {
            source: source.clone(),
            region: routes.as_str().into(),
            data_type: DataType::Auto,
            rate,
            owner: owned.then_some(owner),
        };
        let analyzer = AnalyzerState {
            node: node.clone(), inc, lease: LeaseId(lease), lapses_in_ms: rate, since_ms: at, serves, capacity: 100, zone, load,
            lag_ms: seq, schema: Some(revision.clone()), draining: flag, relieved: !flag, held_down_ms: term, owned: rate,
        };
        let changes = vec![
            Change::Source(state.clone()),
            Change::SourceGone(source.clone()),
            Change::Analyzer(analyzer.clone()),
            Change::AnalyzerGone(node.clone()),
        ];
        let moved = MoveRecord { at_ms: at, source: source.clone(), from: flag.then(|| node.clone()), to: node.clone(), epoch, why };
        check(&LeaderToken { v: 1, term: Term(term), epoch_max: epoch, node: node.clone() });
        check(&MapChange {
            v: 1, leader: node.clone(), term: Term(term), seq, epoch_max: epoch, revision: revision.clone(), map_epoch: epoch,
            routes: routes.clone(), changes,
        });
        check(&MapQuestion { v: 1, after: flag.then(|| source.clone()), limit: Some(7) });
        check(&MapReply {
            ok: true, leader: node.clone(), term: Term(term), seq, revision, map_epoch: epoch, routes, listening: flag,
            analyzers: vec![analyzer], sources: vec![state], moves: vec![moved], unowned: rate, next: owned.then_some(source),
            now_ms: at,
        });
        check(&Relieve { v: 1, node: node.clone(), undo: flag });
        check(&Relieved { ok: true, remaining: rate, now_ms: at });
        check(&Nudge { v: 1 });
        let source = SourceKey::new("acme", "web").with_part(u16::from(flag));
        let what = Breached {
            kind: BreachKind::ALL[usize::try_from(rate % 8).unwrap()],
            limit: rate,
            value: rate,
            dropped: rate,
            by: flag.then(|| node.to_string()),
        };
        let breaches = vec![Breach { source: source.clone(), epoch: Epoch(rate), since_ms: rate, last_ms: rate, what }];
        let listens = vec![Listening { source, epoch: Epoch(rate), came: rate, quiet_ms: rate, proven_ms: rate }];
        check(&Beacon { v: 1, node, role, inc, bye: flag, listens, breaches });
    }

    #[test]
    fn alerting(
        (id, author, reason, globs) in (text(), text(), text(), [vec(text(), 0..3), vec(text(), 0..3)]),
        (customer, names, feed) in (text(), [text(), text(), text()], (text(), text())),
        (flag, from_ms, until_ms, count) in (any::<bool>(), any::<i64>(), any::<i64>(), any::<u64>()),
        deviations in option::of(number()),
    ) {
        let [services, origins] = globs;
        let customer: CustomerName = customer.as_str().into();
        let silence = Silence {
            id: id.clone(), customer: customer.clone(), services, clusters: Vec::new(), analytics: Vec::new(), origins,
            metrics: vec![feed.1.clone()], author: author.clone(), reason: reason.clone(), from_ms, until_ms,
        };
        let name = SilenceName { customer: customer.clone(), id: id.clone() };
        check(&AskSilence { v: 1, silence: silence.clone() });
        check(&Unsilence { v: 1, customer: customer.clone(), id, author: author.clone() });
        check(&Silenced { ok: true, silence: silence.clone(), silenced: count, now_ms: from_ms });
        check(&SilencesQuestion { v: 1, customer: flag.then(|| customer.clone()), after: flag.then(|| name.clone()) });
        check(&SilencesReply { ok: true, silences: vec![silence.clone()], next: Some(name), now_ms: until_ms });
        let group = names.join("/");
        check(&Acknowledge {
            v: 1, group: group.clone(), episode_ms: flag.then_some(from_ms), author: author.clone(), reason: reason.clone(), until_ms,
        });
        let told = ToldState {
            alert: names[0].clone(), to: reason.clone(), escalation: flag, told: count, mailed_ms: Some(from_ms), on_its_way: !flag,
            next_reason: Some(author.clone()), next_ms: flag.then_some(until_ms), folded_under: flag.then(|| names[1].clone()),
        };
        let episode = EpisodeState {
            group, customer: customer.clone(), analytic: names[0].as_str().into(), service: names[1].as_str().into(),
            cluster: names[2].as_str().into(), since_ms: from_ms, firing: count, silenced: count,
            feeds: vec![FiringFeed {
                feed: Feed { origin: feed.0, metric: feed.1 }, since_ms: from_ms, deviations, silenced: flag,
            }],
            acknowledged: flag.then_some(AcknowledgementState { author, reason, at_ms: from_ms, until_ms }),
            told: vec![told],
        };
        check(&Acknowledged { ok: true, episode: episode.clone(), now_ms: until_ms });
        check(&EpisodesQuestion { v: 1, customer: Some(customer), after: flag.then(|| episode.group.clone()), limit: Some(7) });
        check(&EpisodesReply { ok: true, next: Some(episode.group.clone()), episodes: vec![episode.clone()], now_ms: from_ms });
        let subscription = Subscription { customer: episode.customer.clone(), alert: names[0].clone(), to: names[1].clone() };
        let act = LinkAct { for_s: flag.then_some(count), reason: flag.then(|| names[2].clone()) };
        check(&FollowLink { v: 1, token: names[0].clone(), act: flag.then_some(act) });
        for action in [LinkAction::Acknowledge, LinkAction::Silence, LinkAction::Unsubscribe] {
            check(&Linked {
                ok: true, action, acted: flag, customer: episode.customer.clone(), alert: names[0].clone(), to: names[1].clone(),
                episode: flag.then(|| episode.clone()), silence: (!flag).then(|| silence.clone()), silenced: flag, unsubscribed: !flag, now_ms: from_ms,
            });
        }
        let left = Unsubscription { subscription: subscription.clone(), since_ms: from_ms, overruled: flag };
        check(&UnsubscribedQuestion { v: 1, customer: Some(episode.customer.clone()), after: flag.then(|| subscription.clone()) });
        check(&UnsubscribedReply { ok: true, unsubscribed: vec![left.clone()], next: flag.then(|| subscription.clone()), now_ms: until_ms });
        check(&Subscribe { v: 1, subscription, author: names[2].clone() });
        check(&Subscribed { ok: true, unsubscription: left, now_ms: until_ms });
    }

    #[test]
    fn returned_mail(
        (token, status, detail, mail) in (text(), text(), text(), option::of(text())),
        (flag, now_ms) in (any::<bool>(), any::<i64>()),
    ) {
        check(&Bounce { v: 1, token: token.clone(), mail, status, detail: detail.clone() });
        check(&Bounced { ok: true, address: token.clone(), counted: flag, suppressed: !flag, now_ms });
        let state = SuppressionState { address: token.clone(), since_ms: now_ms, detail: detail.clone() };
        check(&SuppressionsQuestion { v: 1, after: flag.then(|| token.clone()) });
        check(&SuppressionsReply { ok: true, suppressions: vec![state.clone()], next: flag.then(|| token.clone()), now_ms });
        check(&Unsuppress { v: 1, address: token, author: detail });
        check(&Unsuppressed { ok: true, suppression: state, now_ms });
    }

    #[test]
    fn events(
        (names, feed, kind) in ([text(), text(), text(), text(), text()], (text(), text()), text()),
        (firing, numbers) in (any::<bool>(), option::of([number(), number(), number(), number()])),
        (window, hits, of) in ([any::<i64>(), any::<i64>(), any::<i64>()], any::<u32>(), any::<u32>()),
        (id, epoch, schema, traceparent) in (uuid(), any::<u64>(), option::of(text()), option::of(text())),
        direction in select(&DIRECTIONS),
    ) {
        let [customer, source, analytic, service, cluster] = &names;
        check(&SchemaNotice { v: 1, revision: kind.clone() });
        check(&AlertEvent {
            v: 1,
            id: AlertId(id),
            customer: customer.as_str().into(),
            source: source.as_str().into(),
            analytic: analytic.as_str().into(),
            service: service.as_str().into(),
            cluster: cluster.as_str().into(),
            feed: Feed { origin: feed.0, metric: feed.1 },
            state: if firing { AlertState::Firing } else { AlertState::Resolved },
            window_start_ms: window[0],
            window_end_ms: window[1],
            since_ms: window[2],
            numbers: numbers.map(|[value, mean, deviation, limit]| Numbers {
                value,
                mean,
                deviation,
                deviations: value,
                limit,
                feeds: hits,
                peers_mean: mean,
                peers_min: deviation,
                peers_max: limit,
            }),
            value_kind: kind,
            direction,
            hits,
            of,
            epoch: Epoch(epoch),
            node: "a1".into(),
            schema,
            traceparent,
            trail: firing.then(|| vec![TrailPoint { end_ms: window[0], value: numbers.map(|n| n[0]), mean: 1.5, deviation: 0.25 }; 2]),
            breach: None,
        });
    }

    #[test]
    fn snapshots(
        (source, names, feed) in (source(), [text(), text(), text(), text(), text()], (text(), option::of(text()))),
        (epoch, seq, bits, quiet) in (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>()),
        (length_ns, closed_ns) in (any::<i64>(), option::of(any::<i64>())),
        (firing, seen) in (option::of((any::<i64>(), any::<i64>())), option::of(any::<i64>())),
        direction in select(&DIRECTIONS),
    ) {
        let [analytic, service, cluster, metric, schema] = names;
        let feeds = vec![FeedState { o: feed.0, w: bits, q: quiet, f: firing, l: feed.1, s: seen }];
        let watch = WatchState {
            analytic: analytic.as_str().into(),
            service: service.as_str().into(),
            cluster: cluster.as_str().into(),
            digest: format!("{bits:016x}"),
            length_ns,
            value_kind: "mean".into(),
            direction,
            of: quiet,
            metrics: vec![MetricState { metric, feeds }],
        };
        check(&Snapshot {
            v: 1,
            source,
            epoch: Epoch(epoch),
            seq,
            node: "a1".into(),
            schema: Some(schema),
            lanes: vec![LaneState { length_ns, closed_ns }],
            watches: vec![watch],
            moved: closed_ns.map(|_| "eu".into()),
        });
    }

    #[test]
    fn partials(
        (source, names, feeds) in (source(), [text(), text(), text(), text(), text()], vec((text(), option::of(text()), any::<u32>()), 0..4)),
        (epoch, index, of, part) in (any::<u64>(), any::<u32>(), any::<u32>(), any::<u16>()),
        (length_ns, from_ns, end_ns) in (any::<i64>(), option::of(any::<i64>()), any::<i64>()),
        traceparent in option::of(text()),
    ) {
        let [analytic, service, cluster, metric, digest] = names;
        let group = PartialGroup {
            analytic: analytic.as_str().into(),
            service: service.as_str().into(),
            cluster: cluster.as_str().into(),
            digest,
            metric,
            feeds: feeds.into_iter().map(|(o, v, n)| PartialFeed { o, v, n }).collect(),
        };
        check(&Partial {
            v: 1,
            source: source.with_part(part),
            epoch: Epoch(epoch),
            node: "a1".into(),
            length_ns,
            from_ns,
            end_ns,
            index,
            of,
            traceparent,
            short: index % 2 == 0,
            groups: vec![group],
        });
    }

    #[test]
    fn any_bytes(body in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode::<Register>(&body).is_err());
        prop_assert!(decode::<AlertEvent>(&body).is_err());
        prop_assert!(decode::<Partial>(&body).is_err());
        prop_assert!(decode::<Reply<LeaseReply>>(&body).is_err());
    }
}

#[test]
fn unknown_fields_are_a_newer_peers_and_do_no_harm() {
    let mut value = serde_json::json!({"v": 1, "lease": Uuid::nil(), "node": "a", "inc": Uuid::nil()});
    value["new"] = serde_json::json!({"deep": [1, 2, 3]});
    assert!(decode::<Goodbye>(&encode(&value)).is_ok());
}
