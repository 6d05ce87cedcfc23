//! Tests of routing.

use super::*;

fn spec(kind: ExchangeKind, auto_delete: bool) -> ExchangeSpec {
    ExchangeSpec { kind, durable: false, auto_delete, internal: false, arguments: FieldTable::default() }
}

fn exchanges() -> Exchanges {
    Exchanges::new("/".into())
}

fn queue(id: u64) -> Destination {
    Destination::Queue(QueueId(id))
}

fn route(exchanges: &Exchanges, exchange: &str, key: &str) -> Vec<u64> {
    let mut queues = Vec::new();
    exchanges.route(exchange, Route { key, copies: &[], properties: &[] }, &mut queues);
    queues.into_iter().map(|id| id.0).collect()
}

fn bind(exchanges: &mut Exchanges, source: &str, to: Destination, key: &str) {
    exchanges.bind(source, to, key, FieldTable::default()).unwrap();
}

#[test]
fn direct_fanout_topic() {
    let mut x = exchanges();
    bind(&mut x, "amq.direct", queue(1), "a");
    bind(&mut x, "amq.direct", queue(2), "a");
    bind(&mut x, "amq.direct", queue(2), "b");
    assert_eq!((route(&x, "amq.direct", "a"), route(&x, "amq.direct", "b")), (vec![1, 2], vec![2]));
    bind(&mut x, "amq.fanout", queue(3), "");
    bind(&mut x, "amq.fanout", queue(3), "k");
    assert_eq!(route(&x, "amq.fanout", "whatever"), [3]);
    x.unbind("amq.fanout", &queue(3), "", &FieldTable::default()).unwrap();
    assert_eq!(route(&x, "amq.fanout", "whatever"), [3], "the other binding still stands");
    bind(&mut x, "amq.topic", queue(1), "web.#");
    bind(&mut x, "amq.topic", queue(1), "#.cpu");
    assert_eq!(route(&x, "amq.topic", "web.01.cpu"), [1], "each queue once");
    assert!(route(&x, "amq.topic", "db.01").is_empty());
}

#[test]
fn bindings_differ_by_arguments() {
    let mut x = exchanges();
    let mut arguments = FieldTable::default();
    arguments.insert("n".into(), AMQPValue::LongInt(1));
    bind(&mut x, "amq.direct", queue(1), "a");
    x.bind("amq.direct", queue(1), "a", arguments.clone()).unwrap();
    assert_eq!(x.binding_count(), 2);
    x.unbind("amq.direct", &queue(1), "a", &FieldTable::default()).unwrap();
    assert_eq!(route(&x, "amq.direct", "a"), [1]);
    x.unbind("amq.direct", &queue(1), "a", &arguments).unwrap();
    assert!(route(&x, "amq.direct", "a").is_empty());
    assert_eq!(x.binding_count(), 0);
}

#[test]
fn exchanges_bound_in_a_circle_end() {
    let mut x = exchanges();
    for name in ["a", "b"] {
        x.declare(name, spec(ExchangeKind::Fanout, false), None).unwrap();
    }
    bind(&mut x, "a", Destination::Exchange("b".into()), "");
    bind(&mut x, "b", Destination::Exchange("a".into()), "");
    bind(&mut x, "b", queue(7), "");
    assert_eq!(route(&x, "a", ""), [7]);
    x.delete("b", false).unwrap();
    assert!(route(&x, "a", "").is_empty());
    assert_eq!((x.binding_count(), x.sources.len()), (0, 0));
}

#[test]
fn alternates_take_what_nobody_wants() {
    let mut x = exchanges();
    x.declare("rest", spec(ExchangeKind::Fanout, false), None).unwrap();
    x.declare("main", spec(ExchangeKind::Direct, false), Some("rest".into())).unwrap();
    bind(&mut x, "rest", queue(9), "");
    bind(&mut x, "main", queue(1), "a");
    assert_eq!((route(&x, "main", "a"), route(&x, "main", "z")), (vec![1], vec![9]));
}

#[test]
fn auto_delete_goes_with_the_last_binding() {
    let mut x = exchanges();
    x.declare("a", spec(ExchangeKind::Fanout, true), None).unwrap();
    x.declare("top", spec(ExchangeKind::Fanout, true), None).unwrap();
    bind(&mut x, "top", Destination::Exchange("a".into()), "");
    bind(&mut x, "a", queue(1), "");
    x.forget(&queue(1));
    assert!(x.get("a").is_none() && x.get("top").is_none(), "the chain goes too");
    assert_eq!(x.binding_count(), 0);
}

#[test]
fn redeclaration_must_agree() {
    let mut x = exchanges();
    x.declare("a", spec(ExchangeKind::Fanout, false), None).unwrap();
    assert!(x.declare("a", spec(ExchangeKind::Fanout, false), None).is_ok());
    assert_eq!(x.declare("a", spec(ExchangeKind::Topic, false), None).unwrap_err().code, 406);
    assert_eq!(x.declare("a", spec(ExchangeKind::Fanout, true), None).unwrap_err().code, 406);
    assert_eq!(x.declare("amq.mine", spec(ExchangeKind::Fanout, false), None).unwrap_err().code, 403);
    assert_eq!(x.delete("amq.topic", false).unwrap_err().code, 403);
    bind(&mut x, "a", queue(1), "");
    assert_eq!(x.delete("a", true).unwrap_err().code, 406);
    assert!(x.delete("nowhere", false).is_ok());
}

#[test]
fn headers_all_and_any() {
    let table = |entries: &[(&str, AMQPValue)]| {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), value.clone());
        }
        table
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    let message = table(&[("a", text("1")), ("b", text("2")), ("x-c", text("3"))]);
    let check = |arguments: FieldTable, expect: bool| assert_eq!(headers_match(&arguments, &message), expect);
    check(table(&[("x-match", text("all")), ("a", text("1")), ("b", text("2"))]), true);
    check(table(&[("x-match", text("all")), ("a", text("1")), ("z", text("2"))]), false);
    check(table(&[("x-match", text("any")), ("a", text("0")), ("b", text("2"))]), true);
    check(table(&[("x-match", text("any")), ("a", text("0"))]), false);
    check(table(&[("a", AMQPValue::Void)]), true);
    check(table(&[("x-match", text("any")), ("x-c", text("3"))]), false);
    check(table(&[("x-match", text("any-with-x")), ("x-c", text("3"))]), true);
    check(table(&[]), true);
}
