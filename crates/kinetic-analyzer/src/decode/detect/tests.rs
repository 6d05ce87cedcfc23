//! The ladder, rung by rung, on bodies as the tools put them on the wire.

use kinetic_wire::Wall;

use super::*;

const NOW: Wall = Wall(1_795_164_112_000_000_000);

fn bare() -> Context<'static> {
    Context::bare(NOW)
}

fn refused(foreign: Foreign) -> Result<Format, Reject> {
    Err(Reject::Refused(foreign))
}

#[test]
fn bodies_as_captured() {
    let octets = Context { content_type: Some("application/octet-stream"), routing_key: "statsd", ..bare() };
    let backend = r#"{"counters":{},"gauges":{},"timers":{},"sets":{},"counter_rates":{},"timer_data":{}}"#;
    assert_eq!(detect(&octets, backend.as_bytes()), Ok(Format::StatsdBackendJson));
    let head = Context {
        content_type: Some("text/graphite"),
        app_id: Some("statsdAMQP"),
        routing_key: "stats.gauges.web-017.checkout.heap",
        ..bare()
    };
    assert_eq!(detect(&head, b"stats.gauges.web-017.checkout.heap 5 1795164112\n"), Ok(Format::Graphite));
    let json = Context { content_type: Some("application/json"), routing_key: "json_payload", ..head };
    assert_eq!(detect(&json, backend.as_bytes()), Ok(Format::StatsdBackendJson));
    assert_eq!(
        detect(&Context { routing_key: "metrics", ..bare() }, br#"{"counters":{"a":1}}"#),
        Ok(Format::StatsdBackendJson)
    );
    let collectd = Context {
        content_type: Some("text/collectd"),
        app_id: Some("collectd"),
        routing_key: "collectd.web-017.load..load.",
        ..bare()
    };
    assert_eq!(
        detect(&collectd, b"PUTVAL web-017/load/load interval=2.000 1795164112.156:1:2:3"),
        Ok(Format::CollectdCommand)
    );
    let json = Context { content_type: Some("application/json"), ..collectd };
    assert_eq!(detect(&json, br#"[{"values":[1],"dstypes":["gauge"]}]"#), Ok(Format::CollectdJson));
    let graphite = Context { content_type: Some("text/graphite"), ..collectd };
    assert_eq!(
        detect(&graphite, b"collectd.web-017.load.load.shortterm nan 1795164112\r\n"),
        Ok(Format::Graphite)
    );
    let telegraf = Context { content_type: Some("text/plain"), routing_key: "", ..bare() };
    assert_eq!(
        detect(&telegraf, b"cpu,host=web-1 usage_idle=98.5,n=1i 1795164112000000000\n"),
        Ok(Format::Influx)
    );
    assert_eq!(detect(&telegraf, b"servers.web-1.cpu.idle 98.5 1795164112\n"), Ok(Format::Graphite));
    let carbon = Context { routing_key: "servers.web-1.cpu.idle", ..bare() };
    assert_eq!(detect(&carbon, b"98.5 1795164112\n97 1795164113\n"), Ok(Format::GraphiteKeyed));
    assert_eq!(detect(&bare(), b"98.5 1795164112\n"), Err(Reject::Undetected));
}

#[test]
fn known_and_refused() {
    for (body, foreign) in [
        (&b"\x80\x02]q\x00."[..], Foreign::Pickle),
        (b"\x00\x00\x00\x03\x80\x02.", Foreign::Pickle),
        (b"\x0a\x04\x0a\x00\x12\x00\x0a\x02\x12\x00", Foreign::Otlp),
        (br#"{"resourceMetrics":[]}"#, Foreign::OtlpJson),
        (br#"{"fields":{"a":1},"name":"cpu","tags":{},"timestamp":1795164112}"#, Foreign::TelegrafJson),
        (br#"{"metrics":[]}"#, Foreign::TelegrafJson),
        (br#"{"client":"a","check":{}}"#, Foreign::Sensu),
        (br#"{"@timestamp":"2026-11-20T00:00:00Z","@version":"1","message":"x"}"#, Foreign::Logstash),
        (br#"{"specversion":"1.0","type":"x"}"#, Foreign::CloudEvents),
        (
            b"203.0.113.9 - - [20/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 612 \"-\" \"curl\"\n",
            Foreign::AccessLog,
        ),
    ] {
        assert_eq!(detect(&bare(), body), refused(foreign), "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(detect(&Context { routing_key: "otlp_metrics", ..bare() }, b"?"), refused(Foreign::Otlp));
    assert_eq!(detect(&Context { exchange: "keepalives", ..bare() }, b"{}"), refused(Foreign::Sensu));
    let cloud = Context { content_type: Some("application/cloudevents+json; charset=utf-8"), ..bare() };
    assert_eq!(detect(&cloud, b"{}"), refused(Foreign::CloudEvents));
    // Pickle is refused whatever the schema says.
    assert_eq!(
        detect(&Context { data_type: DataType::Graphite, ..bare() }, b"\x80\x02."),
        refused(Foreign::Pickle)
    );
    // A body that begins with a line feed is no protobuf.
    assert_eq!(detect(&bare(), b"\n\na:1|c\n"), Ok(Format::Statsd));
}

#[test]
fn lines_must_agree() {
    assert_eq!(
        detect(&bare(), b"a:1|c\n\r\nb:NaN|g\n_sc|db|2\n_e{1,1}:a|b\nc:1|c:5|ms\r\n"),
        Ok(Format::Statsd)
    );
    for mixed in [
        &b"a:1|c\na 1 1795164112\n"[..],
        b"a:1|c\nwhat is this\n",
        b"a:1|zz\n",
        b"hello\n",
        b"",
        b"\n\n",
        b"a:1|c\n\xff\xfe\n",
        b"PUTVAL a/b/c N:1\na:1|c\n",
        b"{\"counters\":",
        b"[]",
        b"[{\"a\":1}]",
        b"{}",
    ] {
        assert_eq!(detect(&bare(), mixed), Err(Reject::Undetected), "{}", String::from_utf8_lossy(mixed));
    }
    // Past the eighth line each line stands for itself.
    let late = [b"a:1|c\n".repeat(8), b"garbage".to_vec()].concat();
    assert_eq!(detect(&bare(), &late), Ok(Format::Statsd));
}

#[test]
fn the_schema_and_the_envelope_come_first() {
    let declared = |data_type| Context { data_type, kind: Some("kinetic.data.influx.v1"), ..bare() };
    assert_eq!(detect(&declared(DataType::Statsd), b"a 1 1795164112"), Ok(Format::Statsd));
    assert_eq!(detect(&declared(DataType::Influx), b"a:1|c"), Ok(Format::Influx));
    assert_eq!(detect(&declared(DataType::Graphite), b"a:1|c"), Ok(Format::Graphite));
    assert_eq!(detect(&declared(DataType::Collectd), b"a:1|c"), Err(Reject::Undetected));
    assert_eq!(detect(&declared(DataType::Auto), b"a:1|c"), Ok(Format::Influx));
    let typed = |kind| Context { kind: Some(kind), content_type: Some("text/graphite"), ..bare() };
    assert_eq!(detect(&typed("kinetic.data.statsd.v1"), b"a:1|c"), Ok(Format::Statsd));
    assert_eq!(detect(&typed("kinetic.data.statsd.v2"), b"a:1|c"), Err(Reject::Undetected));
    // A routing key is a hint that the body may refute.
    assert_eq!(detect(&Context { routing_key: "collectd.like", ..bare() }, b"a:1|c"), Ok(Format::Statsd));
    assert_eq!(
        detect(&Context { routing_key: "collectd.x", ..bare() }, b"PUTVAL a/b/c N:1"),
        Ok(Format::CollectdCommand)
    );
}
