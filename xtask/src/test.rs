//! `cargo xtask test`: the tests against the real programs, then the commands
//! of our documents, then a summary of what was skipped.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::failures::Failures;
use crate::process;
use crate::run_docs::{self, Outcome};
use crate::summary::{self, Summary};
use crate::testbin::{self, Real};

/// The documents whose commands are run.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/tour.md"];

/// Set when there are no real programs: tests that need them record themselves
/// as skipped and pass. Without it such a test fails.
const SKIP_REAL: &str = "TMC_TEST_SKIP_REAL";

/// The file to which a test that skips itself appends `component<TAB>name`
/// (`real` and `kcp` are the components known here).
const SKIP_FILE: &str = "TMC_TEST_SKIP_FILE";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    tests: bool,
    docs: bool,
    cargo_args: Vec<String>,
}

impl Options {
    /// Reads the arguments after `test`.
    ///
    /// # Errors
    /// A sentence about arguments that contradict each other.
    pub(crate) fn parse(args: &[String]) -> Result<Self, String> {
        let own = args
            .iter()
            .take_while(|arg| matches!(arg.as_str(), "--no-docs" | "--only-docs"))
            .count();
        let (own, cargo_args) = args.split_at(own);
        let has = |name: &str| own.iter().any(|arg| arg == name);
        let options = Self {
            tests: !has("--only-docs"),
            docs: !has("--no-docs"),
            cargo_args: cargo_args.to_vec(),
        };
        if !options.tests && !options.docs {
            return Err("`--no-docs` and `--only-docs` leave nothing to run".to_owned());
        }
        if !options.tests && !options.cargo_args.is_empty() {
            return Err("`--only-docs` runs no cargo test to give arguments to".to_owned());
        }
        Ok(options)
    }
}

/// Runs all that `options` ask for; true when everything passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(
        std::env::var_os(run_docs::GUARD).is_none(),
        "a document must not run the tests that run the document"
    );
    let mut summary = Summary {
        ci: std::env::var("CI").is_ok_and(|ci| ci == "true"),
        ..Summary::default()
    };
    let real = match testbin::locate() {
        Ok(real) => real,
        Err(error) => {
            eprintln!("{error:#}");
            summary.steps.push(("the real programs".to_owned(), false));
            Real::Missing(format!("{error:#}"))
        }
    };
    if let Real::Missing(reason) = &real {
        summary.real_missing = Some(reason.clone());
    }
    if options.tests {
        let skips = crate::root().join("target/xtask/skipped");
        let mut failures = Failures::default();
        let passed = cargo_test(&options.cargo_args, &real, &skips, &mut failures)?;
        summary.failures = failures.text();
        summary.steps.push(("cargo test".to_owned(), passed));
        summary.skips = summary::recorded(&fs::read_to_string(&skips)?);
    }
    if options.docs {
        for name in DOCUMENTS {
            let step = format!("the commands of {name}");
            match run_docs::run(name, &real) {
                Ok(Outcome::Ran(passed)) => summary.steps.push((step, passed)),
                Ok(Outcome::Skipped(skip)) => summary.skips.push(skip),
                Err(error) => {
                    eprintln!("{error:#}");
                    summary.steps.push((step, false));
                }
            }
        }
    }
    print!("{}", summary.text());
    Ok(summary.passed())
}

fn cargo_test(args: &[String], real: &Real, skips: &Path, failures: &mut Failures) -> Result<bool> {
    if let Some(dir) = skips.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(skips, "")?;
    let mut cargo = crate::cargo();
    cargo
        .args(["test", "--no-fail-fast"])
        .args(scope(args))
        .args(args)
        .env(SKIP_FILE, skips);
    match real {
        Real::At(dir) => cargo.env(testbin::ASSETS, dir).env_remove(SKIP_REAL),
        Real::Missing(_) => cargo.env_remove(testbin::ASSETS).env(SKIP_REAL, "1"),
    };
    process::succeeds_seen(&mut cargo, |line| failures.line(line))
}

/// The whole workspace, unless the arguments for cargo name a package.
fn scope(args: &[String]) -> Option<&'static str> {
    let names_package = args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"));
    (!names_package).then_some("--workspace")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn without_arguments_everything_runs() {
        assert_eq!(
            parse(&[]),
            Ok(Options {
                tests: true,
                docs: true,
                cargo_args: vec![]
            })
        );
    }

    #[test]
    fn what_follows_our_own_flags_goes_to_cargo() {
        let options = parse(&["--no-docs", "-p", "tmc", "--", "--no-docs"]).unwrap();
        assert!(!options.docs);
        assert_eq!(options.cargo_args, ["-p", "tmc", "--", "--no-docs"]);
    }

    #[test]
    fn flags_that_leave_nothing_to_run_are_refused() {
        assert!(parse(&["--no-docs", "--only-docs"]).is_err());
        assert!(parse(&["--only-docs", "-p", "tmc"]).is_err());
    }

    #[test]
    fn a_named_package_narrows_the_tests_and_an_argument_of_the_tests_does_not() {
        let options = parse(&["-p", "tmc"]).unwrap();
        assert_eq!(scope(&options.cargo_args), None);
        let options = parse(&["--", "-p"]).unwrap();
        assert_eq!(scope(&options.cargo_args), Some("--workspace"));
    }
}
