//! Hosted syncers: agents as supervised tasks of this process. Between them and the hub there is no
//! socket, so their sign of life is the POST `heartbeat`, not a session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tmc_controllers::heartbeat::TargetId;
use tmc_controllers::synctarget::hosted::{
    Halt, HostedState, HostedSyncer, HostedSyncers, OnHostedChange,
};
use tmc_runtime::{Connection, Fence};
use tmc_server::Server;
use tmc_syncer::{Agent, AgentOptions, REPORT_EVERY, Target};
use tmc_virtual::syncer::hosted_user;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::core::connection_as;
use super::surroundings::{Part, Surroundings};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
const WORKERS: usize = 8;
const NAMESPACE_DELAY: Duration = Duration::from_secs(30);

/// Runs agents against this process's own server, each as its own target's identity.
pub struct Hosted {
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    surroundings: Arc<dyn Surroundings>,
    fence: Option<Fence>,
    /// What tells this run of the process from others.
    run: String,
    /// How many agents were started in it.
    starts: AtomicU64,
    running: Mutex<HashMap<TargetId, Running>>,
    tasks: TaskTracker,
    changed: RwLock<Option<OnHostedChange>>,
    /// Ends all of them.
    stop: CancellationToken,
}

struct Running {
    fingerprint: String,
    syncer_url: String,
    pod_security: String,
    state: HostedState,
    /// Cancelled to end it.
    stop: CancellationToken,
    /// Cancelled when it has ended, and with it those before it.
    ended: CancellationToken,
}

/// Says that a task has ended, however it ends.
struct Ending {
    shared: Arc<Shared>,
    target: TargetId,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.ended.cancel();
        if self.stop.is_cancelled() && !self.shared.stop.is_cancelled() {
            self.shared.forget_ended(&self.target);
            self.shared.tell(&self.target);
        }
    }
}

