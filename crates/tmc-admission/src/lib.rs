//! Guards, defaulting and validation of our kinds, as pure functions behind the admission trait.
//!
//! Stands between every write and the store, on whatever hub: [`guards`] is plugged into the
//! embedded hub before its first write. It defaults and validates SyncTarget, Cluster, Location,
//! Placement and Workspace, protects reserved keys and system-written kinds, and keeps `/status`
//! of our kinds to those who observe. It reads nothing but the request, the stored object and its
//! configuration; the one question it asks outside is [`AgentAccess::may_sync`].

mod fields;
mod guards;
mod rules;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use tmc_apimachinery::ClusterName;
use tmc_apimachinery::admission::Admission;
use tmc_apimachinery::user::UserInfo;

pub use writer::{GROUP_VIRTUAL_WORKSPACE, Writer};

/// What the guards have to know of the server they stand in.
#[derive(Clone)]
pub struct GuardConfig {
    /// The syncer's container image of this release: what a SyncTarget gets that names none. With
    /// `None` the field stays absent.
    pub syncer_image: Option<String>,
    /// Whether members cannot reach the hub because its URL is on loopback: then a syncer in a
    /// Deployment is refused.
    pub hub_on_loopback: bool,
    /// Who is an agent.
    pub agents: Arc<dyn AgentAccess>,
}

impl Default for GuardConfig {
    /// No default image, a hub that members reach, no agents.
    fn default() -> Self {
        Self {
            syncer_image: None,
            hub_on_loopback: false,
            agents: Arc::new(NoAgents),
        }
    }
}

/// Tells who is an agent: whoever the authorizer lets `sync` a SyncTarget.
#[async_trait]
pub trait AgentAccess: Send + Sync {
    /// Whether `user` may `sync` the SyncTarget `target` of `cluster`. No answer is a no.
    async fn may_sync(&self, user: &UserInfo, cluster: &ClusterName, target: &str) -> bool;
}

/// Nobody is an agent.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAgents;

#[async_trait]
impl AgentAccess for NoAgents {
    async fn may_sync(&self, _: &UserInfo, _: &ClusterName, _: &str) -> bool {
        false
    }
}

/// The guards of a hub, to be plugged into its write path.
///
/// Refusals are 422 `Invalid` with a cause a field, or 403 `Forbidden` where the writer rather
/// than the content is wrong.
pub fn guards(config: GuardConfig) -> impl Admission {
    guards::Guards::new(config)
}
