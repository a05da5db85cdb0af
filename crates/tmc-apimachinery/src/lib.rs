//! What any Kubernetes API server does, as pure functions of values.
//!
//! The ground floor: nothing here knows a clock, a socket, a lock or an executor. The server, the
//! hub, the virtual workspaces and the controllers all stand on these rules, so each is stated and
//! tested once, here.

pub mod admission;
pub mod definition;
pub mod discovery;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod options;
pub mod patch;
pub mod quantity;
pub mod request_info;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod user;
pub mod version_priority;

pub use names::{
    ClusterName, ClusterScope, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource,
};
pub use status::{ApiError, Cause, Reason, Result};
