//! The syncer virtual workspace.

mod api_set;
mod endpoints;
mod session;
mod shares;
mod storage;
mod surface;
mod targets;
pub mod transform;
mod vigil;

pub use api_set::Definitions;
pub use endpoints::{Beat, BeatSink};
pub use session::Sessions;
pub use surface::{
    BY_SECRET, ClusterView, SyncAccess, SyncerDependencies, SyncerWorkspace, secret_index,
};
pub use targets::{GROUP_HOSTED, TargetId, TargetView, hosted_user};
