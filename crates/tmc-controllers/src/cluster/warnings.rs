//! Which ends of credentials were told, so that each is told once, and until it is.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tmc_runtime::jitter::exponential;
use tmc_runtime::{ClusterKey, Jitter};
use tokio::time::Instant;

/// How soon a warning that could not be made is tried again, doubling up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How rarely at most.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What ends: one credential of one Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// Of the Cluster: another of its name is told anew.
    uid: String,
    fingerprint: String,
}

impl Ending {
    /// By the uid of the Cluster and the fingerprint of its credential.
    pub(super) fn new(uid: &str, fingerprint: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            fingerprint: fingerprint.to_owned(),
        }
    }
}

/// What is to be done about a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is to be told.
    Now,
    /// It could not be told; the next attempt is due then.
    In(Duration),
    /// It was told.
    Told,
}

#[derive(Clone, Copy)]
enum State {
    Told,
    Failed { failures: u32, next: Instant },
}

/// The last warning of each Cluster. Another process tells its own: an Event that is there is not made
/// twice.
#[derive(Default)]
pub(super) struct Warnings(Mutex<HashMap<ClusterKey, (Ending, State)>>);

impl Warnings {
    /// Whether the end of a credential is to be told.
    pub(super) fn turn(&self, key: &ClusterKey, ending: &Ending) -> Turn {
        let now = Instant::now();
        match self.state(key, ending) {
            Some(State::Told) => Turn::Told,
            Some(State::Failed { next, .. }) if next > now => Turn::In(next - now),
            Some(State::Failed { .. }) | None => Turn::Now,
        }
    }

    /// Notes that it was told, or could not be; gives when to try again.
    pub(super) fn note(
        &self,
        key: &ClusterKey,
        ending: Ending,
        told: bool,
        jitter: &Jitter,
    ) -> Option<Duration> {
        let failures = match self.state(key, &ending) {
            Some(State::Failed { failures, .. }) => failures,
            Some(State::Told) | None => 0,
        };
        let wait = jitter.stretch(exponential(FIRST_RETRY, LAST_RETRY, failures), 20);
        let state = if told {
            State::Told
        } else {
            State::Failed {
                failures: failures.saturating_add(1),
                next: Instant::now() + wait,
            }
        };
        self.0.lock().insert(key.clone(), (ending, state));
        (!told).then_some(wait)
    }

    fn state(&self, key: &ClusterKey, ending: &Ending) -> Option<State> {
        let all = self.0.lock();
        let (known, state) = all.get(key)?;
        (known == ending).then_some(*state)
    }

    /// Of how many Clusters something is remembered.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Forgets a Cluster.
    pub(super) fn forget(&self, key: &ClusterKey) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;

    use super::*;

    fn key() -> ClusterKey {
        ClusterKey::new(&ClusterName::new("c"), "default", "east")
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_told_until_that_succeeds_ever_less_often_and_then_never_again() {
        let (warnings, jitter) = (Warnings::default(), Jitter::seeded(1));
        let ending = Ending::new("u", "f");
        let turn = || warnings.turn(&key(), &ending);
        let mut last = Duration::ZERO;
        for _ in 0..6 {
            assert_eq!(turn(), Turn::Now);
            let wait = warnings.note(&key(), ending.clone(), false, &jitter);
            let wait = wait.unwrap();
            assert!(wait > last && wait <= Duration::from_secs(72), "{wait:?}");
            assert_eq!(turn(), Turn::In(wait), "not on every pass");
            tokio::time::advance(wait).await;
            last = wait;
        }
        assert_eq!(warnings.note(&key(), ending.clone(), true, &jitter), None);
        assert_eq!(turn(), Turn::Told);
    }

    #[tokio::test(start_paused = true)]
    async fn another_credential_and_another_cluster_of_the_name_are_told_anew() {
        let (warnings, jitter) = (Warnings::default(), Jitter::seeded(1));
        warnings.note(&key(), Ending::new("u", "f"), true, &jitter);
        for other in [Ending::new("u", "g"), Ending::new("v", "f")] {
            assert_eq!(warnings.turn(&key(), &other), Turn::Now);
        }
        warnings.forget(&key());
        assert_eq!(warnings.count(), 0);
    }
}
