//! Permission to sync, asked of the hub in this process.

use async_trait::async_trait;
use tmc_apimachinery::user::{Decision, UserInfo};
use tmc_hub::Hub;
use tmc_virtual::syncer::{SyncAccess, TargetId};

use super::guards::sync_attributes;

/// Answers as a SubjectAccessReview in the target's workspace would: from the roles as they are
/// now, so a permission that was taken away ends with the next request.
pub struct HubAccess(pub Hub);

#[async_trait]
impl SyncAccess for HubAccess {
    async fn may_sync(&self, user: &UserInfo, target: &TargetId) -> Decision {
        self.0
            .review_access(&sync_attributes(user, &target.cluster, &target.name))
    }
}
