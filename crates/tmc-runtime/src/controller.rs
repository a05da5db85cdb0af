//! Runs a reconcile function over a queue.

use std::any::Any;
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::Error;
use crate::queue::WorkQueue;

/// Longest wait that a server's `Retry-After` is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What a reconcile wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Nothing until something changes.
    Done,
    /// Again after this long, without counting as a failure.
    RequeueAfter(Duration),
}

/// Outcome of one reconcile; an error is logged and retried with the key's back-off.
pub type Outcome = Result<Flow, Error>;

/// Starts `workers` tasks that reconcile the queue's keys until `stop` is cancelled.
///
/// A panic of the reconcile is caught, logged and retried like an error: one bad object never stops
/// the others.
///
/// # Cancellation
/// After `stop` no further key is taken; reconciles under way run to their end (await the set for
/// that). Dropping the returned set aborts them.
pub fn run<K, F, Fut>(
    queue: &WorkQueue<K>,
    workers: usize,
    stop: &CancellationToken,
    reconcile: F,
) -> JoinSet<()>
where
    K: Clone + Eq + Hash + Debug + Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send,
{
    let reconcile = Arc::new(reconcile);
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (queue, stop, reconcile) = (queue.clone(), stop.clone(), Arc::clone(&reconcile));
        tasks.spawn(async move {
            loop {
                let key = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    key = queue.next() => key,
                };
                let outcome = AssertUnwindSafe(async { reconcile(key.clone()).await })
                    .catch_unwind()
                    .await;
                settle(&queue, &key, outcome);
                queue.done(&key);
            }
        });
    }
    tasks
}

fn settle<K>(queue: &WorkQueue<K>, key: &K, outcome: Result<Outcome, Box<dyn Any + Send>>)
where
    K: Clone + Eq + Hash + Debug + Send + 'static,
{
    let name = queue.name();
    match outcome {
        Ok(Ok(flow)) => {
            queue.forget(key);
            if let Flow::RequeueAfter(delay) = flow {
                queue.add_after(key.clone(), delay);
            }
        }
        Ok(Err(error)) => {
            let at_least = error.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
            let delay = queue.retry(key.clone(), at_least);
            if error.is_conflict() {
                // Another writer was faster: the informer brings the newer version.
                tracing::debug!(controller = name, ?key, ?delay, %error, "will retry");
            } else {
                tracing::warn!(controller = name, ?key, ?delay, %error, "will retry");
            }
        }
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let delay = queue.retry(key.clone(), Duration::from_secs(1));
            tracing::error!(
                controller = name,
                ?key,
                ?delay,
                panic = text,
                "reconcile panicked"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tmc_apimachinery::ApiError;
    use tokio::time::Instant;

    use super::*;

    /// Runs one key through outcomes in turn and gives the times at which it ran.
    async fn times(outcomes: Vec<fn() -> Outcome>) -> Vec<Duration> {
        let queue = WorkQueue::with_jitter("test", crate::Jitter::seeded(3));
        let stop = CancellationToken::new();
        let start = Instant::now();
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let turn = AtomicU32::new(0);
        let count = outcomes.len();
        let tasks = run(&queue, 2, &stop, move |_: u8| {
            let n = turn.fetch_add(1, Ordering::SeqCst);
            sender.send(start.elapsed()).unwrap();
            let outcome = outcomes[usize::try_from(n).unwrap()];
            async move { outcome() }
        });
        queue.add(1);
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(receiver.recv().await.unwrap());
        }
        stop.cancel();
        tasks.join_all().await;
        times
    }

    fn busy() -> Outcome {
        Err(ApiError::unavailable("busy", 20).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_and_an_error_are_retried_and_a_requeue_waits_its_time() {
        let times = times(vec![
            || panic!("boom"),
            || Err(Error::Transport("x".into())),
            || Ok(Flow::RequeueAfter(Duration::from_secs(30))),
            || Ok(Flow::Done),
        ])
        .await;
        assert!(times[1] - times[0] >= Duration::from_secs(1));
        assert!(
            times[2] - times[1] >= Duration::from_millis(10),
            "{times:?}"
        );
        assert_eq!((times[3] - times[2]).as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_retry_after_is_honoured() {
        let times = times(vec![busy, || Ok(Flow::Done)]).await;
        assert!(times[1] - times[0] >= Duration::from_secs(20), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_lets_a_running_reconcile_end() {
        let queue = WorkQueue::new("test");
        let stop = CancellationToken::new();
        let done = Arc::new(AtomicU32::new(0));
        let (started, mut wait) = tokio::sync::mpsc::channel(1);
        let count = Arc::clone(&done);
        let tasks = run(&queue, 1, &stop, move |_: u8| {
            let (count, started) = (Arc::clone(&count), started.clone());
            async move {
                started.send(()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(5)).await;
                count.fetch_add(1, Ordering::SeqCst);
                Ok(Flow::Done)
            }
        });
        queue.add(1);
        queue.add(2);
        wait.recv().await.unwrap();
        stop.cancel();
        tasks.join_all().await;
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }
}
