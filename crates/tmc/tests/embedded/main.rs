//! The assembly in one process: hub, controllers, view, Hosted syncers, simulated members.
#![allow(clippy::unwrap_used)]

mod agents;
mod commands;
mod drain;
mod flow;
mod replicas;
mod session;
mod several;
mod support;
mod tokens;
mod view;
