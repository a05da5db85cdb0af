//! The assembly of tmc and the commands over it.
//!
//! [`assembly`] puts hub, guards, controllers, virtual workspaces and Hosted syncers into one
//! process; [`commands`] are what a person runs, each talking Kubernetes REST to a hub, embedded or
//! not. `main` only parses and prints.

/// Objects are made on one thread and dropped on another all the time. For that the allocator of glibc
/// takes locks: with this one a hub schedules half as many Placements a second more. Huge pages are off:
/// with them an idle hub takes 10 MB more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod assembly;
pub mod cli;
pub mod commands;
pub mod context;
pub mod kubeconfig;
pub mod output;
pub mod workspace_path;
