//! Simulated member clusters: a hub without guards, workspaces and `kcp.io` keys, whose nodes are
//! made up and whose Deployments, ReplicaSets and Pods become ready after a while, as kwok does it
//! for a real cluster. What belongs to a deleted object goes by the hub's garbage collection. For the
//! quickstart, tests and benchmarks; never for workloads.

pub mod member;
pub mod workloads;

pub use member::{Behaviour, Member};
