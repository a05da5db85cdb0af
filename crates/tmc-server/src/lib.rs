//! HTTP in front of a resource store trait: listener, TLS, filter chain, verbs, watch streaming,
//! discovery. Knows nothing of TMC.

pub mod resource;
pub mod surface;
