//! The sessions that are open, by target.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tmc_runtime::ClusterKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::super::endpoints::BeatSink;
use super::super::targets::TargetId;

/// Most sockets of one target, those that have not said hello included. More replicas than any
/// syncer has, so that a stale session never keeps its successor out.
const MAX_PER_TARGET: usize = 16;

/// The open sessions of all targets. Whoever learns of changes of SyncTargets tells it, so that
/// sessions end, or hear of a new configuration, at once.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_target: HashMap<ClusterKey, Vec<Entry>>,
    last_id: u64,
}

struct Entry {
    id: u64,
    uid: String,
    identity: Option<String>,
    signals: Signals,
}

/// What a session is told from outside.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    /// A newer session of the same replica is there.
    pub replaced: CancellationToken,
    /// The SyncTarget changed.
    pub changed: Arc<Notify>,
}

fn key(target: &TargetId) -> ClusterKey {
    ClusterKey::new(&target.cluster, "", &target.name)
}

impl Sessions {
    /// Tells the sessions of a SyncTarget that it changed or is gone.
    pub fn target_changed(&self, target: &ClusterKey) {
        let open = self.open.lock();
        for entry in open.by_target.get(target).into_iter().flatten() {
            entry.signals.changed.notify_one();
        }
    }

    /// How many sessions of exactly this target have said hello.
    pub fn count(&self, target: &TargetId) -> u32 {
        self.open.lock().count(target)
    }

    /// A place for a socket; `None` if the target has too many already.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        target: &TargetId,
        beats: Arc<dyn BeatSink>,
    ) -> Option<Slot> {
        let mut open = self.open.lock();
        let id = open.last_id + 1;
        let entries = open.by_target.entry(key(target)).or_default();
        if entries.len() >= MAX_PER_TARGET {
            return None;
        }
        let signals = Signals::default();
        entries.push(Entry {
            id,
            uid: target.uid.clone(),
            identity: None,
            signals: signals.clone(),
        });
        open.last_id = id;
        Some(Slot {
            sessions: self.clone(),
            target: target.clone(),
            id,
            signals,
            beats,
        })
    }
}

impl Open {
    fn count(&self, target: &TargetId) -> u32 {
        let entries = self.by_target.get(&key(target)).into_iter().flatten();
        let named = entries.filter(|e| e.uid == target.uid && e.identity.is_some());
        u32::try_from(named.count()).unwrap_or(u32::MAX)
    }
}

/// A socket's place; given back when dropped.
pub(crate) struct Slot {
    sessions: Arc<Sessions>,
    target: TargetId,
    id: u64,
    pub signals: Signals,
    beats: Arc<dyn BeatSink>,
}

impl Slot {
    /// The socket speaks for this replica from now on; an older one that did is told to go.
    pub(super) fn name(&self, identity: &str) {
        let mut open = self.sessions.open.lock();
        if let Some(entries) = open.by_target.get_mut(&key(&self.target)) {
            entries.retain(|entry| {
                let same = entry.uid == self.target.uid
                    && entry.identity.as_deref() == Some(identity)
                    && entry.id != self.id;
                if same {
                    entry.signals.replaced.cancel();
                }
                !same
            });
            if let Some(own) = entries.iter_mut().find(|entry| entry.id == self.id) {
                own.identity = Some(identity.to_owned());
            }
        }
        self.tell(&open);
    }

    /// Told while the lock is held, so that the last word is the newest.
    fn tell(&self, open: &Open) {
        self.beats.sessions(&self.target, open.count(&self.target));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.sessions.open.lock();
        let key = key(&self.target);
        let Some(entries) = open.by_target.get_mut(&key) else {
            return;
        };
        let before = entries.len();
        let named = entries
            .iter()
            .any(|e| e.id == self.id && e.identity.is_some());
        entries.retain(|entry| entry.id != self.id);
        let gone = entries.len() < before;
        if entries.is_empty() {
            open.by_target.remove(&key);
        }
        if gone && named {
            self.tell(&open);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tmc_apimachinery::ClusterName;
    use tmc_apimachinery::status::Result;

    use super::*;
    use crate::syncer::Beat;

    #[derive(Default)]
    struct Told(Mutex<Vec<u32>>);

    impl BeatSink for Told {
        fn beat(&self, _: &TargetId, _: Beat) -> Result<Duration> {
            Ok(Duration::from_secs(10))
        }

        fn hello(&self, _: &TargetId, _: &str) {}

        fn sessions(&self, _: &TargetId, open: u32) {
            self.0.lock().push(open);
        }
    }

    fn target(uid: &str) -> TargetId {
        TargetId {
            cluster: ClusterName::new("root"),
            name: "one".into(),
            uid: uid.into(),
        }
    }

    #[test]
    fn replicas_stand_side_by_side_and_a_newer_session_of_one_replaces_the_older() {
        let (sessions, told) = (Arc::new(Sessions::default()), Arc::new(Told::default()));
        let open = || sessions.reserve(&target("u"), told.clone()).expect("room");
        let (first, second, third) = (open(), open(), open());
        assert_eq!(sessions.count(&target("u")), 0, "nobody has said hello");
        first.name("a");
        second.name("b");
        third.name("a");
        assert!(first.signals.replaced.is_cancelled());
        assert!(!second.signals.replaced.is_cancelled());
        assert!(!third.signals.replaced.is_cancelled());
        drop(first);
        assert_eq!(sessions.count(&target("u")), 2);
        assert_eq!(
            sessions.count(&target("v")),
            0,
            "another uid is another target"
        );
        drop((second, third));
        assert_eq!(sessions.count(&target("u")), 0);
        assert_eq!(*told.0.lock(), [1, 2, 2, 1, 0]);
        assert!(sessions.open.lock().by_target.is_empty(), "nothing is kept");
    }

    #[test]
    fn one_uid_never_replaces_another_and_a_full_target_takes_no_more() {
        let (sessions, told) = (Arc::new(Sessions::default()), Arc::new(Told::default()));
        let old = sessions.reserve(&target("u"), told.clone()).expect("room");
        let new = sessions.reserve(&target("v"), told.clone()).expect("room");
        old.name("a");
        new.name("a");
        assert!(!old.signals.replaced.is_cancelled());
        let more: Vec<_> =
            std::iter::from_fn(|| sessions.reserve(&target("v"), told.clone())).collect();
        assert_eq!(more.len(), MAX_PER_TARGET - 2);
        let elsewhere = TargetId {
            name: "two".into(),
            ..target("v")
        };
        assert!(
            sessions.reserve(&elsewhere, told.clone()).is_some(),
            "others have room"
        );
    }
}
