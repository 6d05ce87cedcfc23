//! `kinetic tap`: a copy of what a source's publishers send, decoded, while its analyzer goes on.

use anyhow::{Context, Result, bail};
use kinetic_amqp::{Binding, ConsumeOptions, Consumer, Event, Overflow, Queue, QueueArgs, Topology};
use kinetic_analyzer::machine::Slot;
use kinetic_analyzer::sample::Kind;
use kinetic_analyzer::tap::{Sight, Tap};
use kinetic_wire::{SourceKey, names};

use crate::adapter::clock;
use crate::shell::analyzer;
use crate::{cli, exit, node, schema_files, shutdown, term};

/// Messages that wait for a slow terminal at the broker; the oldest go first.
const QUEUE_MAX: u64 = 10_000;
/// Messages on their way.
const PREFETCH: u16 = 256;

/// `kinetic tap`
pub(crate) async fn run(args: cli::Tap) -> Result<u8> {
    let (customer, source) = args.source.split_once('/').context("name the source as CUSTOMER/SOURCE")?;
    let key = SourceKey::new(customer, source);
    let remote = args.schema.clone();
    let schema = tokio::task::spawn_blocking(move || schema_files::load(&remote)).await??;
    let owner = schema.customers.get(&key.customer);
    let Some((owner, declared)) = owner.and_then(|owner| Some((owner, owner.sources.get(&key.source)?)))
    else {
        bail!("the schema in {} knows no source {key}", args.schema);
    };
    let mut tap = Tap::new(&schema, &key).context("a source that is declared can be tapped")?;
    let region = schema.regions.get(&owner.region).context("a checked schema has its customers' regions")?;
    let own = node::address(&args.broker, "kinetic tap")?;
    let address = crate::topology::region_address(&own, region);
    let exchange = names::ingress_exchange(&key.customer);
    let topology = Topology {
        queues: vec![Queue {
            exclusive: true,
            auto_delete: true,
            args: QueueArgs {
                max_length: Some(QUEUE_MAX),
                overflow: Some(Overflow::DropHead),
                ..QueueArgs::default()
            },
            ..Queue::default()
        }],
        bindings: declared
            .routing
            .iter()
            .map(|pattern| Binding::new("", exchange.clone(), pattern.clone()))
            .collect(),
        ..Topology::default()
    };
    let options = ConsumeOptions { topology, prefetch: PREFETCH, no_ack: true, ..ConsumeOptions::default() };
    let mut consumer = Consumer::start(address, options);
    let mut printer = Printer::new(&args)?;
    let code = loop {
        let event = tokio::select! {
            interrupted = shutdown::interrupted() => {
                interrupted?;
                break 0;
            }
            event = consumer.next() => event,
        };
        match event {
            Event::Delivery(delivery) => {
                if printer.print(&mut tap, &delivery) {
                    break 0;
                }
            }
            Event::Lost { reason } => {
                printer.note(&format!("not connected: {reason}"));
                if !printer.ever_subscribed {
                    break exit::FAILED;
                }
            }
            Event::Subscribed => {
                printer.ever_subscribed = true;
                printer.note(&format!("listening to {exchange}: {}", declared.routing.join(", ")));
            }
            Event::Cancelled => {}
        }
    };
    consumer.close().await;
    Ok(code)
}

/// What is printed, and until when.
struct Printer {
    json: bool,
    left: Option<u64>,
    metric: Option<kinetic_schema::schema::Glob>,
    ever_subscribed: bool,
}

impl Printer {
    fn new(args: &cli::Tap) -> Result<Self> {
        let metric = args.metric.as_deref().map(kinetic_schema::schema::Glob::parse).transpose();
        let metric = metric.map_err(|error| anyhow::anyhow!("--metric is no pattern: {error}"))?;
        Ok(Self { json: args.json, left: args.count, metric, ever_subscribed: false })
    }

    /// News of the tap itself; never in the way of a script.
    fn note(&self, text: &str) {
        if !self.json {
            term::say(&format!("{}\n", term::Style::stdout().dim(text)));
        }
    }

    /// Prints a delivery's samples; true once there have been enough.
    fn print(&mut self, tap: &mut Tap, delivery: &kinetic_amqp::Delivery) -> bool {
        let shown = analyzer::read(Slot(0), delivery);
        let mut sights = Vec::new();
        let mut refused = Vec::new();
        let whole = tap.read(
            clock::now().wall,
            &shown,
            |sight| sights.push(sight),
            |reason, line| refused.push((reason.name(), String::from_utf8_lossy(line).into_owned())),
        );
        if let Err(reason) = whole {
            let body = String::from_utf8_lossy(&delivery.body()[..delivery.body().len().min(200)]);
            refused.push((reason.name(), format!("whole body: {body}")));
        }
        for sight in sights {
            if self.metric.as_ref().is_some_and(|wanted| !wanted.matches(&sight.metric)) {
                continue;
            }
            if self.left == Some(0) {
                return true;
            }
            term::say(&if self.json { json(&sight) } else { row(&sight) });
            self.left = self.left.map(|left| left - 1);
        }
        for (reason, line) in refused {
            if self.json {
                term::say(&format!("{}\n", serde_json::json!({"refused": reason, "line": line})));
            } else {
                let line: String =
                    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
                term::say(&format!("{} {line}\n", term::Style::stdout().red(&format!("refused ({reason})"))));
            }
        }
        self.left == Some(0)
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::GaugeDelta => "gauge delta",
        Kind::Timer => "timer",
        Kind::Set => "set",
        Kind::Total => "total",
    }
}

fn json(sight: &Sight) -> String {
    let value = serde_json::json!({
        "origin": sight.origin, "metric": sight.metric, "kind": kind(sight.kind), "value": sight.value,
        "rate": sight.rate, "at_ms": sight.at.as_ms(), "watched": sight.watched,
    });
    format!("{value}\n")
}

/// One line a sample: seconds of the day, feed, metric, value; a star where some analytic looks at it.
fn row(sight: &Sight) -> String {
    let of_day = sight.at.as_ms().rem_euclid(86_400_000);
    let (hours, minutes, seconds) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    let value = if sight.kind == Kind::Set {
        format!("{:016x}", sight.value.to_bits())
    } else {
        sight.value.to_string()
    };
    let rate = if sight.rate < 1.0 { format!(" @{}", sight.rate) } else { String::new() };
    let origin = sight.origin.as_deref().unwrap_or("(nothing says whose)");
    let watched = if sight.watched { "*" } else { " " };
    let text = format!(
        "{hours:02}:{minutes:02}:{seconds:02} {watched} {origin:<20} {} {value} {}{rate}",
        sight.metric,
        kind(sight.kind)
    );
    // Names come from whoever publishes: nothing of theirs may steer the terminal.
    let safe: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("{safe}\n")
}