impl Hosted {
    /// Runs nothing yet; everything ends with `stop`.
    pub fn new(
        server: &Server,
        surroundings: Arc<dyn Surroundings>,
        stop: &CancellationToken,
    ) -> Self {
        let mut run = surroundings.environment().uid();
        run.truncate(8);
        let shared = Shared {
            run,
            server: server.clone(),
            surroundings,
            fence: None,
            starts: AtomicU64::new(0),
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            changed: RwLock::default(),
            stop: stop.child_token(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl Hosted {
    /// For one term of a leader, before any syncer runs: none writes to hub or member once it has
    /// ended.
    #[must_use]
    pub fn fenced(mut self, fence: &Fence) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.fence = Some(fence.clone());
        }
        self
    }

    /// Resolves when every syncer has ended, after `stop` was cancelled.
    pub async fn ended(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn set(&self, target: &TargetId, token: &CancellationToken, state: HostedState) {
        {
            let mut running = self.running.lock();
            // A task that was replaced has nothing to say any more.
            let Some(entry) = running.get_mut(target).filter(|_| !token.is_cancelled()) else {
                return;
            };
            if entry.state == state {
                return;
            }
            entry.state = state;
        }
        self.tell(target);
    }

    /// Forgets the last syncer of a target if it was stopped and has ended.
    fn forget_ended(&self, target: &TargetId) {
        let mut running = self.running.lock();
        let last = running.get(target);
        if last.is_some_and(|last| last.stop.is_cancelled() && last.ended.is_cancelled()) {
            running.remove(target);
        }
    }

    fn tell(&self, target: &TargetId) {
        let changed = self.changed.read().clone();
        if let Some(changed) = changed {
            changed(target);
        }
    }

    /// Runs an agent again and again until it is stopped.
    async fn supervise(&self, syncer: HostedSyncer, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        while !stop.is_cancelled() {
            self.set(&syncer.target, &stop, HostedState::Running);
            let started = tokio::time::Instant::now();
            let ended = self.agent(&syncer).run(stop.clone()).await;
            let Err(error) = ended else { return };
            tracing::warn!(target = %syncer.target.name, %error, "a Hosted syncer ended");
            self.set(
                &syncer.target,
                &stop,
                HostedState::Failed(error.to_string()),
            );
            if started.elapsed() > LAST_RETRY {
                retry = FIRST_RETRY;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(retry) => {}
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// What the next agent is called. One that is started again is another one: the counter of its beats
    /// starts anew, which is refused of one that was heard before.
    fn next_identity(&self) -> String {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        format!("hosted-{}-{start}", self.run)
    }

    fn fenced(&self, connection: Connection) -> Connection {
        match &self.fence {
            Some(fence) => connection.fenced(fence),
            None => connection,
        }
    }

    fn agent(&self, syncer: &HostedSyncer) -> Agent {
        let id = &syncer.target;
        let target = tmc_virtual::syncer::TargetId {
            cluster: id.cluster.clone(),
            name: id.name.clone(),
            uid: id.uid.clone(),
        };
        let around = &self.surroundings;
        let direct = connection_as(&self.server, hosted_user(&target));
        Agent::new(AgentOptions {
            target: Target {
                cluster: id.cluster.clone(),
                name: id.name.clone(),
                uid: id.uid.clone(),
            },
            upstream: self.fenced(around.wire(Part::Syncer(&target), direct)),
            downstream: self.fenced(syncer.member.clone()),
            identity: self.next_identity(),
            pod_security: syncer.pod_security.clone(),
            workers: WORKERS,
            namespace_delay: NAMESPACE_DELAY,
            report_every: REPORT_EVERY,
            clock: around.syncer_clock(&target),
            jitter: around.jitter(),
        })
    }
}

impl HostedSyncers for Hosted {
    fn ensure(&self, syncer: HostedSyncer) {
        if self.shared.stop.is_cancelled() {
            return;
        }
        let mut running = self.shared.running.lock();
        let before = running.get(&syncer.target);
        if let Some(known) = before {
            let same = known.fingerprint == syncer.fingerprint
                && known.syncer_url == syncer.syncer_url
                && known.pod_security == syncer.pod_security
                && !known.stop.is_cancelled()
                && !known.ended.is_cancelled();
            if same {
                return;
            }
            known.stop.cancel();
        }
        let state = match before {
            // It works on until it hands over.
            Some(known) if known.state == HostedState::Running => HostedState::Running,
            _ => HostedState::Starting,
        };
        let before = before.map(|known| known.ended.clone());
        let stop = self.shared.stop.child_token();
        let ending = Ending {
            shared: self.shared.clone(),
            target: syncer.target.clone(),
            stop: stop.clone(),
            ended: CancellationToken::new(),
        };
        running.insert(
            syncer.target.clone(),
            Running {
                fingerprint: syncer.fingerprint.clone(),
                syncer_url: syncer.syncer_url.clone(),
                pod_security: syncer.pod_security.clone(),
                state,
                stop: stop.clone(),
                ended: ending.ended.clone(),
            },
        );
        // A runtime that is shutting down ends the task here, and that takes the lock.
        drop(running);
        self.shared.tasks.spawn(async move {
            // Two agents of one target would undo each other's work.
            if let Some(before) = before {
                before.cancelled().await;
            }
            ending.shared.supervise(syncer, stop).await;
        });
    }

    fn stop(&self, target: &TargetId) -> Halt {
        if let Some(known) = self.shared.running.lock().get_mut(target) {
            known.stop.cancel();
            known.state = HostedState::Absent;
        }
        // It may have ended already, and nobody told of its end.
        self.shared.forget_ended(target);
        match self.shared.running.lock().contains_key(target) {
            true => Halt::Ending,
            false => Halt::Ended,
        }
    }

    fn state(&self, target: &TargetId) -> HostedState {
        let running = self.shared.running.lock();
        running
            .get(target)
            .map(|running| running.state.clone())
            .unwrap_or_default()
    }

    fn on_change(&self, changed: OnHostedChange) {
        *self.shared.changed.write() = Some(changed);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;
    use tmc_apimachinery::ClusterName;
    use tmc_hub::environment::SharedEnvironment;
    use tmc_runtime::{Clock, Jitter};
    use tmc_server::VersionInfo;
    use tokio::sync::Notify;

    use super::super::surroundings::Machine;
    use super::*;

    /// A machine on whose wires nothing is ever answered.
    #[derive(Default)]
    struct Silence(Machine);

    impl Surroundings for Silence {
        fn environment(&self) -> SharedEnvironment {
            self.0.environment()
        }

        fn clock(&self) -> Clock {
            self.0.clock()
        }

        fn jitter(&self) -> Jitter {
            self.0.jitter()
        }

        fn store(&self) -> tmc_store::Options {
            self.0.store()
        }

        fn wire(&self, _: Part<'_>, _: Connection) -> Connection {
            silence()
        }
    }

    fn silence() -> Connection {
        Connection::in_process(tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, Infallible>>()
        }))
    }

    fn syncer(account: &str) -> HostedSyncer {
        HostedSyncer {
            target: TargetId {
                cluster: ClusterName::new("compute"),
                name: "east".into(),
                uid: "u".into(),
            },
            member: silence(),
            fingerprint: account.into(),
            syncer_url: "https://hub/services/syncer/compute/east/u".into(),
            pod_security: "baseline".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_syncer_ends_before_the_next_begins_and_whoever_waits_for_its_end_hears_of_it() {
        let server = Server::builder(VersionInfo::default()).build();
        let stop = CancellationToken::new();
        let hosted = Hosted::new(&server, Arc::new(Silence::default()), &stop);
        let heard = Arc::new(Notify::new());
        let tells = heard.clone();
        hosted.on_change(Arc::new(move |_| tells.notify_one()));
        let target = syncer("first").target;
        let until = async |state: HostedState| {
            while hosted.state(&target) != state {
                heard.notified().await;
            }
        };
        let starts = || hosted.shared.starts.load(Ordering::Relaxed);
        assert_eq!(hosted.stop(&target), Halt::Ended, "there is none");
        hosted.ensure(syncer("first"));
        until(HostedState::Running).await;
        hosted.ensure(syncer("second"));
        tokio::task::yield_now().await;
        assert_eq!((hosted.state(&target), starts()), (HostedState::Running, 1));
        assert_eq!(hosted.stop(&target), Halt::Ending);
        assert_eq!(hosted.state(&target), HostedState::Absent);
        hosted.ensure(syncer("third"));
        tokio::task::yield_now().await;
        assert_eq!(
            (hosted.state(&target), starts()),
            (HostedState::Starting, 1),
            "the first is still at something"
        );
        until(HostedState::Running).await;
        assert_eq!(starts(), 2, "the second was stopped before it began");
        while hosted.stop(&target) == Halt::Ending {
            heard.notified().await;
        }
        assert!(hosted.shared.running.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_of_all_nothing_begins_and_nobody_is_told_of_a_change() {
        let server = Server::builder(VersionInfo::default()).build();
        let stop = CancellationToken::new();
        let hosted = Hosted::new(&server, Arc::new(Silence::default()), &stop);
        let target = syncer("first").target;
        hosted.ensure(syncer("first"));
        tokio::task::yield_now().await;
        let told = Arc::new(AtomicU64::new(0));
        let tells = told.clone();
        hosted.on_change(Arc::new(move |_| {
            tells.fetch_add(1, Ordering::Relaxed);
        }));
        stop.cancel();
        hosted.ended().await;
        hosted.ensure(syncer("second"));
        assert_eq!(hosted.state(&target), HostedState::Running);
        assert!(hosted.shared.tasks.is_empty());
        assert_eq!(told.load(Ordering::Relaxed), 0);
    }
}
