//! Every row of the accept/reject matrix of statsd servers, the dialects, and the promises that hold for any bytes.

use kinetic_wire::Wall;
use proptest::prelude::*;

use super::*;
use crate::decode::exercise::testing::{Seen, see};
use crate::decode::{Format, TAGS_MAX};

fn context(gauge_sign: GaugeSign) -> Context<'static> {
    Context { gauge_sign, ..Context::bare(Wall::from_secs(1_795_164_112)) }
}

fn run(body: impl AsRef<[u8]>) -> Seen {
    see(Format::Statsd, &context(GaugeSign::Auto), body.as_ref())
}

/// One line, alone and between two others, on the quick way and (by a carriage return) on the careful one.
fn check(line: &str, expect: &[&str]) {
    for end in ["\n", "\r\n"] {
        assert_eq!(run(format!("{line}{end}")).lines(), expect, "{line:?}");
        let between = run(format!("x:1|c\n{line}{end}y:2|g")).samples;
        let samples = expect.iter().filter(|text| !text.starts_with('!')).copied();
        let neighbours: Vec<_> = ["x=1 counter"].into_iter().chain(samples).chain(["y=2 gauge"]).collect();
        assert_eq!(between, neighbours, "{line:?} among others");
    }
}

fn check_reject(line: &str, reason: &str) {
    check(line, &[&format!("!{reason} {line}")]);
}

#[test]
fn core_protocol() {
    check("a:1|c", &["a=1 counter"]);
    check("a:1|c|@0.1", &["a=1 counter x0.1"]);
    check("a:-2|c", &["a=-2 counter"]);
    check("checkout.latency.m17:123.4|ms", &["checkout.latency.m17=123.4 timer"]);
    check("a:320|ms|@0.1", &["a=320 timer x0.1"]);
    check("a:333|g", &["a=333 gauge"]);
    check("a:-10|g", &["a=-10 gaugedelta"]);
    check("a:+4|g", &["a=4 gaugedelta"]);
    check("a:1.5|h", &["a=1.5 timer"]);
    check("a:-1.5|d", &["a=-1.5 timer"]);
    check("name with spaces/and-more:1|c", &["name with spaces/and-more=1 counter"]);
    assert_eq!(run("\n\na:1|c\n\n\nb:2|c\n\n").lines(), ["a=1 counter", "b=2 counter"]);
    assert_eq!(run("").lines(), [""; 0]);
}

#[test]
fn matrix_incomplete() {
    check_reject("a", "malformed");
    check_reject("a:1", "malformed");
    check_reject("a:|c", "bad_value");
}

#[test]
fn matrix_empty_name() {
    check_reject(":1|c", "empty_name");
    check_reject(",k=v:1|c", "empty_name");
    check_reject("[k=v]:1|c", "empty_name");
}

#[test]
fn matrix_unknown_type() {
    check_reject("a:1|zz", "bad_type");
    check_reject("a:1|", "bad_type");
    check_reject("a:1|C", "bad_type");
    check_reject("a:1|msx", "bad_type");
}

#[test]
fn matrix_rate_of_zero() {
    check_reject("a:1|c|@0", "bad_rate");
}

#[test]
fn matrix_rate_out_of_range() {
    check_reject("a:1|c|@2", "bad_rate");
    check_reject("a:1|c|@-1", "bad_rate");
    check_reject("a:1|c|@", "bad_rate");
    check_reject("a:1|c|@x", "bad_rate");
    check_reject("a:1|c|@NaN", "bad_rate");
    check("a:1|c|@1", &["a=1 counter"]);
}

#[test]
fn matrix_rate_with_exponent() {
    check("a:1|c|@1e-1", &["a=1 counter x0.1"]);
}

#[test]
fn matrix_nan_and_infinity() {
    for word in ["NaN", "nan", "Infinity", "-inf", "+Infinity", "1e400"] {
        check_reject(&format!("a:{word}|g"), "bad_value");
    }
}

#[test]
fn matrix_hexadecimal_and_blank() {
    check_reject("a:0x10|c", "bad_value");
    check_reject("a:  |c", "bad_value");
    check_reject("a: 1|c", "bad_value");
}

#[test]
fn matrix_negative_timer() {
    check_reject("a:-1|ms", "negative_timer");
    check_reject("a:1:-1|ms", "negative_timer");
}

#[test]
fn matrix_packed_values() {
    check("a:1:2|c", &["a=1 counter", "a=2 counter"]);
    check("a:1::32|d|#k:v", &["a{k:v}=1 timer", "a{k:v}=32 timer"]);
    check("a:1:+2:-3|g", &["a=1 gauge", "a=2 gaugedelta", "a=-3 gaugedelta"]);
    // Whole or not at all.
    check_reject("a:1:x:2|c", "bad_value");
    check_reject("a:::|c", "bad_value");
}

#[test]
fn matrix_rate_where_it_means_nothing() {
    for (line, expect) in [("a:1|g|@0.5", "a=1 gauge"), ("a:1|g|@0", "a=1 gauge")] {
        check(line, &[expect]);
        assert_eq!(run(line).notes, Notes { lines: 1, rates_ignored: 1, ..Notes::default() });
    }
    assert_eq!(run("a:x|s|@0.5").notes.rates_ignored, 1);
}

