//! Simulated member clusters: a hub without guards, workspaces and `kcp.io` keys, whose nodes are
//! made up and whose Deployments, ReplicaSets and Pods become ready after a while, as kwok does it
//! for a real cluster. For the quickstart, tests and benchmarks; never for workloads.

pub mod member;
pub mod workloads;

pub use member::{Behaviour, Member};
