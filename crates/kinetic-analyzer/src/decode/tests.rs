//! Bodies as the tools in the field put them on the wire, through all three doors; and promises over any lines.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::exercise::testing::see;
use super::*;

const NOW: Wall = Wall(1_795_164_120_000_000_000);

/// A delivery of which the schema says nothing.
struct Shape {
    content_type: Option<&'static str>,
    content_encoding: Option<&'static str>,
    app_id: Option<&'static str>,
    routing_key: &'static str,
}

const NOTHING: Shape = Shape { content_type: None, content_encoding: None, app_id: None, routing_key: "" };

fn check(shape: &Shape, body: &[u8], format: Format, expect: &[&str]) {
    let context = Context {
        content_type: shape.content_type,
        content_encoding: shape.content_encoding,
        app_id: shape.app_id,
        routing_key: shape.routing_key,
        ..Context::bare(NOW)
    };
    let mut scratch = Vec::new();
    let plain = inflate(&context, body, &mut scratch).unwrap();
    let found = detect(&context, plain);
    assert_eq!(found, Ok(format), "{}", String::from_utf8_lossy(plain));
    let seen = see(format, &context, plain);
    let rejects = seen.rejects.iter().map(|(reason, _)| format!("!{}", reason.name()));
    assert_eq!(seen.samples.iter().cloned().chain(rejects).collect::<Vec<_>>(), expect);
}

