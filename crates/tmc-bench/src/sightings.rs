//! When a watch showed what: exact times, taken as the events arrive.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::{WatchEvent, WatchParams};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What is looked for in an object: how far it has come. A higher level includes the lower ones.
pub(crate) type Level = fn(&Value) -> u64;

/// One thing waited for: the object's name and its level.
pub(crate) type Wanted = (String, u64);

#[derive(Default)]
struct Board {
    /// Of each name the levels seen, rising, with the time each was first seen.
    seen: Mutex<HashMap<String, Vec<(u64, Instant)>>>,
    /// The last event of each name.
    last: Mutex<HashMap<String, Value>>,
    rung: Notify,
}

impl Board {
    fn note(&self, object: Value, level: Level) {
        let now = Instant::now();
        let (name, level) = (meta(&object).name().to_owned(), level(&object));
        let mut seen = self.seen.lock();
        let levels = seen.entry(name.clone()).or_default();
        if levels.last().is_none_or(|(highest, _)| *highest < level) {
            levels.push((level, now));
        }
        drop(seen);
        self.last.lock().insert(name, object);
        self.rung.notify_waiters();
    }

    fn first(&self, (name, level): &Wanted) -> Option<Instant> {
        let seen = self.seen.lock();
        seen.get(name)?
            .iter()
            .find(|(reached, _)| reached >= level)
            .map(|(_, at)| *at)
    }
}

/// A watch in the background.
pub(crate) struct Sightings {
    board: Arc<Board>,
    task: JoinHandle<()>,
}

impl Drop for Sightings {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sightings {
    /// Watches a resource (an empty namespace means all), those that exist already included.
    ///
    /// # Errors
    /// When the watch is refused.
    pub(crate) async fn of(client: &ResourceClient, namespace: &str, level: Level) -> Result<Self> {
        // As long as a server lets a watch be, so that none ends in a measurement.
        let params = WatchParams {
            timeout: Duration::from_secs(3000),
            ..WatchParams::default()
        };
        let mut events = client
            .watch(namespace, &params)
            .await
            .context("cannot watch")?;
        let board = Arc::new(Board::default());
        let noted = board.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
                    noted.note(object, level);
                }
            }
        });
        Ok(Self { board, task })
    }

    /// Waits for all of these; when each was first seen.
    ///
    /// # Errors
    /// When the watch ends, or nothing wanted turns up for a minute: then with how many are missing.
    pub(crate) async fn all(&self, wanted: &[Wanted]) -> Result<Vec<Instant>> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let mut times = vec![None; wanted.len()];
        let mut missing: Vec<usize> = (0..wanted.len()).collect();
        let mut progress = Instant::now();
        while !missing.is_empty() {
            let mut rung = std::pin::pin!(self.board.rung.notified());
            rung.as_mut().enable();
            let before = missing.len();
            missing.retain(|index| {
                times[*index] = self.board.first(&wanted[*index]);
                times[*index].is_none()
            });
            if missing.len() < before {
                progress = Instant::now();
            }
            let left = PATIENCE.saturating_sub(progress.elapsed());
            if left.is_zero() || self.task.is_finished() && before == missing.len() {
                let first = missing.first().map(|index| &wanted[*index]);
                bail!(
                    "{} of {} never arrived, first {first:?}",
                    missing.len(),
                    wanted.len()
                );
            }
            // Not for each event: looking is quadratic, and takes time from what is measured.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = tokio::time::timeout(left.min(Duration::from_millis(500)), rung).await;
        }
        Ok(times.into_iter().flatten().collect())
    }

    /// The last event's object.
    pub(crate) fn last(&self, name: &str) -> Option<Value> {
        self.board.last.lock().get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn level(object: &Value) -> u64 {
        object["level"].as_u64().unwrap_or(0)
    }

    #[test]
    fn a_higher_level_stands_for_the_lower_ones_it_skipped() {
        let board = Board::default();
        for seen in [1, 3, 3] {
            board.note(json!({"metadata": {"name": "a"}, "level": seen}), level);
        }
        let at = |level| board.first(&("a".to_owned(), level));
        assert!(at(1) < at(2));
        assert_eq!(at(2), at(3));
        assert_eq!(at(4), None);
        assert_eq!(board.first(&("b".to_owned(), 0)), None);
    }
}
