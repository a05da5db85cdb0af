//! What an owner can choose.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A monotonic clock: time since any fixed origin.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// A clock that reads `now`, for simulations and tests. It must never go back.
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Duration {
        (self.0)()
    }
}

impl Default for Clock {
    /// The machine's monotonic clock.
    fn default() -> Self {
        let origin = Instant::now();
        Self::new(move || origin.elapsed())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Bounds of a store. The defaults suit a hub.
///
/// History is dropped, oldest first and in whole segments, when it is older than `log_age`, when
/// it takes more than `log_bytes` and is older than `fresh_age`, or, however young it is, when it
/// takes more than four times `log_bytes`. That happens as part of writes: an idle store keeps
/// what it has.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for history, in bytes: superseded values, tombstones, events. Live values do not
    /// count. Default 32 MiB.
    pub log_bytes: usize,
    /// Age beyond which history is dropped. Default 5 min, as a kube-apiserver compacts etcd.
    pub log_age: Duration,
    /// Age below which history is kept although `log_bytes` is exceeded. Default 75 s, the fresh
    /// window of a kube-apiserver's watch cache.
    pub fresh_age: Duration,
    /// Writes that may wait for the writer; further callers wait to be let in. Default 1,024.
    pub queue: usize,
    /// Most writes in one transaction of the engine. Default 64, where grouping stops to pay.
    pub batch: usize,
    /// Where ages come from.
    pub clock: Clock,
    /// Runs each write inside the `commit` that asks for it, without a thread and without
    /// grouping, so that a simulation stays deterministic. Meant for the memory engine: the
    /// caller's thread waits for the engine. Default off.
    pub inline: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_bytes: 32 << 20,
            log_age: Duration::from_secs(300),
            fresh_age: Duration::from_secs(75),
            queue: 1024,
            batch: 64,
            clock: Clock::default(),
            inline: false,
        }
    }
}
