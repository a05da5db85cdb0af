//! The controllers: one module each, a pure decision and a thin effect around it.

pub mod connector;
pub mod kubeconfig;
