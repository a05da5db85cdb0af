//! The controllers: one module each, a pure decision and a thin effect around it.

pub mod connector;
pub mod heartbeat;
pub mod kubeconfig;
pub mod namespace;
pub mod placement;
pub mod resource;
pub mod slim;
pub mod synctarget;
pub mod system;
