//! The deterministic simulation: real controllers, views and agents over an in-process hub and
//! simulated members, in virtual time, with faults that a seed decides.
//!
//! ```text
//! users ──────────▶ hub process ◀──wire── controllers, views        wires lose, repeat, delay,
//!                      ▲   (killed and started again on one disk)    refuse, overtake, cut
//!                      └──wire── Hosted agents ──wire──▶ members
//! ```
//! After the storm the fleet must come to rest; [`invariants`] are checked during and after it. The
//! same seed gives the same revision log, byte for byte.

mod chance;
mod disk;
mod fleet;
mod frames;
mod invariants;
mod kept;
mod process;
mod run;
mod snapshot;
mod storm;
#[cfg(test)]
mod tests;
mod trace;
mod users;
mod watchdog;
mod weather;
mod wire;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;

use run::{Outcome, Plan, run};

/// Stack of a thread that runs a seed: unoptimised futures are large.
const STACK: usize = 32 << 20;
/// Things that happen in one storm.
pub(crate) const EVENTS: u32 = 80;

/// Flags of `sim`.
#[derive(Debug, clap::Args)]
pub(crate) struct SimArgs {
    /// Run this seed alone and show what happens
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds to run
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// How many to run at once; as many as there are processors if not given
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Things that happen in one storm
    #[arg(long, value_name = "N", default_value_t = EVENTS)]
    events: u32,
    /// Virtual minutes without a write that each fleet is watched for after it came to rest
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    quiet: u64,
}

/// Runs it.
///
/// # Errors
/// If no thread can be started. Seeds that fail are told of and make the exit code.
pub(crate) fn main(args: &SimArgs) -> Result<ExitCode> {
    let plan = |seed| Plan {
        seed,
        loud: args.seed.is_some(),
        events: args.events,
        quiet: Duration::from_secs(args.quiet * 60),
    };
    let seeds = match args.seed {
        Some(seed) => seed..seed + 1,
        None => args.from..args.from + args.seeds,
    };
    let started = Instant::now();
    let jobs = args
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (count, failed) = (seeds.end - seeds.start, Mutex::new(Vec::new()));
    each(seeds, jobs, |seed| {
        let outcome = run(&plan(seed));
        if !outcome.wrong.is_empty() {
            eprintln!("{}", report(seed, &outcome));
            failed.lock().push(seed);
        } else if args.seed.is_some() {
            println!(
                "seed {seed}: well after {:.0} s of virtual time, {} revisions, log {}",
                outcome.took.as_secs_f64(),
                outcome.log.len(),
                outcome.hash
            );
        }
    })?;
    let failed = failed.into_inner();
    let took = started.elapsed().as_secs_f64();
    println!("{count} seeds in {took:.1} s, {} failed", failed.len());
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a person needs of a failed run.
pub(crate) fn report(seed: u64, outcome: &Outcome) -> String {
    let list = outcome.wrong.join("\n  ");
    format!("seed {seed} failed; replay it with: cargo xtask sim --seed {seed}\n  {list}")
}

/// Does something for each seed, `jobs` at a time.
///
/// # Errors
/// If a thread cannot be started.
pub(crate) fn each(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    work: impl Fn(u64) + Sync,
) -> Result<()> {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (next, work, end) = (&next, &work, seeds.end);
            let thread = std::thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    work(seed);
                }
            })?;
        }
        Ok(())
    })
}
