//! Requests at a fixed rate, whatever becomes of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

/// An offered load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Requests.
    pub(crate) count: usize,
    /// Requests a second.
    pub(crate) rate: f64,
}

impl Pace {
    /// When a request is to be sent, after the first.
    fn due(self, index: usize) -> Duration {
        Duration::from_secs_f64(index as f64 / self.rate)
    }

    /// Sends each request at its time, late answers or not, and returns the times at which they
    /// *were to be* sent, in order, when all are answered.
    ///
    /// # Errors
    /// The first error of a request.
    pub(crate) async fn offer<F>(
        self,
        mut send: impl FnMut(usize) -> F + Send + 'static,
    ) -> Result<Vec<Instant>>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let runtime = tokio::runtime::Handle::current();
        // A thread, because the timer of the runtime is as coarse as a millisecond.
        let clock = move || {
            let _inside = runtime.enter();
            let start = Instant::now();
            let mut requests = JoinSet::new();
            let times = (0..self.count).map(|index| {
                let due = start + self.due(index);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                requests.spawn(send(index));
                due
            });
            (times.collect::<Vec<_>>(), requests)
        };
        let (times, mut requests) = tokio::task::spawn_blocking(clock).await?;
        while let Some(answer) = requests.join_next().await {
            answer??;
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_slow_answer_delays_no_other_request() {
        let pace = Pace {
            count: 20,
            rate: 200.0,
        };
        let last_was_sent = Arc::new(Notify::new());
        let offered = pace.offer(move |index| {
            let last_was_sent = Arc::clone(&last_was_sent);
            async move {
                match index {
                    0 => last_was_sent.notified().await,
                    19 => last_was_sent.notify_one(),
                    _ => {}
                }
                Ok(())
            }
        });
        let times = tokio::time::timeout(Duration::from_secs(10), offered)
            .await
            .expect("the first answer, which waits for the last request, holds up none")
            .expect("no errors");
        assert_eq!(times.len(), 20);
        assert!(
            times
                .windows(2)
                .all(|pair| pair[1] - pair[0] == Duration::from_millis(5))
        );
    }

    #[tokio::test]
    async fn an_error_is_returned() {
        let pace = Pace {
            count: 2,
            rate: 1000.0,
        };
        let refused = pace.offer(|_| async { anyhow::bail!("refused") }).await;
        assert_eq!(refused.expect_err("error").to_string(), "refused");
    }
}
