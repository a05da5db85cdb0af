//! The real programs of tests and benchmarks: etcd, the Kubernetes control
//! plane, kubectl and kwok, built from the Go module `tests/testbin`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// The variable through which tests find the folder, as with envtest.
pub(crate) const ASSETS: &str = "KUBEBUILDER_ASSETS";

const PROGRAMS: [&str; 6] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kwok",
];

/// The objects that tell kwok how its nodes and pods behave.
const STAGES: &str = "kwok-stages.yaml";

/// A copy of all that the build depends on, written when it is complete.
const STAMP: &str = ".built-from";

const KUBERNETES: &str = "k8s.io/kubernetes";
const KWOK: &str = "sigs.k8s.io/kwok";

/// Where the real programs are.
#[derive(Debug)]
pub(crate) enum Real {
    /// In this folder.
    At(PathBuf),
    /// Nowhere, for this reason.
    Missing(String),
}

/// The real programs: those of `KUBEBUILDER_ASSETS` if it is set, else ours,
/// built where Go is there.
///
/// # Errors
/// When the folder given is incomplete or the build fails.
pub(crate) fn locate() -> Result<Real> {
    if let Some(given) = std::env::var_os(ASSETS).filter(|given| !given.is_empty()) {
        let dir = PathBuf::from(given);
        let lacking: Vec<&str> = PROGRAMS
            .into_iter()
            .chain([STAGES])
            .filter(|name| !dir.join(name).is_file())
            .collect();
        ensure!(
            lacking.is_empty(),
            "{ASSETS}={} lacks {}; unset it to use what `cargo xtask testbin` builds",
            dir.display(),
            lacking.join(", ")
        );
        return Ok(Real::At(dir));
    }
    let dir = folder();
    if process::on_path("go") {
        build()?;
    } else if !is_current(&dir, &recipe()?) {
        return Ok(Real::Missing(
            "Go is not on the PATH, and no built programs are in target/testbin".to_owned(),
        ));
    }
    Ok(Real::At(dir))
}