#[test]
fn matrix_unknown_third_field() {
    for (line, ignored) in [("a:1|c|zzz", 1), ("a:1|c|", 1), ("a:1|c|zzz|y|@0.5|x", 3)] {
        let seen = run(line);
        assert_eq!((seen.samples.len(), seen.notes.fields_ignored), (1, ignored), "{line}");
    }
    assert_eq!(run("a:1|c|zzz|@7").notes.fields_ignored, 0, "a refused line has no notes");
}

#[test]
fn matrix_text() {
    assert_eq!(run("a:1|c\r\nb:2|c\r").lines(), ["a=1 counter", "b=2 counter"]);
    check("größe:1|c", &["größe=1 counter"]);
    for odd in [
        &b"a\xff:1|c"[..],
        b"a\0:1|c",
        b"a\x07:1|c",
        b"a:1|c\r\r",
        b"a\tb:1|c",
        b"a\x7f:1|c",
        "a\u{85}:1|c".as_bytes(),
    ] {
        let seen = run([b"x:1|c\n", odd, b"\ny:2|c"].concat());
        assert_eq!(seen.samples, ["x=1 counter", "y=2 counter"]);
        assert_eq!(seen.rejects.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), [Reject::BadText]);
    }
}

#[test]
fn sets() {
    let seen = run("u:765|s\nu:765|s\nu:x:y|s\nu:x|s\nu:0x|s|#k:v");
    let values: Vec<_> =
        seen.samples.iter().map(|text| text.split(['=', ' ']).nth(1).unwrap_or_default()).collect();
    assert_eq!(values[0], values[1]);
    assert_ne!(values[2], values[3]);
    assert!(seen.samples.iter().all(|text| text.ends_with(" set")), "{:?}", seen.samples);
    check_reject("u:|s", "bad_value");
}

#[test]
fn dogstatsd() {
    check("a:1|c|@0.5|#env:prod,bare", &["a{env:prod,bare}=1 counter x0.5"]);
    check("a:1|c|#env:prod|@0.5", &["a{env:prod}=1 counter x0.5"]);
    check("a:1|c|#", &["a=1 counter"]);
    check("a:1|ms|#k:a,k:b", &["a{k:a,k:b}=1 timer"]);
    for container in [
        "c:0123abc",
        "c:ci-0123abc",
        "c:in-4026531835",
        "c:ci-a,in-1",
        "e:it-false,cn-nginx,pu-1",
        "card:low",
    ] {
        check(&format!("a:1|c|{container}"), &["a=1 counter"]);
        assert_eq!(run(format!("a:1|c|{container}")).notes.fields_ignored, 0);
        check(&format!("a:-1|g|{container}"), &["a=-1 gauge"]);
    }
    check("a:1|g|T1656581400", &["a=1 gauge @1656581400000000000"]);
    check("a:1|c|T1656581400|#k:v", &["a{k:v}=1 counter @1656581400000000000"]);
    for stamp in ["T0", "T-5", "Tx", "T", "T1.5", "T9999999999", "T1795999999", "T99999999999999999999"] {
        check_reject(&format!("a:1|g|{stamp}"), "bad_timestamp");
    }
    check("a:1|ms|T1656581400", &["a=1 timer"]);
    assert_eq!(run("a:1|ms|T1656581400").notes.fields_ignored, 1);
    check_reject("a:1|c|#a:b|#c:d", "bad_tags");
    check_reject("_e{5,4}:title|text|t:warning|#a:b", "not_a_metric");
    check_reject("_sc|db|2|#env:dev|m:timed out", "not_a_metric");
    check("_e:1|c", &["_e=1 counter"]);
}

#[test]
fn name_tag_dialects() {
    check("a,k=v,k2=v2:0|c", &["a{k=v,k2=v2}=0 counter"]);
    check("a#k=v,k2=v2:0|c", &["a{k=v,k2=v2}=0 counter"]);
    check("a[k=v,k2=v2]:0|c", &["a{k=v,k2=v2}=0 counter"]);
    check("a[k=v].tail:0|c", &["a~.tail{k=v}=0 counter"]);
    check("a;k=v;k2=v2:0|c", &["a{k=v;k2=v2}=0 counter"]);
    check("t;env=prod;bare:0|c", &["t{env=prod;bare}=0 counter"]);
    check("a[]:0|c", &["a=0 counter"]);
    for line in ["a[k=v:0|c", "ak=v]:0|c", "a[k=v]]:0|c", "a[k=v][l=w]:0|c"] {
        check_reject(line, "bad_tags");
    }
    for head in ["a,k=v", "a#k=v", "a[k=v]", "a;k=v"] {
        check_reject(&format!("{head}:0|c|#k:v"), "bad_tags");
    }
}

