//! Hosted syncers: what this crate needs of whoever runs them.

use std::sync::Arc;

use tmc_runtime::Connection;

use crate::heartbeat::TargetId;

/// How a Hosted syncer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostedState {
    /// There is none.
    #[default]
    Absent,
    /// It was started and has not reported yet.
    Starting,
    /// It runs, or one that it replaces does still.
    Running,
    /// It ended, and is started again with back-off; a sentence without secrets.
    Failed(String),
}

/// How far a Hosted syncer is that was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "one that is ending may still change its member"]
pub enum Halt {
    /// None works any more.
    Ended,
    /// It finishes what it has begun.
    Ending,
}

/// A syncer that should run. How often it beats is no part of it: the hub tells that to every agent as
/// it runs, and no change of it restarts one.
#[derive(Clone, Debug)]
pub struct HostedSyncer {
    /// For which target.
    pub target: TargetId,
    /// The way into the member, as the syncer's own account there.
    pub member: Connection,
    /// Changes exactly when `member` is another one (another server or account; a renewed token is the same).
    pub fingerprint: String,
    /// The target's virtual workspace (`status.virtualWorkspaceURL`).
    pub syncer_url: String,
    /// Pod Security level of the namespaces that it makes.
    pub pod_security: String,
}

/// Called with a target whose syncer changed its state.
pub type OnHostedChange = Arc<dyn Fn(&TargetId) + Send + Sync>;

/// Runs Hosted syncers as supervised tasks.
pub trait HostedSyncers: Send + Sync + 'static {
    /// Makes sure that this syncer runs. Called on every pass: equal arguments change nothing,
    /// others (by everything but `member`) restart it. It begins when the one before has ended. When
    /// the process, or its term as the leader, ends, nothing begins and states stay as they are.
    fn ensure(&self, syncer: HostedSyncer);
    /// Makes sure that none goes on for the target. Whoever is told of changes of state hears when one
    /// that was ending has ended.
    fn stop(&self, target: &TargetId) -> Halt;
    /// How it is.
    fn state(&self, target: &TargetId) -> HostedState;
    /// Sets who is told of changes of state.
    fn on_change(&self, changed: OnHostedChange);
}