/// Builds the programs into `target/testbin`; quick when nothing has changed.
///
/// # Errors
/// A sentence when Go is missing, or what Go has reported.
pub(crate) fn build() -> Result<()> {
    let dir = folder();
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let recipe = recipe()?;
    let _lock = lock(&dir)?;
    if is_current(&dir, &recipe) {
        println!("the real programs are up to date in {}", dir.display());
        return Ok(());
    }
    if !process::on_path("go") {
        bail!(
            "Go is not on the PATH; install Go 1.26 or newer to build the real programs, or set {ASSETS} to a folder that has them"
        );
    }
    println!(
        "building the real programs into {} (about five minutes the first time)",
        dir.display()
    );
    let start = Instant::now();
    let fresh = dir.join("fresh");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir(&fresh)?;
    compile(&fresh)?;
    fs::rename(fresh.join("server"), fresh.join("etcd"))?;
    write_stages(&fresh)?;
    // From here on the folder is a mixture until the stamp is written. A
    // program that runs keeps its file: each is replaced by a rename.
    let stamp = dir.join(STAMP);
    if stamp.exists() {
        fs::remove_file(&stamp)?;
    }
    for name in PROGRAMS.into_iter().chain([STAGES]) {
        fs::rename(fresh.join(name), dir.join(name))
            .with_context(|| format!("the build made no {name}"))?;
    }
    fs::remove_dir_all(&fresh)?;
    fs::write(stamp, recipe)?;
    println!("built in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn compile(out: &Path) -> Result<()> {
    let mut out = out.as_os_str().to_owned();
    out.push("/");
    // At low priority: a build beside it should not wait for this one.
    let mut go = Command::new("nice");
    go.args([
        "-n",
        "10",
        "go",
        "build",
        "-trimpath",
        "-ldflags",
        &ldflags(&go_mod()?)?,
        "-o",
    ])
    .arg(out)
    .arg("tool")
    .current_dir(module())
    .env("CGO_ENABLED", "0")
    .env("GOWORK", "off");
    ensure!(
        process::succeeds(&mut go)?,
        "the Go build of tests/testbin failed"
    );
    Ok(())
}

fn write_stages(dir: &Path) -> Result<()> {
    let mut list = Command::new("go");
    list.args(["list", "-m", "-f", "{{.Dir}}", KWOK])
        .current_dir(module())
        .env("GOWORK", "off");
    let kwok = process::output_of(&mut list)?;
    let mut kubectl = Command::new(dir.join("kubectl"));
    kubectl
        .arg("kustomize")
        .arg(Path::new(&kwok).join("kustomize/stage/fast"));
    let stages = process::output_of(&mut kubectl)?;
    fs::write(dir.join(STAGES), stages + "\n")?;
    Ok(())
}

/// Waits until no other process builds.
fn lock(dir: &Path) -> Result<File> {
    let file = File::create(dir.join(".lock"))?;
    if file.try_lock().is_err() {
        println!("waiting for another build of the real programs");
        file.lock()?;
    }
    Ok(file)
}

fn is_current(dir: &Path, recipe: &str) -> bool {
    fs::read_to_string(dir.join(STAMP)).is_ok_and(|stamp| stamp == recipe)
        && PROGRAMS
            .into_iter()
            .chain([STAGES])
            .all(|name| dir.join(name).is_file())
}

/// All that the programs depend on, the toolchain excepted.
fn recipe() -> Result<String> {
    let go_mod = go_mod()?;
    let go_sum = read(&module().join("go.sum"))?;
    Ok(format!("{}\n{go_mod}\n{go_sum}", ldflags(&go_mod)?))
}

/// The linker's flags. Without a version kubectl's `version` fails, and with
/// one that is none every Kubernetes program panics at start.
fn ldflags(go_mod: &str) -> Result<String> {
    let version = |module| {
        required(go_mod, module)
            .with_context(|| format!("tests/testbin/go.mod requires no {module}"))
    };
    let (kubernetes, kwok) = (version(KUBERNETES)?, version(KWOK)?);
    Ok(format!(
        "-s -w -X k8s.io/component-base/version.gitVersion={kubernetes} \
         -X k8s.io/client-go/pkg/version.gitVersion={kubernetes} -X {KWOK}/pkg/consts.Version={kwok}"
    ))
}

/// The version of `module` that a go.mod requires.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word == "require");
        (words.next() == Some(module))
            .then(|| words.next())
            .flatten()
            .filter(|version| version.starts_with('v'))
    })
}

fn folder() -> PathBuf {
    crate::root().join("target/testbin")
}

fn module() -> PathBuf {
    crate::root().join("tests/testbin")
}

fn go_mod() -> Result<String> {
    read(&module().join("go.mod"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_MOD: &str = "module testbin\ntool (\n\tsigs.k8s.io/kwok/cmd/kwok\n)\nrequire (\n\tk8s.io/kubernetes v1.36.2 // indirect\n)\nrequire sigs.k8s.io/kwok v0.8.0\nreplace (\n\tk8s.io/api => k8s.io/api v0.36.2\n)\n";

    #[test]
    fn the_version_of_a_module_is_read_from_a_block_or_a_line() {
        assert_eq!(required(GO_MOD, KUBERNETES), Some("v1.36.2"));
        assert_eq!(required(GO_MOD, KWOK), Some("v0.8.0"));
    }

    #[test]
    fn a_module_that_is_only_replaced_has_no_version() {
        assert_eq!(required(GO_MOD, "k8s.io/api"), None);
    }

    #[test]
    fn the_flags_carry_the_versions_of_the_module_that_is_built() {
        let flags = ldflags(&go_mod().unwrap()).unwrap();
        assert!(
            flags.contains("component-base/version.gitVersion=v1."),
            "{flags}"
        );
        assert!(
            flags.contains("sigs.k8s.io/kwok/pkg/consts.Version=v0."),
            "{flags}"
        );
    }
}
