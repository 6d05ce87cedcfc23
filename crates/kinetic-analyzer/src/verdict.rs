//! From "out of line in this window" to "firing" and "resolved": m of the last n windows, per feed.

use kinetic_schema::schema::Hysteresis;
use kinetic_wire::{AlertId, AlertState, Wall};
use uuid::Uuid;

/// A feed without a verdict for at least this many windows, and for as many as the rule looks at, ends its alert.
pub(crate) const QUIET_WINDOWS_MIN: u32 = 3;

/// A feed's alert that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Firing {
    /// End of the window in which it began.
    pub(crate) since: Wall,
    /// End of the window of the last event that said so.
    pub(crate) said: Wall,
}

/// Where one feed stands with one analytic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// One bit a window with a verdict, the newest lowest: out of line or not.
    pub(crate) windows: u64,
    /// Consecutive windows without a verdict on this feed.
    pub(crate) quiet: u32,
    pub(crate) firing: Option<Firing>,
}

/// What one window changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// Firing, from now on or still, and it is time to say so.
    Firing {
        since: Wall,
    },
    Resolved {
        since: Wall,
    },
}

impl Standing {
    /// Windows out of line among the last `of`.
    pub(crate) fn hits(&self, rule: Hysteresis) -> u32 {
        let mask = if rule.of >= 64 { u64::MAX } else { (1 << rule.of) - 1 };
        (self.windows & mask).count_ones()
    }

    /// Takes one window's verdict. `refresh_ns` is how long a standing alert may go unsaid.
    pub(crate) fn judge(&mut self, rule: Hysteresis, is_out: bool, end: Wall, refresh_ns: i64) -> Change {
        self.windows = self.windows << 1 | u64::from(is_out);
        self.quiet = 0;
        let holds = self.hits(rule) >= rule.hits;
        match &mut self.firing {
            None if holds => {
                self.firing = Some(Firing { since: end, said: end });
                Change::Firing { since: end }
            }
            None => Change::Nothing,
            Some(firing) if !holds => {
                let since = firing.since;
                self.firing = None;
                Change::Resolved { since }
            }
            Some(firing) if end.0.saturating_sub(firing.said.0) >= refresh_ns => {
                firing.said = end;
                Change::Firing { since: firing.since }
            }
            Some(_) => Change::Nothing,
        }
    }

    /// Takes one window without a verdict on this feed: it had no value, or its cluster gave none.
    pub(crate) fn pass(&mut self, rule: Hysteresis) -> Change {
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet < rule.of.max(QUIET_WINDOWS_MIN) {
            return Change::Nothing;
        }
        self.windows = 0;
        match self.firing.take() {
            Some(firing) => Change::Resolved { since: firing.since },
            None => Change::Nothing,
        }
    }

    /// It fires, by a rule that needs no series of windows: since when, and the end of the window that says so.
    pub(crate) fn begin(&mut self, since: Wall, end: Wall, refresh_ns: i64) -> Change {
        self.windows = 1;
        match &mut self.firing {
            None => {
                self.firing = Some(Firing { since, said: end });
                Change::Firing { since }
            }
            Some(firing) if end.0.saturating_sub(firing.said.0) >= refresh_ns => {
                firing.said = end;
                Change::Firing { since: firing.since }
            }
            Some(_) => Change::Nothing,
        }
    }

    /// It does not fire, by such a rule.
    pub(crate) fn end(&mut self) -> Change {
        self.windows = 0;
        match self.firing.take() {
            Some(firing) => Change::Resolved { since: firing.since },
            None => Change::Nothing,
        }
    }

    /// Nothing is remembered that a later window could need.
    pub(crate) fn is_blank(&self) -> bool {
        self.windows == 0 && self.firing.is_none()
    }
}

/// Namespace of alert ids; changing it makes every id new.
const ALERT_NAMESPACE: Uuid = Uuid::from_u128(0x6b69_6e65_7469_5563_a1e7_2d61_6c65_7274);

/// The id of one verdict: the same for whoever reaches it. `names` are customer, analytic, service, cluster, metric
/// and feed.
pub(crate) fn alert_id(names: [&str; 6], window_start: Wall, state: AlertState) -> AlertId {
    let mut name = Vec::with_capacity(names.iter().map(|part| part.len() + 1).sum::<usize>() + 16);
    for part in names {
        name.extend_from_slice(part.as_bytes());
        name.push(0);
    }
    name.extend_from_slice(&window_start.as_ms().to_be_bytes());
    name.push(match state {
        AlertState::Firing => b'f',
        AlertState::Resolved => b'r',
    });
    AlertId(Uuid::new_v5(&ALERT_NAMESPACE, &name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60;

    fn run(rule: Hysteresis, windows: &str) -> String {
        let mut standing = Standing::default();
        let mut said = String::new();
        for (at, window) in windows.chars().enumerate() {
            let end = Wall(10 * (i64::try_from(at).unwrap() + 1));
            let change = match window {
                '-' => standing.pass(rule),
                window => standing.judge(rule, window == 'x', end, MINUTE),
            };
            said.push(match change {
                Change::Nothing => '.',
                Change::Firing { since } if since == end => 'F',
                Change::Firing { .. } => 'f',
                Change::Resolved { .. } => 'R',
            });
        }
        said
    }

    #[test]
    fn m_of_n() {
        assert_eq!(run(Hysteresis { hits: 1, of: 1 }, "xo.xo"), "FR.FR");
        assert_eq!(run(Hysteresis { hits: 2, of: 3 }, "xoxoo"), "..FR.");
        assert_eq!(run(Hysteresis { hits: 2, of: 3 }, "xooxo"), ".....");
        assert_eq!(run(Hysteresis { hits: 2, of: 3 }, "xxoxx"), ".F...");
    }

    #[test]
    fn a_standing_alert_is_said_again() {
        assert_eq!(run(Hysteresis { hits: 1, of: 1 }, "xxxxxxxxxxxxxx"), "F.....f.....f.");
    }

    #[test]
    fn silence_ends_an_alert_and_is_no_verdict() {
        assert_eq!(run(Hysteresis { hits: 1, of: 1 }, "x--x---x"), "F.....RF");
        assert_eq!(run(Hysteresis { hits: 2, of: 5 }, "xx-----"), ".F....R");
        assert_eq!(
            run(Hysteresis { hits: 2, of: 3 }, "x-x"),
            "..F",
            "windows without a verdict are not counted"
        );
        assert_eq!(run(Hysteresis { hits: 2, of: 3 }, "x---x"), ".....");
    }

    #[test]
    fn ids_differ_where_verdicts_do() {
        let names = ["acme", "slow", "checkout", "web", "latency", "web-1"];
        let id = alert_id(names, Wall::from_secs(10), AlertState::Firing);
        assert_eq!(id, alert_id(names, Wall::from_secs(10), AlertState::Firing));
        assert_ne!(id, alert_id(names, Wall::from_secs(20), AlertState::Firing));
        assert_ne!(id, alert_id(names, Wall::from_secs(10), AlertState::Resolved));
        let shifted = ["acme", "slow", "checkout", "webl", "atency", "web-1"];
        assert_ne!(id, alert_id(shifted, Wall::from_secs(10), AlertState::Firing));
    }
}
