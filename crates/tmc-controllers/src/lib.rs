//! The controllers: one module each, a pure decision and a thin effect around it.
//!
//! Place in the flow: between what users write (Clusters, Placements, namespaces, objects) and what
//! targets see (labels, views). They speak to any hub through `tmc-runtime` and never import one.
//! What they need of the world outside is in [`Deps`]: beats, Hosted syncers, the outbound
//! connector, a clock.

pub mod beat_leases;
pub mod cluster;
pub mod connector;
mod context;
pub mod coordination;
mod events;
pub mod eviction;
pub mod heartbeat;
pub mod install;
pub mod kubeconfig;
pub mod location;
mod manager;
pub mod members;
pub mod metrics;
pub mod namespace;
pub mod placement;
pub mod resource;
pub mod slim;
mod slots;
mod stores;
pub mod synctarget;
pub mod system;
mod wiring;

pub use context::{AgentSettings, Deps};
pub use manager::{Handle, Manager};
pub use tmc_runtime::clock;
