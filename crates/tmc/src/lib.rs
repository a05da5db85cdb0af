//! The assembly of tmc and the commands over it.
//!
//! [`assembly`] puts hub, guards, controllers, virtual workspaces and Hosted syncers into one
//! process; [`commands`] are what a person runs, each talking Kubernetes REST to a hub, embedded or
//! not. `main` only parses and prints.

pub mod assembly;
pub mod cli;
pub mod commands;
pub mod context;
pub mod kubeconfig;
pub mod output;
pub mod workspace_path;
