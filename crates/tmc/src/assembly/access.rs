//! Permission to sync, asked of the hub in this process.

use async_trait::async_trait;
use tmc_apimachinery::ClusterScope;
use tmc_apimachinery::user::{Attributes, Decision, ResourceTarget, Target, UserInfo};
use tmc_hub::Hub;
use tmc_virtual::syncer::{SyncAccess, TargetId};

/// Answers as a SubjectAccessReview in the target's workspace would: from the roles as they are
/// now, so a permission that was taken away ends with the next request.
pub struct HubAccess(pub Hub);

#[async_trait]
impl SyncAccess for HubAccess {
    async fn may_sync(&self, user: &UserInfo, target: &TargetId) -> Decision {
        self.0.review_access(&Attributes {
            user: user.clone(),
            cluster: ClusterScope::One(target.cluster.clone()),
            verb: "sync".into(),
            target: Target::Resource(ResourceTarget {
                group: "workload.kcp.io".into(),
                version: "v1alpha1".into(),
                resource: "synctargets".into(),
                name: target.name.clone(),
                ..ResourceTarget::default()
            }),
        })
    }
}
