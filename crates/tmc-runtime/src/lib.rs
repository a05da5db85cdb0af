//! What controllers, virtual workspaces and the syncer stand on: connections, a cluster-aware REST
//! client, informers with indexes, a typed work queue, a committer, leader election. Works against any
//! hub.

mod answer;
mod bounds;
pub mod client;
pub mod clock;
pub mod committer;
pub mod connection;
pub mod controller;
pub mod https;
pub mod informer;
pub mod jitter;
pub mod lease;
mod pages;
pub mod queue;
mod reflector;
pub mod rights;
mod store;
mod url;
mod watch;

pub use bounds::{Bounds, Budget};
pub use client::{Error, ResourceClient};
pub use clock::Clock;
pub use committer::{Committer, MainPatch, StatusPatch};
pub use connection::{Connection, Hub, Switch};
pub use https::{Credential, Dialer, Endpoint, SystemDialer};
pub use informer::{ClusterKey, Informer, Store};
pub use jitter::Jitter;
pub use lease::Fence;
pub use pages::Pages;