#[test]
fn statsd_daemon_backends() {
    let published =
        Shape { content_type: Some("application/octet-stream"), routing_key: "statsd", ..NOTHING };
    let flush = br#"{"counters":{"statsd.bad_lines_seen":0},"gauges":{"web-017.checkout.heap":512},"timers":{"web-017.checkout.latency":[118]},"timer_counters":{"web-017.checkout.latency":1},"sets":{},"counter_rates":{},"timer_data":{"web-017.checkout.latency":{"mean":118}},"pctThreshold":[90],"statsd_metrics":{"processing_time":0}}"#;
    let samples = [
        "statsd.bad_lines_seen=0 counter",
        "web-017.checkout.heap=512 gauge",
        "web-017.checkout.latency=118 timer",
    ];
    check(&published, flush, Format::StatsdBackendJson, &samples);
    let later = Shape {
        content_type: Some("application/json"),
        app_id: Some("statsdAMQP"),
        routing_key: "json_payload",
        ..NOTHING
    };
    check(&later, flush, Format::StatsdBackendJson, &samples);
    let lines = Shape {
        content_type: Some("text/graphite"),
        app_id: Some("statsdAMQP"),
        routing_key: "stats.timers.web-017.checkout.latencymean_90",
        ..NOTHING
    };
    check(
        &lines,
        b"stats.timers.web-017.checkout.latencymean_90 118 1795164112\n",
        Format::Graphite,
        &["stats.timers.web-017.checkout.latencymean_90=118 gauge @1795164112000000000"],
    );
    let counters_only = Shape { routing_key: "metrics", ..NOTHING };
    check(&counters_only, br#"{"counters":{"a":3}}"#, Format::StatsdBackendJson, &["a=3 counter"]);
}

#[test]
fn collectd_in_its_three_formats() {
    let shape = |content_type| Shape {
        content_type: Some(content_type),
        app_id: Some("collectd"),
        routing_key: "collectd.web-017.load..load.",
        ..NOTHING
    };
    check(
        &shape("text/collectd"),
        b"PUTVAL web-017/load/load interval=2.000 1795164112.156:11.38:9.22:8.71",
        Format::CollectdCommand,
        &[
            "web-017/load.load.0=11.38 gauge @1795164112156000000",
            "web-017/load.load.1=9.22 gauge @1795164112156000000",
            "web-017/load.load.2=8.71 gauge @1795164112156000000",
        ],
    );
    check(
        &shape("application/json"),
        br#"[{"values":[11.38,null],"dstypes":["gauge","derive"],"dsnames":["rx","tx"],"time":1795164112.156,"interval":2.000,"host":"web-017","plugin":"interface","plugin_instance":"eth0","type":"if_octets","type_instance":""}]"#,
        Format::CollectdJson,
        &["web-017/interface.eth0.if_octets.rx=11.38 gauge @1795164112156000000", "!unknown_value"],
    );
    check(
        &shape("text/graphite"),
        b"collectd.web-017.load.load.shortterm 11.38 1795164112\r\ncollectd.web-017.load.load.midterm nan 1795164112\r\n",
        Format::Graphite,
        &["collectd.web-017.load.load.shortterm=11.38 gauge @1795164112000000000", "!unknown_value"],
    );
}

#[test]
fn telegraf_plain_and_gzipped() {
    let body = b"cpu,cpu=cpu0,host=web-017 usage_idle=98.5,n=3i 1795164112000000000\nswap,host=web-017 total=0u,on=true 1795164112000000000\n";
    let samples = [
        "cpu.usage_idle{cpu=cpu0,host=web-017}=98.5 gauge @1795164112000000000",
        "cpu.n{cpu=cpu0,host=web-017}=3 gauge @1795164112000000000",
        "swap.total{host=web-017}=0 gauge @1795164112000000000",
    ];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    let gzipped = encoder.finish().unwrap();
    for (content_encoding, body) in
        [(None, &body[..]), (Some("identity"), &body[..]), (Some("gzip"), &gzipped[..]), (None, &gzipped[..])]
    {
        let shape = Shape { content_type: Some("text/plain"), content_encoding, ..NOTHING };
        check(&shape, body, Format::Influx, &samples);
    }
}

#[test]
fn carbon_diamond_and_plain_publishers() {
    let expect = ["servers.web-017.cpu.idle=98.5 gauge @1795164112000000000"];
    let keyed = Shape { routing_key: "servers.web-017.cpu.idle", ..NOTHING };
    check(&keyed, b"98.5 1795164112\n", Format::GraphiteKeyed, &expect);
    check(&NOTHING, b"servers.web-017.cpu.idle 98.5 1795164112\n", Format::Graphite, &expect);
    check(&keyed, b"servers.web-017.cpu.idle 98.5 1795164112\n", Format::Graphite, &expect);
    check(&NOTHING, b"a:1|c\nb:2|ms|#k:v", Format::Statsd, &["a=1 counter", "b{k:v}=2 timer"]);
}

/// Lines of a format that are to be taken, each with the name its sample has.
fn good_line(format: Format) -> BoxedStrategy<(String, String)> {
    let word = "[a-zA-Z][a-zA-Z0-9_]{0,12}";
    let value = (-1_000_000i32..1_000_000, 0u32..1000).prop_map(|(a, b)| format!("{a}.{b:03}"));
    match format {
        Format::Graphite => (prop::collection::vec(word, 1..4), value)
            .prop_map(|(words, value)| {
                let name = words.join(".");
                let number: f64 = value.parse().unwrap();
                (format!("{name} {value} 1795164112"), format!("{name}={number} gauge @1795164112000000000"))
            })
            .boxed(),
        Format::Influx => (word, word, word, word, value)
            .prop_map(|(name, key, tag, field, value)| {
                let number: f64 = value.parse().unwrap();
                let line = format!("{name},{key}={tag} {field}={value}");
                (line, format!("{name}.{field}{{{key}={tag}}}={number} gauge"))
            })
            .boxed(),
        _ => (word, word, word, value)
            .prop_map(|(host, plugin, kind, value)| {
                let number: f64 = value.parse().unwrap();
                let line = format!("PUTVAL {host}/{plugin}-0/{kind} interval=10 N:{value}");
                (line, format!("{host}/{plugin}.0.{kind}={number} gauge"))
            })
            .boxed(),
    }
}

const LINE_FORMATS: [Format; 3] = [Format::Graphite, Format::Influx, Format::CollectdCommand];

proptest! {
    #[test]
    fn any_bytes_keep_every_promise(body in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise::collectd(&body);
        exercise::graphite(&body);
        exercise::influx(&body);
        exercise::detect_and_inflate(&body);
    }

    #[test]
    fn text_of_the_grammars_keeps_every_promise(body in r#"[a-cNU0-9 .:;,=/"\\\-+{}\[\]iu\n\r\té]{0,200}"#) {
        exercise::graphite(body.as_bytes());
        exercise::influx(body.as_bytes());
        exercise::collectd(format!("PUTVAL {body}\nPUTVAL a/b/c {body}").as_bytes());
    }

    #[test]
    fn good_lines_round_trip_around_a_bad_one(
        (format, lines) in prop::sample::select(&LINE_FORMATS)
            .prop_flat_map(|format| (Just(format), prop::collection::vec(good_line(format), 1..15))),
        bad in "[?!:|;é\u{1}]{1,20}",
        at in any::<prop::sample::Index>(),
    ) {
        let (mut body, expect): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
        body.insert(at.index(body.len()), bad);
        let seen = see(format, &Context::bare(NOW), body.join("\n").as_bytes());
        prop_assert_eq!(seen.samples, expect);
        prop_assert_eq!(seen.rejects.len(), 1);
        prop_assert_eq!(seen.notes.lines, body.len() as u64);
    }
}
