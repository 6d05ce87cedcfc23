//! Decoding figures: `cargo bench -p kinetic-analyzer --bench decode`. Items are lines (or value lists); bodies are
//! about 1400 bytes, as agents send them.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kinetic_analyzer::decode::{Context, Format, Notes, detect, samples};
use kinetic_analyzer::sample::{Reject, Sample};
use kinetic_wire::Wall;

/// Size of a body.
const BODY_BYTES: usize = 1400;

fn main() {
    divan::main();
}

fn context() -> Context<'static> {
    Context::bare(Wall::from_secs(1_795_164_112))
}

/// Lines up to the size of a body.
fn body(line: impl Fn(u32) -> String) -> String {
    let mut body = String::new();
    for n in 0.. {
        let line = line(n);
        if body.len() + line.len() >= BODY_BYTES {
            break;
        }
        body.push_str(&line);
        body.push('\n');
    }
    body
}

/// A value of one to four digits with one decimal, not the same on every line.
fn value(n: u32) -> String {
    format!("{}.{}", n * 7919 % 1300, n % 10)
}

/// Decodes a body over and over, and looks at every sample as a consumer would.
fn run(bencher: Bencher<'_, '_>, format: Format, body: &str) {
    let context = context();
    let decode = |body: &str| -> (f64, usize, Notes) {
        let (mut sum, mut bytes) = (0.0, 0);
        let mut each = |sample: Sample<'_>| {
            sum += sample.value;
            bytes += sample.name.len() + sample.tags.len();
        };
        let mut reject = |reason: Reject, _: &[u8]| panic!("{reason:?}");
        let notes = samples(format, &context, body.as_bytes(), &mut each, &mut reject);
        (sum, bytes, notes)
    };
    bencher
        .counter(ItemsCount::new(body.lines().count()))
        .counter(BytesCount::of_str(body))
        .bench_local(|| decode(black_box(body)));
}

#[divan::bench]
fn statsd_timers(bencher: Bencher<'_, '_>) {
    run(bencher, Format::Statsd, &body(|n| format!("checkout.latency.m{}:{}|ms", n % 50, value(n))));
}

#[divan::bench]
fn statsd_mixed_types(bencher: Bencher<'_, '_>) {
    let kinds = ["c", "g", "ms", "h"];
    run(
        bencher,
        Format::Statsd,
        &body(|n| format!("web.{n}.requests:{}|{}", value(n), kinds[n as usize * 7 % 4])),
    );
}

#[divan::bench]
fn statsd_rates(bencher: Bencher<'_, '_>) {
    run(bencher, Format::Statsd, &body(|n| format!("checkout.hits.m{n}:{}|c|@0.1", n % 7)));
}

#[divan::bench]
fn statsd_crlf(bencher: Bencher<'_, '_>) {
    run(bencher, Format::Statsd, &body(|n| format!("checkout.latency.m{}:{}|ms\r", n % 50, value(n))));
}

#[divan::bench]
fn dogstatsd_tags(bencher: Bencher<'_, '_>) {
    run(
        bencher,
        Format::Statsd,
        &body(|n| format!("checkout.latency:{}|ms|#host:web-{n},env:prod", value(n))),
    );
}

#[divan::bench]
fn graphite(bencher: Bencher<'_, '_>) {
    run(bencher, Format::Graphite, &body(|n| format!("servers.web-{n}.cpu.idle {} 1795164112", value(n))));
}

#[divan::bench]
fn influx(bencher: Bencher<'_, '_>) {
    let line = |n| format!("cpu,host=web-{n},core=0 idle={},user=3i 1795164112000000000", value(n));
    run(bencher, Format::Influx, &body(line));
}

#[divan::bench]
fn collectd_command(bencher: Bencher<'_, '_>) {
    let line = |n| format!("PUTVAL web-{n}/load/load interval=2.000 1795164112.156:{}:9.22:8.71", value(n));
    run(bencher, Format::CollectdCommand, &body(line));
}

#[divan::bench]
fn detect_statsd(bencher: Bencher<'_, '_>) {
    let body = body(|n| format!("checkout.latency.m{}:{}|ms", n % 50, value(n)));
    let context = context();
    bencher.bench_local(|| detect(&context, black_box(body.as_bytes())));
}
