//! Kills during writes: the store's own crash test, as often as asked.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Flags of `crash`.
#[derive(Debug, clap::Args)]
pub(crate) struct CrashArgs {
    /// How often the writing process is killed
    #[arg(long, default_value_t = 1000, value_name = "N")]
    kills: u64,
    /// Replay the choices of an earlier run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs it; the exit code is the test's.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn run(args: &CrashArgs) -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "test",
            "--release",
            "-p",
            "tmc-store",
            "--test",
            "crash",
            "--",
            "--nocapture",
        ])
        .env("TMC_CRASH_KILLS", args.kills.to_string());
    if let Some(seed) = args.seed {
        command.env("TMC_CRASH_SEED", seed.to_string());
    }
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
