//! The same kubectl commands against the hub, whose workload runs in a real member, and against a
//! real cluster of the same kind: the outputs agree, or `ledger.yaml` says where they do not and why.

mod diff;
mod ledger;
mod script;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::ledger::Ledger;
use self::script::{Mode, Step};
use crate::support::hub::{self, Hub};
use crate::support::kubectl::Kubectl;
use crate::support::process::{Output, Server};
use crate::support::real::{self, Real, needs_real_programs};
use crate::support::scratch::Scratch;
use crate::support::wait::{seconds, until};

/// How long what is on its way may be.
const PATIENCE: Duration = seconds(5);

/// One of the two that are compared.
pub(crate) struct Side {
    /// Its administrator.
    admin: Kubectl,
    /// A user called `viewer` without any right so far.
    viewer: Kubectl,
}

impl Side {
    /// The hub with a workspace whose namespaces labelled `bound=yes` run in a real member.
    fn hub(hub: &Hub, member: &Real) -> Self {
        let workspace = hub.workspace("compare");
        let file = member.kubeconfig_file();
        let file = file.to_str().unwrap();
        hub.tmc(
            &workspace,
            &[
                "cluster",
                "register",
                "compared",
                "--member-kubeconfig",
                file,
                "--raw",
            ],
        )
        .ok();
        hub.tmc(
            &workspace,
            &["bind", "compute", "--namespace-selector", "bound=yes"],
        )
        .ok();
        let viewer = hub.user(&workspace, "viewer");
        Self {
            admin: hub.kubectl(&workspace).in_directory(&manifests()),
            viewer: hub
                .kubectl_with(&viewer, &workspace)
                .in_directory(&manifests()),
        }
    }

    /// A real cluster.
    pub(crate) fn real(cluster: &Real) -> Self {
        let viewer = cluster.user("viewer");
        Self {
            admin: cluster.kubectl().in_directory(&manifests()),
            viewer: Kubectl::new(&viewer, cluster.scratch().path()).in_directory(&manifests()),
        }
    }

    fn run(&self, step: &Step) -> Output {
        let args: Vec<&str> = step.args.iter().map(String::as_str).collect();
        match &step.mode {
            Mode::Viewer => self.viewer.run(&args),
            Mode::Edit(expression) => {
                let editor = format!("sed -i -e {expression}");
                self.admin
                    .clone()
                    .with_env("KUBE_EDITOR", &editor)
                    .run(&args)
            }
            _ => self.admin.run(&args),
        }
    }
}

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/compare/manifests")
}

