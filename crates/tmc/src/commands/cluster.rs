//! `tmc cluster …`

mod account;
mod describe;
mod register;
mod resolve;
mod unregister;

use anyhow::Result;

use crate::cli::{ClusterCommand, Global};
use crate::context::Context;

pub use register::{Registered, Registration, Syncer, Talk, register, register_as};

/// Runs a cluster command.
///
/// # Errors
/// A sentence for the person who typed it.
pub async fn run(global: &Global, command: &ClusterCommand) -> Result<String> {
    let context = Context::load(global)?;
    match command {
        ClusterCommand::Register(args) => register::run(&context, global, args).await,
        ClusterCommand::List => describe::all(&context, global.format()).await,
        ClusterCommand::Describe(args) => describe::one(&context, global, &args.name).await,
        ClusterCommand::Unregister(args) => unregister::unregister(&context, args).await,
    }
}
