//! Developer commands of the project, run as `cargo xtask COMMAND`.
//!
//! The crate depends on none of ours, so that it builds in seconds and works
//! while the rest does not compile. Decisions (which blocks of a document are
//! run, what a summary says) are pure functions in [`docs`] and [`summary`];
//! the other modules start processes.

mod docs;
mod failures;
mod process;
mod run_docs;
mod summary;
mod test;
mod testbin;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--no-docs|--only-docs] [ARGS]  every test: `cargo test` of the workspace with ARGS, against
                                       the real programs, then README.md and docs/tour.md
  testbin                              build the real programs (etcd, kube-apiserver, …) into target/testbin
  bench NAME [ARGS]                    run a benchmark of tmc-bench
  sim [ARGS]                           run the deterministic simulation of tmc-bench
  ci                                   run .ci/run, what a change must pass
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match command.as_str() {
        "test" => match test::Options::parse(rest) {
            Ok(options) => test::run(&options),
            Err(message) => return usage(&message),
        },
        "testbin" if rest.is_empty() => testbin::build().map(|()| true),
        "bench" if !rest.is_empty() => bench(rest),
        "sim" => sim(rest),
        "ci" if rest.is_empty() => ci(),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        "testbin" | "ci" => return usage(&format!("`{command}` takes no arguments")),
        "bench" => return usage("`bench` needs the name of a benchmark"),
        other => return usage(&format!("no command `{other}`")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(message: &str) -> ExitCode {
    eprintln!("xtask: {message}\n\n{USAGE}");
    ExitCode::from(2)
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// `cargo` as the one that runs us, in the root of the repository.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn bench(args: &[String]) -> Result<bool> {
    // With `tmc` beside it, which is measured as a whole.
    let mut build = cargo();
    build.args(["build", "--release", "-p", "tmc", "-p", "tmc-bench"]);
    if !process::succeeds(&mut build)? {
        return Ok(false);
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut command = Command::new(target.join("release/tmc-bench"));
    command.args(args);
    match testbin::locate()? {
        testbin::Real::At(dir) => {
            command.env(testbin::ASSETS, dir);
        }
        testbin::Real::Missing(reason) => eprintln!("without the real programs: {reason}"),
    }
    process::succeeds(&mut command)
}

fn sim(args: &[String]) -> Result<bool> {
    process::succeeds(
        cargo()
            .args(["run", "--release", "-p", "tmc-bench", "--", "sim"])
            .args(args),
    )
}

fn ci() -> Result<bool> {
    let script = root().join(".ci/run");
    process::succeeds(Command::new("bash").arg(&script).current_dir(root()))
        .with_context(|| format!("cannot run {}", script.display()))
}