#[test]
fn kubectl_behaves_against_the_hub_as_against_a_real_cluster() {
    needs_real_programs!();
    let (reference, hub) = thread::scope(|scope| {
        let reference = scope.spawn(|| Side::real(real::reference()));
        let hub = Side::hub(hub::shared(), real::member());
        (reference.join().unwrap(), hub)
    });
    let found = compare(&reference, &hub);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Runs the script and lists what is wrong.
pub(crate) fn compare(reference: &Side, hub: &Side) -> Vec<String> {
    let ledger = Ledger::load();
    let mut wrong = Vec::new();
    for step in script::load() {
        wrong.extend(run_step(&ledger, &step, [reference, hub]));
    }
    wrong.extend(watch(&ledger, [reference, hub]));
    for entry in ledger.unused() {
        wrong.push(format!(
            "the ledger lists what does not occur any more: {entry}"
        ));
    }
    wrong
}

/// Runs a command on both sides; why their outputs may not differ as they do.
fn run_step(ledger: &Ledger, step: &Step, sides: [&Side; 2]) -> Option<String> {
    if step.mode == Mode::Await {
        let output = sides[0].run(step);
        return (!output.succeeded()).then(|| format!("await: {output}"));
    }
    let patient = matches!(step.mode, Mode::See | Mode::Viewer);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outputs = on_both(sides, |side| side.run(step));
        if step.mode == Mode::Settle {
            let failed = outputs.into_iter().find(|output| !output.succeeded())?;
            return Some(format!("settle: {failed}"));
        }
        let [left, right] = outputs
            .each_ref()
            .map(|output| comparable(ledger, step, output));
        let lines = diff::lines(&left, &right);
        let unlisted = ledger.not_allowed(&step.command, &lines);
        if unlisted.is_empty() || !patient || Instant::now() > deadline {
            ledger.note(&step.command, &lines);
            let report = format!("$ kubectl {}\n{}\n", step.command, unlisted.join("\n"));
            return (!unlisted.is_empty()).then_some(report);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Does the same on both sides at the same time.
fn on_both<T: Send>(sides: [&Side; 2], work: impl Fn(&Side) -> T + Sync) -> [T; 2] {
    let [left, right] = sides;
    thread::scope(|scope| {
        let left = scope.spawn(|| work(left));
        let right = work(right);
        [left.join().unwrap(), right]
    })
}

/// Exit code, output and errors of a command in the form that is compared.
fn comparable(ledger: &Ledger, step: &Step, output: &Output) -> String {
    let stdout = match document(step, output) {
        Some(object) => ledger.object(&object),
        None => output.stdout.clone(),
    };
    let errors: String = output
        .stderr
        .lines()
        .map(|line| format!("stderr: {line}\n"))
        .collect();
    let code = output
        .code
        .map_or("none".to_owned(), |code| code.to_string());
    ledger.text(
        &step.command,
        &format!("exit code: {code}\n{stdout}\n{errors}"),
    )
}

/// The object that a command printed, if it did.
fn document(step: &Step, output: &Output) -> Option<Value> {
    if !output.succeeded() {
        return None;
    }
    if output.stdout.starts_with('{') {
        return serde_json::from_str(&output.stdout).ok();
    }
    let yaml = step.command.contains("-o yaml");
    yaml.then(|| serde_saphyr::from_str(&output.stdout).ok())
        .flatten()
}

/// `kubectl get -w`: the same events, in the same order.
fn watch(ledger: &Ledger, sides: [&Side; 2]) -> Option<String> {
    let texts = on_both(sides, watched);
    let command = "get configmaps -w";
    let [left, right] = texts.map(|text| ledger.text(command, &text));
    let lines = diff::lines(&left, &right);
    let unlisted = ledger.not_allowed(command, &lines);
    ledger.note(command, &lines);
    (!unlisted.is_empty()).then(|| format!("$ kubectl {command}\n{}\n", unlisted.join("\n")))
}

/// What `kubectl get -w` prints while ConfigMaps come, change, leave the selection and go.
fn watched(side: &Side) -> String {
    let run = |args: &[&str]| side.admin.ok(args);
    run(&["create", "namespace", "watched"]);
    let create = |name: &str| {
        run(&[
            "-n",
            "watched",
            "create",
            "configmap",
            name,
            "--from-literal=a=b",
        ]);
        run(&["-n", "watched", "label", "configmap", name, "seen=yes"]);
    };
    create("first");
    let scratch = Scratch::new("watch");
    let log = scratch.join("log");
    let args = [
        "-n",
        "watched",
        "get",
        "configmaps",
        "-w",
        "-l",
        "seen=yes",
        "--output-watch-events",
    ];
    let mut watch = Server::start("kubectl get -w", &mut side.admin.command(&args), &log);
    let read = || std::fs::read_to_string(&log).unwrap();
    let until_lines = |count: usize| {
        until("the next event", seconds(10), || {
            let text = read();
            if text.lines().count() >= count {
                Ok(())
            } else {
                Err(text)
            }
        });
    };
    // The header and what was there before.
    until_lines(2);
    create("second");
    until_lines(3);
    run(&[
        "-n",
        "watched",
        "patch",
        "configmap",
        "second",
        "-p",
        r#"{"data":{"c":"d"}}"#,
    ]);
    until_lines(4);
    run(&["-n", "watched", "label", "configmap", "first", "seen-"]);
    until_lines(5);
    run(&["-n", "watched", "delete", "configmap", "second"]);
    until_lines(6);
    watch.kill();
    run(&["delete", "namespace", "watched", "--timeout=30s"]);
    read()
}

const START: &str = "<!-- The rest is made from tests/e2e/compare/ledger.yaml. -->\n";

#[test]
fn the_document_shows_the_ledger_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/comparison.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, shown) = text
        .split_once(START)
        .expect("the line from which on it is made");
    let wanted = format!("\n{}", Ledger::load().markdown());
    if std::env::var_os("TMC_UPDATE_DOCS").is_some() {
        std::fs::write(&file, format!("{head}{START}{wanted}")).unwrap();
    } else {
        assert!(
            shown == wanted,
            "run this test again with TMC_UPDATE_DOCS=1, and review the change"
        );
    }
}

#[test]
fn a_difference_that_is_not_listed_and_an_entry_without_use_are_found() {
    let ledger = Ledger::load();
    let lines = ["+a line that no ledger will ever have".to_owned()];
    assert_eq!(ledger.not_allowed("get pods", &lines), lines);
    assert!(
        !ledger.unused().is_empty(),
        "nothing was compared, so nothing was of use"
    );
}
