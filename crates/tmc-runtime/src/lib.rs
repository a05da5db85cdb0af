//! What controllers, virtual workspaces and the syncer stand on: connections, a cluster-aware REST
//! client, informers with indexes, a typed work queue, a committer. Works against any hub.

pub mod client;
pub mod committer;
pub mod connection;
pub mod controller;
pub mod informer;
pub mod queue;

pub use client::{Error, ResourceClient};
pub use connection::{Connection, Hub};
pub use informer::{ClusterKey, Informer, Store};
