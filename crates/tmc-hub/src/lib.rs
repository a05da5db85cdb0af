//! The embedded hub: workspaces, built-in and custom resources, RBAC, namespaces, certificates and
//! the tokens of ServiceAccounts, between the server's verbs and the revisioned store.
//!
//! A request comes in through [`Hub`] as an [`tmc_server::surface::ApiSurface`], is authorized by
//! RBAC of its workspace, and reads or writes through [`storage::HubStore`]. What follows from a
//! write beyond the object itself happens in two tasks ([`lifecycle`], `garbage`).
//!
//! A *plain* hub ([`storage::Layout::Plain`]) is a single cluster without prefix and `kcp.io` keys:
//! what a simulated member is made of.

mod catalog;
pub mod custom_resources;
pub mod environment;
mod expiry;
mod garbage;
mod hub;
mod identities;
pub mod keys;
pub mod lifecycle;
mod rbac;
mod reviews;
pub mod storage;
mod tokens;
mod workspaces;

pub use hub::{Hub, HubOptions, WeakHub};
pub use identities::{CLIENT_SIGNER, Signer};
pub use rbac::SCOPE_GROUP_PREFIX;
pub use tokens::KeyVault;
