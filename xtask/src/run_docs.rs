//! Runs the commands of a document.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::docs;
use crate::process::{self, Ended};
use crate::summary::{Component, Skip};
use crate::testbin::{self, Real};

/// How long a document may take, its release build excepted.
const LIMIT: Duration = Duration::from_secs(600);

/// Set for the commands of a document, so that none starts the tests again.
pub(crate) const GUARD: &str = "TMC_XTASK_TEST";

/// What has become of a document.
pub(crate) enum Outcome {
    /// It ran, and passed or not.
    Ran(bool),
    /// It could not run on this machine.
    Skipped(Skip),
}

/// Runs the commands of the document `name`, a path from the root.
///
/// They run in `target/xtask/<name>/`, whose entries are links to those of the
/// root, so that a `.tmc` of the developer is neither seen nor touched.
pub(crate) fn run(name: &str, real: &Real) -> Result<Outcome> {
    let skipped = |component| {
        Ok(Outcome::Skipped(Skip {
            component,
            what: format!("the commands of {name}"),
        }))
    };
    let path = crate::root().join(name);
    if !path.is_file() {
        return skipped(Component::Document);
    }
    let markdown = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
    let blocks = docs::blocks(&markdown).map_err(|message| anyhow::anyhow!("{name}: {message}"))?;
    let script = docs::script(name, &blocks);
    let needs = script.needs();
    if let Real::Missing(_) = real
        && (needs.real || needs.kubectl && !process::on_path("kubectl"))
    {
        return skipped(Component::Real);
    }
    println!("\nthe commands of {name} ({} blocks)", blocks.len());
    for note in &script.notes {
        println!("  {note}");
    }
    if needs.release {
        ensure!(
            process::succeeds(crate::cargo().args(["build", "--release"]))?,
            "the release build failed"
        );
    }
    execute(name, &script.text, real).map(Outcome::Ran)
}

fn execute(name: &str, text: &str, real: &Real) -> Result<bool> {
    let base = crate::root()
        .join("target/xtask")
        .join(name.replace('/', "-"));
    let place = scratch(&base)?;
    let file = base.with_extension("sh");
    let log = base.with_extension("log");
    fs::write(&file, text)?;

    let mut bash = Command::new("bash");
    bash.arg(&file)
        .current_dir(&place)
        .env(GUARD, "1")
        .env_remove("KUBECONFIG");
    if let Real::At(assets) = real {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(assets.clone()).chain(std::env::split_paths(&path));
        bash.env(testbin::ASSETS, assets)
            .env("PATH", std::env::join_paths(dirs)?);
    }
    let start = Instant::now();
    let ended = process::run_group(&mut bash, &log, LIMIT)?;
    let why = match ended {
        Ended::With(status) if status.success() => {
            println!("  passed in {:.1} s", start.elapsed().as_secs_f64());
            return Ok(true);
        }
        Ended::With(status) => format!("failed with {status}"),
        Ended::TimedOut => format!("was not done after {} s", LIMIT.as_secs()),
    };
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let (block, rest) = docs::last_block(&output);
    println!("{rest}");
    println!(
        "  {} {why}; all output: {}",
        block.unwrap_or(name),
        log.display()
    );
    Ok(false)
}

/// A fresh folder with links to what the root holds, hidden files and what
/// would make it a Cargo workspace of its own excepted.
fn scratch(dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(crate::root())? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with('.') && !text.starts_with("Cargo.") {
            std::os::unix::fs::symlink(entry.path(), dir.join(&name))?;
        }
    }
    Ok(dir.to_path_buf())
}
