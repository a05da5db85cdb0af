//! Hosted syncers: agents as supervised tasks of this process. Between them and the hub there is no
//! socket, so their sign of life is the POST `heartbeat`, not a session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tmc_controllers::heartbeat::TargetId;
use tmc_controllers::synctarget::hosted::{
    HostedState, HostedSyncer, HostedSyncers, OnHostedChange,
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
    stop: CancellationToken,
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
}

struct Running {
    fingerprint: String,
    syncer_url: String,
    pod_security: String,
    state: HostedState,
    stop: CancellationToken,
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
        };
        Self {
            shared: Arc::new(shared),
            stop: stop.child_token(),
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
        let changed = self.changed.read().clone();
        if let Some(changed) = changed {
            changed(target);
        }
    }

    /// Runs an agent again and again until it is stopped.
    async fn supervise(self: Arc<Self>, syncer: HostedSyncer, stop: CancellationToken) {
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
        let mut running = self.shared.running.lock();
        if let Some(known) = running.get(&syncer.target) {
            let same = known.fingerprint == syncer.fingerprint
                && known.syncer_url == syncer.syncer_url
                && known.pod_security == syncer.pod_security
                && !known.stop.is_cancelled();
            if same {
                return;
            }
            known.stop.cancel();
        }
        let stop = self.stop.child_token();
        running.insert(
            syncer.target.clone(),
            Running {
                fingerprint: syncer.fingerprint.clone(),
                syncer_url: syncer.syncer_url.clone(),
                pod_security: syncer.pod_security.clone(),
                state: HostedState::Starting,
                stop: stop.clone(),
            },
        );
        let work = self.shared.clone().supervise(syncer, stop);
        self.shared.tasks.spawn(work);
    }

    fn stop(&self, target: &TargetId) {
        if let Some(running) = self.shared.running.lock().remove(target) {
            running.stop.cancel();
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
