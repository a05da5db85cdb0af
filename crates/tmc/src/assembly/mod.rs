//! Puts the parts together: an embedded hub with guards, controllers, virtual workspaces and Hosted
//! syncers in one process ([`embedded`]), or the same beside a Kubernetes API server
//! ([`kubernetes`]).

pub mod access;
pub mod authority;
pub mod beats;
pub mod controllers;
pub mod core;
pub mod data_dir;
pub mod embedded;
pub mod guards;
pub mod hosted;
pub mod kubernetes;
pub mod limits;
pub mod members;
pub mod metrics;
pub mod surroundings;
pub mod views;
