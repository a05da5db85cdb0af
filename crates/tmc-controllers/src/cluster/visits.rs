//! Who is in which member just now, and how they are called back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tmc_runtime::ClusterKey;
use tokio_util::sync::CancellationToken;

/// Visits under way: at most one a member, also while one that was called off has not ended yet.
#[derive(Default)]
pub(super) struct Visits(Mutex<HashMap<ClusterKey, Signals>>);

#[derive(Clone, Default)]
struct Signals {
    called_off: CancellationToken,
    ended: CancellationToken,
}

impl Visits {
    /// Begins a visit; `None` while there is one.
    pub(super) fn begin(self: &Arc<Self>, key: &ClusterKey) -> Option<Stay> {
        let mut all = self.0.lock();
        let Entry::Vacant(place) = all.entry(key.clone()) else {
            return None;
        };
        let signals = place.insert(Signals::default()).clone();
        Some(Stay {
            visits: Arc::clone(self),
            key: key.clone(),
            signals,
        })
    }

    /// Whether there is one, called off or not.
    pub(super) fn is_under_way(&self, key: &ClusterKey) -> bool {
        self.0.lock().contains_key(key)
    }

    /// The visit, if there is one, makes no further request and settles nothing. It ends soon after.
    pub(super) fn call_off(&self, key: &ClusterKey) {
        if let Some(signals) = self.0.lock().get(key) {
            signals.called_off.cancel();
        }
    }

    /// Resolves when the visit that is there now has ended; at once if there is none.
    pub(super) async fn ended(&self, key: &ClusterKey) {
        let ended = self.0.lock().get(key).map(|signals| signals.ended.clone());
        if let Some(ended) = ended {
            ended.cancelled().await;
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// One visit: it is under way until this is dropped, however its task ends.
pub(super) struct Stay {
    visits: Arc<Visits>,
    key: ClusterKey,
    signals: Signals,
}

impl Stay {
    /// Does the work of the visit; `None` if it was called off meanwhile. The work is dropped then,
    /// and its request with it: what the server had received of that may still be done.
    pub(super) async fn unless_called_off<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // First: the work must not be polled again, for it might make its next request.
            biased;
            () = self.signals.called_off.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Whether what it brings is of no use any more.
    pub(super) fn is_called_off(&self) -> bool {
        self.signals.called_off.is_cancelled()
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.visits.0.lock().remove(&self.key);
        self.signals.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;

    use super::*;

    fn key() -> ClusterKey {
        ClusterKey::new(&ClusterName::new("c"), "default", "east")
    }

    #[tokio::test]
    async fn a_visit_that_was_called_off_is_under_way_until_it_has_ended() {
        let visits = Arc::new(Visits::default());
        let stay = visits.begin(&key()).unwrap();
        visits.call_off(&key());
        assert!(stay.is_called_off());
        assert!(visits.is_under_way(&key()));
        assert!(visits.begin(&key()).is_none(), "never two at once");
        let key = key();
        let ended = visits.ended(&key);
        tokio::pin!(ended);
        assert!(futures::poll!(&mut ended).is_pending());
        let done = stay.unless_called_off(std::future::ready(())).await;
        assert_eq!(done, None, "nothing more is begun");
        drop(stay);
        ended.await;
        assert!(!visits.is_under_way(&key));
        let next = visits.begin(&key).unwrap();
        assert!(!next.is_called_off());
    }

    #[tokio::test]
    async fn a_visit_whose_task_panics_has_ended() {
        let visits = Arc::new(Visits::default());
        let stay = visits.begin(&key()).unwrap();
        let task = tokio::spawn(async move {
            let bug = async { panic!("a bug") };
            stay.unless_called_off::<()>(bug).await;
        });
        assert!(task.await.is_err());
        visits.ended(&key()).await;
        assert!(visits.begin(&key()).is_some());
    }
}
