//! The only place that reads the clocks.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kinetic_wire::{Mono, Now, Wall};

/// Both clocks, read now. `Mono` counts from the first call in this process.
#[expect(clippy::disallowed_methods, reason = "this is the adapter that the others are sent to")]
pub(crate) fn now() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let mono = START.get_or_init(Instant::now).elapsed();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now {
        mono: Mono(u64::try_from(mono.as_nanos()).unwrap_or(u64::MAX)),
        wall: Wall(i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX)),
    }
}

/// Sleeps until a deadline; for ever if there is none.
pub(crate) async fn sleep_until(deadline: Option<Mono>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(now().mono)).await,
        None => std::future::pending().await,
    }
}
