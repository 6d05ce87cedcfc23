//! What this process needs of its machine.

use std::time::Duration;

use crate::adapter::file;

/// Memory and processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident memory, bytes.
    pub(crate) rss_bytes: u64,
    /// Processor time since the process began, in itself and in the kernel.
    pub(crate) cpu: Duration,
}

impl Usage {
    /// How many processors were busy with this process over a span that began at `before`.
    pub(crate) fn cpu_share(self, before: Self, span: Duration) -> f64 {
        let busy = self.cpu.saturating_sub(before.cpu);
        if span.is_zero() { 0.0 } else { busy.as_secs_f64() / span.as_secs_f64() }
    }
}

/// Clock ticks a second in `/proc`: the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// As Linux says it; `None` elsewhere.
pub(crate) fn now() -> Option<Usage> {
    parse(&file::read_text(PROC_STATUS.as_ref()).ok()?, &file::read_text(PROC_STAT.as_ref()).ok()?)
}

const PROC_STATUS: &str = "/proc/self/status";
const PROC_STAT: &str = "/proc/self/stat";

fn parse(status: &str, stat: &str) -> Option<Usage> {
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rss.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // The name in parentheses may hold anything; behind it, state is the first field, and user and kernel time are the
    // twelfth and the thirteenth.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let (user, kernel) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(Usage {
        rss_bytes: kib << 10,
        cpu: Duration::from_millis((user + kernel) * 1_000 / TICKS_PER_SECOND),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let status = "Name:\tkinetic\nVmHWM:\t   9999 kB\nVmRSS:\t   1234 kB\nThreads:\t3\n";
        let stat = "4711 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 100 200 300";
        let usage = parse(status, stat).expect("reads");
        assert_eq!(usage, Usage { rss_bytes: 1234 * 1024, cpu: Duration::from_secs(3) });
        let before = Usage { cpu: Duration::from_secs(1), ..usage };
        assert!((usage.cpu_share(before, Duration::from_secs(4)) - 0.5).abs() < 1e-9);
        assert_eq!(parse("", stat), None);
        assert_eq!(parse(status, "4711 (kinetic) S"), None);
    }
}
