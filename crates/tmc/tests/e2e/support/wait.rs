//! Waiting for a condition with a deadline, in place of sleeping.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks `check` until it has an answer.
///
/// Panics with what `check` last said when `limit` has passed.
#[track_caller]
pub(crate) fn until<T>(what: &str, limit: Duration, check: impl FnMut() -> Result<T, String>) -> T {
    match try_until(limit, check) {
        Ok(found) => found,
        Err(last) => panic!("{what}: not within {} s; last: {last}", limit.as_secs()),
    }
}

/// Asks `check` until it has an answer; after `limit` what it last said.
pub(crate) fn try_until<T>(
    limit: Duration,
    mut check: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        match check() {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= deadline => return Err(last),
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// A duration of seconds.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
