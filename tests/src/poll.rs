//! Waiting for something that will come true, and making sure that something stays true.

use std::time::{Duration, Instant};

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a step may take that involves a few processes: generous, since a loaded machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How long RabbitMQ may take to start; 5 seconds on an idle machine, many times that beside a build.
pub const START_PATIENCE: Duration = Duration::from_secs(240);

/// Asks until there is an answer. `Err` carries what was seen instead, for the message if it never comes.
///
/// # Panics
/// When [`PATIENCE`] is over, with the last `Err`.
pub fn eventually<T, E: std::fmt::Debug>(what: &str, ask: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(PATIENCE, what, ask)
}

/// The same with a deadline of its own.
///
/// # Panics
/// When the time is over, with the last `Err`.
pub fn eventually_within<T, E: std::fmt::Debug>(
    long: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + long;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) => {
                assert!(Instant::now() < deadline, "{what}: not within {long:?}; seen last: {seen:?}");
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Asks for the whole of a time and fails at the first `Err`: for what must not happen.
///
/// # Panics
/// At the first `Err`.
pub fn steadily<E: std::fmt::Debug>(what: &str, long: Duration, mut ask: impl FnMut() -> Result<(), E>) {
    let deadline = Instant::now() + long;
    while Instant::now() < deadline {
        if let Err(seen) = ask() {
            panic!("{what}: {seen:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_ends_the_wait() {
        let mut asked = 0;
        let answer = eventually("three", || {
            asked += 1;
            if asked == 3 { Ok("here") } else { Err(asked) }
        });
        assert_eq!((answer, asked), ("here", 3));
    }

    #[test]
    #[should_panic(expected = "stays: \"gone\"")]
    fn what_must_not_happen_fails_at_once() {
        steadily("stays", PATIENCE, || Err::<(), _>("gone"));
    }
}
