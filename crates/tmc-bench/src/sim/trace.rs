//! What happened when, for whoever reads a failed run; and what must not have happened.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Most violations kept: the first ones tell.
const MOST: usize = 20;

/// The trace of one run.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Inner>);

struct Inner {
    origin: Instant,
    /// Whether notes are written to stderr as they come.
    loud: bool,
    violations: Mutex<Vec<String>>,
}

impl Trace {
    /// A trace that starts now.
    pub(crate) fn new(loud: bool) -> Self {
        Self(Arc::new(Inner {
            origin: Instant::now(),
            loud,
            violations: Mutex::default(),
        }))
    }

    /// Time since the start of the run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.origin.elapsed()
    }

    /// Notes an event; `text` is made only if somebody reads it.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        if self.0.loud {
            eprintln!("{:>9.3}  {}", self.elapsed().as_secs_f64(), text());
        }
    }

    /// Notes that an invariant does not hold.
    pub(crate) fn violation(&self, text: &str) {
        self.note(|| format!("VIOLATION {text}"));
        let mut violations = self.0.violations.lock();
        let known = violations.iter().any(|known| known.ends_with(text));
        if violations.len() < MOST && !known {
            violations.push(format!("at {:.3} s: {text}", self.elapsed().as_secs_f64()));
        }
    }

    /// The violations so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.0.violations.lock().clone()
    }
}
