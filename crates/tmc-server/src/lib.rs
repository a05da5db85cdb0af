//! HTTP in front of a resource store trait: listener, TLS, filter chain, verbs, watch streaming,
//! discovery. Knows nothing of TMC.
//!
//! **Way of a request** (module [`service`]): health paths are answered at once; every other path
//! is resolved by a surface ([`surface::ApiSurface`]), authenticated, authorized, its body read,
//! and then served as discovery or by a verb over the surface's [`resource::ResourceStore`]. The
//! same service stands behind the network listener and behind clients in the same process.
//!
//! **Invariants.** Nothing but [`authz::EXEMPT_PATHS`] is answered unauthenticated. Identity comes
//! from typed request extensions or a token, never from a header that names a user. Every error is
//! a `Status` object. Stored bytes go to clients uncopied unless another form was asked for.

mod authn;
pub mod authz;
pub mod config;
mod content;
mod discovery;
mod filters;
mod health;
mod listener;
mod metrics;
mod protobuf;
mod render;
pub mod resource;
pub mod respond;
pub mod service;
pub mod surface;
pub mod tls;
mod verbs;
pub mod websocket;

pub use authz::{MastersOnly, PathAuthorizer};
pub use config::{Config, ListenerConfig};
pub use listener::RemoteAddress;
pub use service::{Server, ServerBuilder, ServerService, VersionInfo};
