//! When a condition of many objects became what it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::WatchParams;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Without any change for this long, what is missing is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Watches a condition of all objects of a resource in the background.
pub(crate) struct Conditions {
    board: Arc<Board>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Board {
    /// Of each object whether the condition is True, and since when.
    now: Mutex<HashMap<String, (bool, Instant)>>,
    changed: Notify,
}

/// What is looked at of an event. The rest is skipped: this program runs on the processors of the hub
/// that it measures.
#[derive(Deserialize)]
struct Seen {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl Object {
    fn holds(&self, condition: &str) -> bool {
        let mut conditions = self.status.conditions.iter();
        conditions.any(|found| found.r#type == condition && found.status == "True")
    }
}

impl Board {
    fn note(&self, name: &str, holds: bool) {
        let mut now = self.now.lock();
        if now.get(name).is_none_or(|(held, _)| *held != holds) {
            now.insert(name.to_owned(), (holds, Instant::now()));
            drop(now);
            self.changed.notify_waiters();
        }
    }

    fn count(&self, holds: bool) -> usize {
        let now = self.now.lock();
        now.values().filter(|(held, _)| *held == holds).count()
    }
}

impl Drop for Conditions {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Conditions {
    /// Watches it, from what there is already on.
    ///
    /// # Errors
    /// When the watch is refused.
    pub(crate) async fn of(client: &ResourceClient, condition: &'static str) -> Result<Self> {
        let params = WatchParams {
            timeout: Duration::from_secs(3000),
            ..WatchParams::default()
        };
        let mut lines = client.watch_raw("", &params).await?;
        let board = Arc::new(Board::default());
        let noted = board.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(line)) = lines.next().await {
                let Ok(Seen { object }) = serde_json::from_slice(&line) else {
                    return;
                };
                // A bookmark is of no object.
                if !object.metadata.name.is_empty() {
                    noted.note(&object.metadata.name, object.holds(condition));
                }
            }
        });
        Ok(Self { board, task })
    }

    /// Waits until the condition is True, or is not, of so many objects; since when, of each.
    ///
    /// # Errors
    /// When the watch ended, or nothing changes for two minutes.
    pub(crate) async fn until(
        &self,
        holds: bool,
        objects: usize,
    ) -> Result<HashMap<String, Instant>> {
        loop {
            let mut changed = std::pin::pin!(self.board.changed.notified());
            changed.as_mut().enable();
            let count = self.board.count(holds);
            if count >= objects {
                let now = self.board.now.lock();
                let since = now.iter().filter(|(_, (held, _))| *held == holds);
                return Ok(since.map(|(name, (_, at))| (name.clone(), *at)).collect());
            }
            let waited = tokio::time::timeout(PATIENCE, changed).await;
            if waited.is_err() || self.task.is_finished() {
                bail!("the condition is {holds} of {count} objects, wanted {objects}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_far_as_conditions_need_it() {
        let line = r#"{"type":"MODIFIED","object":{"kind":"Thing","metadata":{"name":"a","uid":"u"},
            "status":{"phase":"Bound","conditions":[{"type":"Ready","status":"False","reason":"R"},
            {"type":"Scheduled","status":"True"}]}}}"#;
        let Seen { object } = serde_json::from_str(line).expect("an event");
        assert_eq!(object.metadata.name, "a");
        assert!(object.holds("Scheduled") && !object.holds("Ready") && !object.holds("Other"));
        let bare = r#"{"type":"ADDED","object":{"metadata":{"name":"b"}}}"#;
        let Seen { object } = serde_json::from_str(bare).expect("an event");
        assert!(!object.holds("Ready"));
        let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#;
        let Seen { object } = serde_json::from_str(bookmark).expect("an event");
        assert!(object.metadata.name.is_empty());
    }

    #[test]
    fn the_time_is_that_of_the_last_change_and_not_of_the_last_event() {
        let board = Board::default();
        board.note("a", false);
        board.note("a", true);
        let since = board.now.lock()["a"];
        board.note("a", true);
        board.note("b", false);
        assert_eq!(board.now.lock()["a"], since);
        assert_eq!((board.count(true), board.count(false)), (1, 1));
    }
}
