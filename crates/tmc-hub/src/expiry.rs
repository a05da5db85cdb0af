//! Events end an hour after they were written last, as on a Kubernetes API server (`--event-ttl`, by
//! default one hour).
//!
//! An entry says at which revision it was written and not when, so once a minute it is noted which
//! revision the store is at. Time is what has passed for this process, so that a clock that is set ends
//! nothing and keeps nothing. What was written before this process started is judged once by the times
//! in it, and from then on as if it had been written at the start.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tmc_apimachinery::options::DeleteOptions;
use tmc_apimachinery::{ClusterName, GroupResource};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::keys;
use crate::storage::{Core, Entry, Place};
use crate::workspaces::hub_user;

/// How long Events are kept.
const TTL: Duration = Duration::from_secs(60 * 60);
/// How often it is looked for those whose time is over.
const EVERY: Duration = Duration::from_secs(60);
/// Events that are deleted at the same time: their writes share batches of the store.
const TOGETHER: usize = 32;

/// Runs until the hub is gone.
pub(crate) async fn run(core: Weak<Core>, mut alive: watch::Receiver<()>) {
    let mut marks = Marks::default();
    let mut first = true;
    loop {
        let Some(strong) = core.upgrade() else { return };
        let now = strong.environment.now();
        let over = marks.note(Instant::now(), strong.store.revision());
        sweep(&strong, |entry| {
            over.is_some_and(|over| entry.revision <= over) || (first && is_stale(entry, now))
        })
        .await;
        first = false;
        drop(strong);
        tokio::select! {
            // Nobody sends: it resolves when the hub is gone.
            _ = alive.changed() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// At which revision the store was at which time, the oldest first.
#[derive(Default)]
struct Marks(VecDeque<(Instant, u64)>);

impl Marks {
    /// Notes where the store is now; gives the last revision whose time to live is over.
    fn note(&mut self, now: Instant, revision: u64) -> Option<u64> {
        self.0.push_back((now, revision));
        let is_over = |(at, _): &(Instant, u64)| now.duration_since(*at) >= TTL;
        let over = self.0.iter().take_while(|mark| is_over(mark)).count();
        // The last of them is kept: it holds until the next one is over.
        self.0.drain(..over.saturating_sub(1));
        self.0
            .front()
            .filter(|mark| is_over(mark))
            .map(|mark| mark.1)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    metadata: Created,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    creation_timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<Timestamp>,
}

/// Whether the newest time in an Event is longer ago than it may live.
fn is_stale(entry: &Entry, now: Timestamp) -> bool {
    let Ok(times) = serde_json::from_slice::<Times>(&entry.value) else {
        return false;
    };
    let all = [
        times.metadata.creation_timestamp,
        times.last_timestamp,
        times.event_time,
        times.series.and_then(|series| series.last_observed_time),
    ];
    let newest = all.into_iter().flatten().max();
    newest.is_some_and(|newest| newest < now && now.duration_since(newest).unsigned_abs() >= TTL)
}

/// Deletes the Events that are over, unless they are written meanwhile.
async fn sweep(core: &Arc<Core>, is_over: impl Fn(&Entry) -> bool) {
    let prefix = keys::resource_prefix(&GroupResource::new("", "events"));
    let Ok(page) = core.store.range(&prefix, None, None, 0) else {
        return;
    };
    let over: Vec<_> = page.entries.iter().filter(|entry| is_over(entry)).collect();
    for some in over.chunks(TOGETHER) {
        futures::future::join_all(some.iter().map(|entry| delete(core, entry))).await;
    }
}

async fn delete(core: &Arc<Core>, entry: &Entry) {
    let Some(at) = keys::locate(&entry.key) else {
        return;
    };
    let cluster = ClusterName::new(at.cluster);
    let set = core.api_set(&cluster);
    let Some(definition) = set.by_group_resource(&GroupResource::new("", "events")) else {
        return;
    };
    let place = Place::main(definition, &cluster, at.namespace, &hub_user());
    let options = DeleteOptions {
        resource_version: Some(entry.revision.to_string()),
        ..DeleteOptions::default()
    };
    // Whoever wrote it meanwhile gave it another hour; whatever else went wrong, the next look is soon.
    if let Err(error) = core.delete_object(&place, at.name, &options).await
        && !matches!(error.code, 404 | 409)
    {
        tracing::warn!(key = %entry.key, %error, "an Event that is over was not deleted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_an_hour_ago_is_over_and_nothing_newer() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut marks = Marks::default();
        for minute in 0..60 {
            assert_eq!(marks.note(at(minute), 100 + minute), None);
        }
        assert_eq!(marks.note(at(60), 160), Some(100));
        assert_eq!(marks.note(at(61), 161), Some(101));
        // After a pause of the machine the last one that is over counts, and is not forgotten.
        assert_eq!(marks.note(at(90), 190), Some(130));
        assert_eq!(marks.note(at(90), 191), Some(130));
        assert!(marks.0.len() < 62, "{}", marks.0.len());
    }
}
