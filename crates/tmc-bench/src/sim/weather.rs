//! What goes wrong on the wires at the moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How likely faults are, in thousandths of requests, and how long they last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Lost before the server sees it.
    pub(crate) lost_request: u32,
    /// Done by the server, but the caller does not hear of it.
    pub(crate) lost_answer: u32,
    /// A write that arrives a second time, later.
    pub(crate) duplicated: u32,
    /// Answered 429 with a time to wait.
    pub(crate) refused: u32,
    /// A write before which somebody else writes the same object.
    pub(crate) overtaken: u32,
    /// Held up, before or after.
    pub(crate) delayed: u32,
    /// At most this long.
    pub(crate) delay: Duration,
    /// A watch lives at most this long, if set.
    pub(crate) watch_life: Option<Duration>,
    /// A watch that ends says 410.
    pub(crate) expired: u32,
    /// An event is held up, and all after it.
    pub(crate) stalled: u32,
    /// An event is delivered twice in a row.
    pub(crate) repeated: u32,
    /// A watch that goes on begins with the event after which it goes on.
    pub(crate) replayed: u32,
}

/// How a wire is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing comes through and nobody is told.
    Silent,
    /// Requests fail at once.
    Reset,
}

/// The weather of one run. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Weather(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    conditions: Conditions,
    cuts: BTreeMap<String, Cut>,
    slow: BTreeMap<String, Duration>,
}

impl Weather {
    /// What goes wrong on a wire.
    pub(crate) fn on(&self, wire: &str) -> Conditions {
        let state = self.0.state.lock();
        let mut conditions = state.conditions.clone();
        if let Some(delay) = state.slow.get(wire) {
            conditions.delayed = 1000;
            conditions.delay = conditions.delay.max(*delay);
        }
        conditions
    }

    /// Changes what goes wrong everywhere.
    pub(crate) fn set(&self, conditions: Conditions) {
        self.0.state.lock().conditions = conditions;
    }

    /// Cuts a wire, or joins it again.
    pub(crate) fn cut(&self, wire: &str, cut: Option<Cut>) {
        let mut state = self.0.state.lock();
        match cut {
            Some(cut) => drop(state.cuts.insert(wire.to_owned(), cut)),
            None => drop(state.cuts.remove(wire)),
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Makes a wire slow, or not.
    pub(crate) fn slow(&self, wire: &str, delay: Option<Duration>) {
        let mut state = self.0.state.lock();
        match delay {
            Some(delay) => drop(state.slow.insert(wire.to_owned(), delay)),
            None => drop(state.slow.remove(wire)),
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn clear(&self) {
        *self.0.state.lock() = State::default();
        self.0.changed.notify_waiters();
    }

    /// Waits while a wire is cut silently; false if it is cut and says so.
    pub(crate) async fn passable(&self, wire: &str) -> bool {
        loop {
            let changed = self.0.changed.notified();
            let cut = self.0.state.lock().cuts.get(wire).copied();
            match cut {
                None => return true,
                Some(Cut::Reset) => return false,
                Some(Cut::Silent) => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_cut_holds_until_it_ends_and_a_reset_says_so() {
        let weather = Weather::default();
        weather.cut("a", Some(Cut::Silent));
        let waiting = tokio::spawn({
            let weather = weather.clone();
            async move { weather.passable("a").await }
        });
        assert!(weather.passable("b").await);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        weather.cut("a", None);
        assert!(waiting.await.expect("it ended"));
        weather.cut("a", Some(Cut::Reset));
        assert!(!weather.passable("a").await);
    }

    #[test]
    fn a_slow_wire_delays_every_request() {
        let weather = Weather::default();
        weather.slow("a", Some(Duration::from_secs(2)));
        let slow = weather.on("a");
        assert_eq!((slow.delayed, slow.delay), (1000, Duration::from_secs(2)));
        assert_eq!(weather.on("b"), Conditions::default());
        weather.clear();
        assert_eq!(weather.on("a"), Conditions::default());
    }
}
