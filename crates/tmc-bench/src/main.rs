//! The benchmarks behind `cargo xtask bench NAME`.
//!
//! They measure and print; they never fail because a number is bad. Percentiles are taken from all
//! samples, sorted; latencies count from the moment at which a request was *to be* sent, so that a
//! stall of the system under test is not hidden by a generator that waits for it.

mod crash;
mod first;
mod fleet;
mod flow;
mod hub;
mod in_tls;
mod member;
mod pacing;
mod process;
mod real;
mod report;
mod rig;
mod sightings;
mod sim;
mod stats;
mod store;
mod topics;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tmc::cli::{StartArgs, SyncerArgs};

/// Benchmarks of tmc.
#[derive(Debug, Parser)]
#[command(name = "tmc-bench", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start, memory, latency, burst and syncer, against a simulated and the real member
    First(first::FirstArgs),
    /// Many targets, Placements and objects on one hub, and members that never answer
    Fleet(fleet::FleetArgs),
    /// The store alone: commits, reopening, watchers
    Store(store::StoreArgs),
    /// Kill a writing store again and again and look for lost writes
    Crash(crash::CrashArgs),
    /// Seeds of the deterministic simulation
    Sim(sim::SimArgs),
    /// A hub, for a parent that measures it
    #[command(hide = true)]
    Hub(StartArgs),
    /// A syncer, for a parent that measures it
    #[command(hide = true)]
    Syncer(SyncerArgs),
}

/// Flags of every benchmark.
#[derive(Clone, Debug, clap::Args)]
struct OutputArgs {
    /// Say below the table how each row was measured
    #[arg(long)]
    explain: bool,
    /// Write the numbers behind the table to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What goes wrong in a simulation is meant to; what must not is told at the end.
    let level = match cli.command {
        Command::Sim(_) => "off",
        _ => "error",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TMC_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    // A simulation has runtimes of its own.
    if let Command::Sim(args) = &cli.command {
        return finished(sim::main(args));
    }
    // The children get the same runtime as `tmc` itself.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&cli.command)),
        Err(error) => Err(error.into()),
    };
    finished(outcome)
}

fn finished(outcome: Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::First(args) => first::run(args).await,
        Command::Fleet(args) => fleet::run(args).await,
        Command::Store(args) => store::run(args).await,
        Command::Crash(args) => crash::run(args),
        Command::Sim(args) => sim::main(args),
        Command::Hub(args) => tmc::commands::start::run(args)
            .await
            .map(|()| ExitCode::SUCCESS),
        Command::Syncer(args) => tmc::commands::syncer::run(args)
            .await
            .map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
