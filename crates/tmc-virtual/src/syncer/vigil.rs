//! How somebody stands to a target, and whether those who watch may still do so: asked once for all the
//! watches of one agent.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tmc_apimachinery::user::UserInfo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::shares::Shares;
use super::targets::TargetId;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(2);

/// How somebody stands to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// May sync it.
    Entitled,
    /// May not, or nobody could say.
    Refused,
    /// There is no such target any more, or another one has its name.
    Gone,
}

/// Whether somebody may still look at a target's view.
#[async_trait]
pub(super) trait Entitled: Send + Sync {
    /// How the user stands to the target now.
    async fn standing(&self, user: &UserInfo, target: &TargetId) -> Standing;
}

type Watcher = (UserInfo, TargetId);

/// The questions that are being asked.
pub(super) struct Vigils {
    entitled: Arc<dyn Entitled>,
    running: Mutex<Shares<Watcher, Weak<Vigil>>>,
}

/// One question, asked again and again as long as somebody wants to know. A task of its own asks, so
/// that those who wait for the end are not woken for each answer.
pub(super) struct Vigil {
    lost: CancellationToken,
    _asking: AbortOnDropHandle<()>,
}

impl Vigil {
    /// Resolves when the watcher has lost the view.
    pub(super) async fn lost(self: Arc<Self>) {
        self.lost.cancelled().await;
    }
}

impl Vigils {
    /// None yet.
    pub(super) fn new(entitled: Arc<dyn Entitled>) -> Self {
        Self {
            entitled,
            running: Mutex::default(),
        }
    }

    /// The question whether a user may look at a target, shared by all who wait for its end.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub(super) fn keep(&self, user: &UserInfo, target: &TargetId) -> Arc<Vigil> {
        let watcher = (user.clone(), target.clone());
        let mut running = self.running.lock();
        let known = running.get(&watcher).and_then(Weak::upgrade);
        // One that has ended says nothing of a permission that was given again.
        if let Some(vigil) = known.filter(|vigil| !vigil.lost.is_cancelled()) {
            return vigil;
        }
        let lost = CancellationToken::new();
        let asking = ask(Arc::clone(&self.entitled), watcher.clone(), lost.clone());
        let vigil = Arc::new(Vigil {
            lost,
            _asking: AbortOnDropHandle::new(tokio::spawn(asking)),
        });
        running.insert(watcher, Arc::downgrade(&vigil), |weak| {
            weak.strong_count() > 0
        });
        vigil
    }
}

async fn ask(entitled: Arc<dyn Entitled>, (user, target): Watcher, lost: CancellationToken) {
    // Also when asking itself breaks off: who cannot be asked about may not go on.
    let _lost = lost.drop_guard();
    while entitled.standing(&user, &target).await == Standing::Entitled {
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tmc_apimachinery::ClusterName;

    use super::*;

    #[derive(Default)]
    struct Door {
        asked: AtomicUsize,
        closed: AtomicBool,
    }

    #[async_trait]
    impl Entitled for Door {
        async fn standing(&self, _: &UserInfo, _: &TargetId) -> Standing {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.closed.load(Ordering::Relaxed) {
                Standing::Refused
            } else {
                Standing::Entitled
            }
        }
    }

    fn target(name: &str) -> TargetId {
        TargetId {
            cluster: ClusterName::new("c"),
            name: name.into(),
            uid: "u".into(),
        }
    }

    fn user(name: &str) -> UserInfo {
        UserInfo::new(name, &[])
    }

    #[tokio::test(start_paused = true)]
    async fn all_watches_of_an_agent_share_one_question_and_end_together() {
        let door = Arc::new(Door::default());
        let vigils = Vigils::new(door.clone());
        let watches = (0..13).map(|_| vigils.keep(&user("a"), &target("t")).lost());
        let all = tokio::spawn(futures::future::join_all(watches));
        tokio::time::sleep(EVERY * 10).await;
        let asked = door.asked.load(Ordering::Relaxed);
        assert!((10..=11).contains(&asked), "{asked}");
        assert!(!all.is_finished());
        door.closed.store(true, Ordering::Relaxed);
        all.await.expect("they end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_permission_given_again_is_asked_for_again() {
        let door = Arc::new(Door::default());
        door.closed.store(true, Ordering::Relaxed);
        let vigils = Vigils::new(door.clone());
        let first = vigils.keep(&user("a"), &target("t"));
        first.clone().lost().await;
        door.closed.store(false, Ordering::Relaxed);
        let second = vigils.keep(&user("a"), &target("t")).lost();
        assert!(tokio::time::timeout(EVERY * 3, second).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_asked_as_long_as_one_waits_and_each_agent_has_its_own() {
        let door = Arc::new(Door::default());
        let vigils = Vigils::new(door.clone());
        let gone = vigils.keep(&user("a"), &target("t"));
        let stays = vigils.keep(&user("a"), &target("t"));
        for other in [
            vigils.keep(&user("b"), &target("t")),
            vigils.keep(&user("a"), &target("s")),
        ] {
            assert!(!Arc::ptr_eq(&other, &stays));
        }
        assert!(tokio::time::timeout(EVERY, gone.lost()).await.is_err());
        door.closed.store(true, Ordering::Relaxed);
        stays.lost().await;
        let asked = || door.asked.load(Ordering::Relaxed);
        let before = asked();
        tokio::time::sleep(EVERY * 10).await;
        assert_eq!(asked(), before, "nobody waits any more");
    }
}
