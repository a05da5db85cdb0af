//! How somebody stands to a target, and whether those who watch may still do so: asked once for all the
//! watches of one agent.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tmc_apimachinery::user::UserInfo;

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

/// Resolves when a watcher has lost the view.
pub(super) type Lost = Shared<BoxFuture<'static, ()>>;

type Watcher = (UserInfo, TargetId);

/// The questions that are being asked.
pub(super) struct Vigils {
    entitled: Arc<dyn Entitled>,
    running: Mutex<Shares<Watcher, WeakShared<BoxFuture<'static, ()>>>>,
}

impl Vigils {
    /// None yet.
    pub(super) fn new(entitled: Arc<dyn Entitled>) -> Self {
        Self {
            entitled,
            running: Mutex::default(),
        }
    }

    /// The question whether a user may look at a target, shared by all who wait for its end; it is
    /// asked as long as one of them does.
    pub(super) fn keep(&self, user: &UserInfo, target: &TargetId) -> Lost {
        let watcher = (user.clone(), target.clone());
        let mut running = self.running.lock();
        let known = running.get(&watcher).and_then(WeakShared::upgrade);
        // One that has ended says nothing of a permission that was given again.
        if let Some(lost) = known.filter(|lost| lost.peek().is_none()) {
            return lost;
        }
        let lost = lost(Arc::clone(&self.entitled), watcher.clone())
            .boxed()
            .shared();
        if let Some(weak) = lost.downgrade() {
            running.insert(watcher, weak, |weak| weak.upgrade().is_some());
        }
        lost
    }
}

async fn lost(entitled: Arc<dyn Entitled>, (user, target): Watcher) {
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
        let watches: Vec<Lost> = (0..13)
            .map(|_| vigils.keep(&user("a"), &target("t")))
            .collect();
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
        first.clone().await;
        door.closed.store(false, Ordering::Relaxed);
        let second = vigils.keep(&user("a"), &target("t"));
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
            assert!(!other.ptr_eq(&stays));
        }
        // The one that asked has gone; another goes on.
        assert!(tokio::time::timeout(EVERY, gone).await.is_err());
        door.closed.store(true, Ordering::Relaxed);
        stays.await;
    }
}
