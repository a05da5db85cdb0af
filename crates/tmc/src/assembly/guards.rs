//! The rules that see every write to the embedded hub.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tmc_admission::{AgentAccess, GuardConfig};
use tmc_apimachinery::admission::Admission;
use tmc_apimachinery::user::{Attributes, Decision, ResourceTarget, Target, UserInfo};
use tmc_apimachinery::{ClusterName, ClusterScope};
use tmc_hub::Hub;

/// The hub needs its guards before its first write, the guards need the hub's roles to know agents:
/// until the hub is there, nobody is an agent.
#[derive(Default)]
pub struct LateAccess(OnceLock<Hub>);

impl LateAccess {
    /// Connects the guards to the hub, once.
    pub fn fill(&self, hub: Hub) {
        let _ = self.0.set(hub);
    }
}
