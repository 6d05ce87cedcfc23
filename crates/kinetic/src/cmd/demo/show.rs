//! What the demo puts on the terminal: progress, the picture of the fleet, the mail.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_wire::{AlertEvent, AlertState};

use super::{Mail, Report, say};
use crate::term::Style;

/// Columns of a bar at `BAR_MS`.
const BAR_COLUMNS: f64 = 40.0;
/// Latency of a full bar.
const BAR_MS: f64 = 300.0;
/// Hosts drawn; more are counted.
const HOSTS_DRAWN_MAX: usize = 24;
/// Share of the newest message in a host's shown latency.
const SMOOTHING: f64 = 0.3;

/// The terminal. Draws in place where it can, prints milestones where it cannot.
#[derive(Debug)]
pub(crate) struct Show {
    style: Style,
    json: bool,
    hosts: u32,
    latency: BTreeMap<String, f64>,
    firing: BTreeMap<String, f64>,
    drawn_lines: usize,
    mailed: bool,
    /// A command that shows what arrives in this demo.
    tap: String,
}

impl Show {
    /// Nothing is printed yet.
    pub(crate) fn new(json: bool, hosts: u32) -> Self {
        let show = Self {
            style: Style::stdout(),
            json,
            hosts,
            latency: BTreeMap::new(),
            firing: BTreeMap::new(),
            drawn_lines: 0,
            mailed: false,
            tap: String::new(),
        };
        show.say(&format!(
            "{}\n{hosts} simulated hosts publish statsd over AMQP; one of them will turn slow.\n\n",
            show.style.bold("Kinetic demo, all on this machine")
        ));
        show
    }

    fn say(&self, text: &str) {
        say(self.json, text);
    }

    /// Something has started.
    pub(crate) fn step(&self, what: &str, place: &str) {
        self.say(&format!("  {} {what:<34} {}\n", self.style.green("started"), self.style.dim(place)));
    }

    /// How this demo's samples can be watched from another terminal.
    pub(crate) fn tap(&mut self, command: String) {
        self.tap = command;
    }

    /// The hosts have started.
    pub(crate) fn fleet(&self, slow: &str, after: Duration) {
        self.step(&format!("{} hosts, each with an agent", self.hosts), "statsd over udp, then AMQP");
        self.say(&format!(
            "\n  rule: more than 3 standard deviations above the mean of the cluster, 2 of 3 windows of 1 s\n  \
             {slow} turns slow after {} s\n\n",
            after.as_secs()
        ));
    }

    /// Latencies out of one message.
    pub(crate) fn latencies(&mut self, host: String, values: &[f64]) {
        if values.is_empty() {
            return;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let shown = self.latency.entry(host).or_insert(mean);
        *shown += SMOOTHING * (mean - *shown);
    }

    /// An alert event.
    pub(crate) fn alert(&mut self, event: &AlertEvent) {
        let origin = event.feed.origin.clone();
        let deviations = event.numbers.map_or(0.0, |numbers| numbers.deviations);
        let news = match event.state {
            AlertState::Firing => self.firing.insert(origin.clone(), deviations).is_none(),
            AlertState::Resolved => self.firing.remove(&origin).is_some(),
        };
        if news && !self.mailed {
            self.erase();
            let state = match event.state {
                AlertState::Firing => self.style.red("firing"),
                AlertState::Resolved => self.style.green("resolved"),
            };
            self.say(&format!(
                "  alert {state}: {origin}, {deviations:.2} standard deviations above its peers\n"
            ));
        }
    }

    /// Draws the fleet in place.
    pub(crate) fn redraw(&mut self, samples: f64) {
        if !self.style.fancy || self.json || self.mailed {
            return;
        }
        self.erase();
        let mut text = String::new();
        for (host, latency) in self.latency.iter().take(HOSTS_DRAWN_MAX) {
            let columns = (latency / BAR_MS * BAR_COLUMNS).clamp(1.0, BAR_COLUMNS) as usize;
            let bar = "█".repeat(columns);
            let bar =
                if self.firing.contains_key(host) { self.style.red(&bar) } else { self.style.dim(&bar) };
            text.push_str(&format!("  {host}  {latency:6.1} ms  {bar}\n"));
        }
        if self.latency.len() > HOSTS_DRAWN_MAX {
            text.push_str(&format!("  and {} more\n", self.latency.len() - HOSTS_DRAWN_MAX));
        }
        text.push_str(&format!(
            "  {samples:.0} samples analysed   {}\n",
            self.style.dim("Ctrl-C stops the demo")
        ));
        self.drawn_lines = text.lines().count();
        self.say(&text);
    }

    /// Takes away what `redraw` drew.
    fn erase(&mut self) {
        if self.drawn_lines > 0 {
            crate::term::steer(&format!("\x1b[{}A\x1b[J", self.drawn_lines));
            self.drawn_lines = 0;
        }
    }

    /// A mail, as its reader sees it, then how to look further.
    pub(crate) fn mail(&mut self, mail: &Mail) {
        if self.mailed {
            self.say(&format!("  another mail: {}\n", mail.subject));
            return;
        }
        self.erase();
        self.mailed = true;
        let rule = self.style.dim(&"─".repeat(78));
        let text: String = mail.text.lines().map(|line| format!("  {line}\n")).collect();
        self.say(&format!(
            "\n  {}\n{rule}\n  From:    {}\n  To:      {}\n  Date:    {}\n  Subject: {}\n\n{text}{rule}\n\n",
            self.style.bold("The e-mail has arrived:"),
            mail.from,
            mail.to,
            mail.date,
            self.style.bold(&mail.subject),
        ));
        self.say(&format!(
            "Look further, from another terminal while the demo runs:\n  {}\n\n\
             Next:\n  kinetic schema init my-schema        a schema repository of your own\n  \
             kinetic up --help                    run it for real on this machine\n  \
             kinetic client-config --help         connect statsd, collectd, Telegraf, Python\n\n",
            self.tap,
        ));
    }

    /// Without `--once`, after a mail.
    pub(crate) fn goes_on(&self) {
        self.say(&format!(
            "{}\n",
            self.style.dim("The demo goes on (repeats and recoveries are mailed too); Ctrl-C stops it.")
        ));
    }

    /// Ctrl-C, or the end of `--once`.
    pub(crate) fn stopping(&mut self) {
        self.erase();
        self.say(&format!("{}\n", self.style.dim("stopping …")));
    }

    /// `--once` came true.
    pub(crate) fn done(&self, report: &Report) {
        if self.json {
            say(false, &format!("{}\n", serde_json::to_string(report).expect("a report has string keys")));
        } else {
            self.say(&format!(
                "{} the e-mail about {} came {:.1} s after the demo began; {} samples analysed\n",
                self.style.green("ok:"),
                report.feed,
                report.mail_ms as f64 / 1000.0,
                report.samples,
            ));
        }
    }

    /// It did not.
    pub(crate) fn failed(&self, reason: &str) {
        if self.json {
            say(false, &format!("{}\n", serde_json::json!({"ok": false, "reason": reason})));
        } else {
            self.say(&format!("{} {reason}\n", self.style.red("failed:")));
        }
    }
}