#[test]
fn etsy_several_values() {
    check("a:1|c:5|ms|@0.1", &["a=1 counter", "a=5 timer x0.1"]);
    check("a:1|c|@0.1:5|ms:-7|g", &["a=1 counter x0.1", "a=5 timer", "a=-7 gaugedelta"]);
    check_reject("a:1|c:x|ms", "bad_value");
    check_reject("a:1|c:5", "malformed");
    check_reject("a:1|c:5|ms|#k:v", "bad_type");
}

#[test]
fn gauge_sign() {
    for (sign, bare, dog) in [
        (GaugeSign::Auto, "gaugedelta", "gauge"),
        (GaugeSign::Relative, "gaugedelta", "gaugedelta"),
        (GaugeSign::Absolute, "gauge", "gauge"),
    ] {
        let see = |line: &str| see(Format::Statsd, &context(sign), line.as_bytes()).lines();
        assert_eq!(see("a:-5|g"), [format!("a=-5 {bare}")]);
        assert_eq!(see("a:+5|g\r"), [format!("a=5 {bare}")]);
        assert_eq!(see("a:5|g"), ["a=5 gauge"]);
        assert_eq!(see("a:-5|g|#k:v"), [format!("a{{k:v}}=-5 {dog}")]);
        assert_eq!(see("a:-5|g|T1656581400"), [format!("a=-5 {dog} @1656581400000000000")]);
    }
}

#[test]
fn caps() {
    let name = "n".repeat(NAME_BYTES_MAX);
    check(&format!("{name}:1|c"), &[&format!("{name}=1 counter")]);
    check_reject(&format!("{name}n:1|c"), "name_too_long");
    let tags = |count: usize| vec!["k:v"; count].join(",");
    assert_eq!(run(format!("a:1|c|#{}", tags(TAGS_MAX))).samples.len(), 1);
    check_reject(&format!("a:1|c|#{}", tags(TAGS_MAX + 1)), "too_many_tags");
    check_reject(&format!("a,{}:1|c", tags(TAGS_MAX + 1).replace(':', "=")), "too_many_tags");
    let long = |bytes: usize| format!("a:1|c|{}", "x".repeat(bytes - 6));
    assert_eq!(run(long(LINE_BYTES_MAX)).samples.len(), 1);
    for end in ["", "\r"] {
        let seen = run(format!("{}{end}\nb:1|c", long(LINE_BYTES_MAX + 1)));
        assert_eq!(seen.samples, ["b=1 counter"]);
        assert_eq!((seen.rejects[0].0, seen.rejects[0].1.len()), (Reject::LineTooLong, LINE_BYTES_MAX));
    }
    for end in ["\n", "\r\n"] {
        let seen = run(format!("a:1|c{end}").repeat(10_001));
        assert_eq!((seen.samples.len(), seen.rejects.len(), seen.notes.lines), (10_000, 1, LINES_MAX));
        assert_eq!(seen.rejects[0].0, Reject::TooManyLines);
    }
}

/// A line that is to be taken, and how it is to be read.
fn good_line() -> impl Strategy<Value = (String, String)> {
    let value = (0u32..1_000_000, 0u32..1000).prop_map(|(a, b)| format!("{a}.{b:03}"));
    let kind = prop_oneof![
        Just(("c", "counter")),
        Just(("ms", "timer")),
        Just(("g", "gauge")),
        Just(("h", "timer"))
    ];
    let tags = prop_oneof![Just(String::new()), "[a-z]{1,8}:[a-z0-9]{0,8}(,[a-z]{1,8}){0,3}"];
    ("[a-zA-Z][a-zA-Z0-9._-]{0,40}", value, kind, tags).prop_map(|(name, value, (letters, kind), tags)| {
        let number: f64 = value.parse().unwrap();
        let (shown, written) = match tags.as_str() {
            "" => (String::new(), String::new()),
            tags => (format!("{{{tags}}}"), format!("|#{tags}")),
        };
        (format!("{name}:{value}|{letters}{written}"), format!("{name}{shown}={number} {kind}"))
    })
}

proptest! {
    #[test]
    fn never_panics_and_keeps_every_promise(body in prop::collection::vec(any::<u8>(), 0..600)) {
        crate::decode::exercise::statsd(&body);
    }

    #[test]
    fn lines_made_of_the_grammars_own_signs(body in r"[a-c:|@#,;=\[\]0-9.+\-cgmshdT_e{}\n\r é]{0,300}") {
        crate::decode::exercise::statsd(body.as_bytes());
    }

    #[test]
    fn good_lines_round_trip(lines in prop::collection::vec(good_line(), 0..40)) {
        let (body, expect): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
        prop_assert_eq!(run(body.join("\n")).lines(), expect);
    }

    #[test]
    fn a_bad_line_changes_nothing_else(
        lines in prop::collection::vec(good_line(), 1..20),
        bad in "[a-z\u{1}é|:]{1,20}",
        at in any::<prop::sample::Index>(),
    ) {
        let (mut body, mut expect): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
        let alone = run(&bad);
        let at = at.index(body.len());
        body.insert(at, bad);
        let rejects = alone.rejects.len();
        expect.splice(at..at, alone.samples);
        let seen = run(body.join("\n"));
        prop_assert_eq!(seen.samples, expect);
        prop_assert_eq!(seen.rejects.len(), rejects);
    }
}
