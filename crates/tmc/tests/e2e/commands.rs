//! Every command as a person sees it: one that works and one that fails, against a hub and two real
//! clusters, written down as transcripts that a stranger should understand.

pub(crate) mod transcript;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::CommandFactory as _;
use serde_json::{Value, json};

use self::transcript::Transcript;
use crate::support::hub::{Hub, is_true, shared, tmc, until_authorized};
use crate::support::process::{self, Server};
use crate::support::real::{self, Real, needs_real_programs};
use crate::support::scratch::Scratch;
use crate::support::wait::{seconds, until};

const COMPUTE: &str = "root:compute";
/// Nothing on the way between hub and member takes longer.
const SOON: std::time::Duration = seconds(60);

/// A kubeconfig as clusters of providers have them: the CA in a file beside it, the credential from a
/// program that is called. Returns its file.
fn exec_kubeconfig(scratch: &Scratch, name: &str, real: &Real, command: &str) -> PathBuf {
    let inline: Value = serde_json::from_str(real.kubeconfig()).unwrap();
    let (cluster, user) = (
        &inline["clusters"][0]["cluster"],
        &inline["users"][0]["user"],
    );
    let decoded = |value: &Value| {
        let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    scratch.write(
        &format!("{name}.ca"),
        decoded(&cluster["certificate-authority-data"]),
    );
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {
            "clientCertificateData": decoded(&user["client-certificate-data"]),
            "clientKeyData": decoded(&user["client-key-data"]),
        },
    });
    let plugin = format!("#!/bin/sh\ncat <<'END'\n{credential}\nEND\n");
    let file = scratch.write(&format!("{name}-login"), plugin);
    let mut rights = std::fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o700);
    std::fs::set_permissions(&file, rights).unwrap();
    let document = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": cluster["server"], "certificate-authority": format!("{name}.ca"),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": command, "installHint": "install it from your provider's web page",
        }}}],
    });
    scratch.write(&format!("{name}.kubeconfig"), document.to_string())
}

/// A registered cluster is Ready, and its nodes are known.
fn until_ready(hub: &Hub, cluster: &str) {
    until(&format!("{cluster} is Ready"), SOON, || {
        let path = format!(
            "/clusters/{COMPUTE}/apis/workload.kcp.io/v1alpha1/namespaces/default/clusters/{cluster}"
        );
        let cluster = hub.api().get(&path).json();
        if cluster["status"]["resourceSummary"]["nodes"]["ready"] == 1 {
            is_true(&cluster, "Ready")
        } else {
            Err(format!("its nodes are not known: {cluster}"))
        }
    });
}

/// Registers both real clusters as `east` and `west`, each with a Location of its name.
fn register_both(hub: &Hub) {
    for (name, real) in [("east", real::member()), ("west", real::second())] {
        let file = exec_kubeconfig(hub.scratch(), name, real, &format!("./{name}-login"));
        let file = file.display().to_string();
        hub.tmc(
            COMPUTE,
            &["cluster", "register", name, "--member-kubeconfig", &file],
        )
        .ok();
        until_ready(hub, name);
    }
}

#[test]
fn clusters_are_registered_shown_cordoned_and_uncordoned() {
    needs_real_programs!();
    let hub = Hub::start();
    let east = exec_kubeconfig(hub.scratch(), "east", real::member(), "./east-login");
    let lacking = exec_kubeconfig(
        hub.scratch(),
        "lacking",
        real::member(),
        "tmc-no-such-plugin",
    );
    let nobody = real::member().user("nobody");
    let west = real::second().kubeconfig_file();
    let mut said = Transcript::new(&hub, COMPUTE);

    said.comment("A kubeconfig that calls a program of the provider is resolved here.");
    said.run(&[
        "cluster",
        "register",
        "east",
        "--member-kubeconfig",
        &east.display().to_string(),
    ]);
    said.comment("Again is no harm.");
    said.run(&[
        "cluster",
        "register",
        "east",
        "--member-kubeconfig",
        &east.display().to_string(),
    ]);
    said.comment("As it is, into a Location of its own.");
    let west = west.display().to_string();
    said.run(&[
        "cluster",
        "register",
        "west",
        "--raw",
        "--location",
        "west",
        "--member-kubeconfig",
        &west,
    ]);
    said.comment("What can go wrong says what to do.");
    said.run(&[
        "cluster",
        "register",
        "x",
        "--member-kubeconfig",
        &lacking.display().to_string(),
    ]);
    said.run(&[
        "cluster",
        "register",
        "x",
        "--member-kubeconfig",
        &nobody.display().to_string(),
    ]);
    said.run(&[
        "cluster",
        "register",
        "x",
        "--member-kubeconfig",
        "/nowhere",
    ]);
    said.run(&[
        "cluster",
        "register",
        "x",
        "--mode",
        "External",
        "--member-kubeconfig",
        &west,
    ]);
    said.run(&["cluster", "register", "x"]);
    said.comment("What the hub would refuse leaves nothing in the cluster.");
    said.run(&[
        "cluster",
        "register",
        "East_1",
        "--member-kubeconfig",
        &east.display().to_string(),
    ]);

    until_ready(&hub, "east");
    until_ready(&hub, "west");
    said.comment("What there is.");
    said.run(&["cluster", "list"]);
    said.run(&["cluster", "list", "-o", "name"]);
    said.run(&["cluster", "list", "--wide"]);
    said.run_in("root:nowhere", &["cluster", "list"]);
    until_authorized(|| {
        let path = format!("/clusters/{COMPUTE}/apis/workload.kcp.io/v1alpha1/synctargets");
        hub.api().get(&path).json()
    });
    said.run(&["cluster", "describe", "east"]);
    said.run(&["cluster", "describe", "north"]);
    said.run(&["get", "targets"]);
    said.run_in("root:nowhere", &["get", "targets"]);

    said.comment("Nothing new for a while.");
    said.run(&["cordon", "east"]);
    said.run(&["cordon", "east"]);
    said.run(&["get", "targets"]);
    said.run(&["uncordon", "east"]);
    said.run(&["uncordon", "east"]);
    said.run(&["cordon", "north"]);
    said.run(&["uncordon", "north"]);
    said.compare("clusters");
}

#[test]
fn workload_is_explained_and_drained() {
    needs_real_programs!();
    let hub = Hub::start();
    register_both(&hub);
    let shop = hub.workspace("shop");
    let mut said = Transcript::new(&hub, &shop);
    let kubectl = hub.kubectl(&shop);

    said.comment("A Deployment before there is a place for it.");
    kubectl.ok(&[
        "create",
        "deployment",
        "web",
        "--image=nginx",
        "--replicas=2",
    ]);
    said.run(&["explain", "deployment/web"]);
    said.run(&["bind", "compute", COMPUTE, "--timeout", "2"]);
    said.run(&["get", "placements"]);
    said.run_in("root:nowhere", &["get", "placements"]);
    said.run(&["explain", "deploy/web"]);
    said.comment("With permission it is placed, runs and reports back.");
    hub.tmc(
        "root",
        &[
            "workspace",
            "grant",
            COMPUTE,
            "--workspace",
            &shop,
            "--role",
            "use",
        ],
    )
    .ok();
    said.run(&["bind", "compute", COMPUTE]);
    kubectl.ok(&[
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=40s",
    ]);
    said.run(&["get", "placements"]);
    said.run(&["explain", "deployment/web"]);
    said.run(&["explain", "deployment/elsewhere"]);
    said.run(&["explain", "nonsense/web"]);
    said.run(&["explain", "placement/x"]);

    let (first, second) = placed_on(&hub, &shop);
    said.name(&first, "FIRST");
    said.name(&second, "SECOND");
    said.comment("The cluster that has it is emptied: it moves to the other one.");
    said.run_in(COMPUTE, &["drain", &first]);
    until("the Deployment runs on the other cluster", SOON, || {
        let now = placed_on(&hub, &shop);
        if now.0 == second {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
    kubectl.ok(&[
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=40s",
    ]);
    said.run_in(COMPUTE, &["drain", &first]);
    said.comment("The other one has nowhere to go: the last copy is kept.");
    said.run_in(COMPUTE, &["drain", &second, "--timeout", "3"]);
    said.comment("Unless it is given up.");
    said.run_in(COMPUTE, &["drain", &second, "--force"]);
    said.run_in(COMPUTE, &["drain", "north"]);
    said.run_in(COMPUTE, &["uncordon", &first]);
    said.compare("workload");
}

/// The cluster that the only Placement of a workspace has, and the other one.
fn placed_on(hub: &Hub, workspace: &str) -> (String, String) {
    let list = hub
        .kubectl(workspace)
        .json(&["get", "placements.scheduling.kcp.io"]);
    let name = list["items"][0]["status"]["syncTargets"][0]["name"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    if name.starts_with("east-") {
        ("east".to_owned(), "west".to_owned())
    } else {
        ("west".to_owned(), "east".to_owned())
    }
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    needs_real_programs!();
    let mut hub = Hub::start();
    register_both(&hub);
    let shop = hub.workspace("shop");
    let mut said = Transcript::new(&hub, "root");
    said.comment("All is well.");
    said.run(&["doctor"]);
    said.comment("A Placement without a place, and an External target that nobody started.");
    hub.tmc(
        COMPUTE,
        &["cluster", "register", "edge", "--mode", "External"],
    )
    .ok();
    hub.tmc(&shop, &["bind", "compute", COMPUTE, "--timeout", "0"]);
    said.run(&["doctor"]);
    said.run(&["doctor", "-o", "name"]);
    said.compare("doctor");
    hub.stop();
    let mut said = Transcript::new(&hub, "root");
    said.comment("No hub at all.");
    said.run(&["doctor"]);
    said.run(&["get", "targets"]);
    said.compare("doctor-without-a-hub");
}

#[test]
fn clusters_are_unregistered() {
    needs_real_programs!();
    let hub = Hub::start();
    register_both(&hub);
    let mut said = Transcript::new(&hub, COMPUTE);
    said.run(&["cluster", "unregister", "east"]);
    said.run(&["cluster", "unregister", "east"]);
    said.comment("What runs there goes on running.");
    said.run(&["cluster", "unregister", "west", "--keep-workloads"]);
    said.run(&["cluster", "list"]);
    said.compare("unregister");
    until("their credentials go with them", SOON, || {
        let secrets = hub.kubectl(COMPUTE).json(&["get", "secrets"]);
        let items = secrets["items"].as_array().unwrap().iter();
        match items
            .filter(|secret| secret["type"] == "tmc.kcp.io/kubeconfig")
            .count()
        {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    });
}

#[test]
fn a_syncer_is_rendered_for_a_cluster_that_the_hub_has_no_credential_of() {
    needs_real_programs!();
    let hub = Hub::start();
    let mut said = Transcript::new(&hub, COMPUTE);
    said.run(&["cluster", "register", "edge", "--mode", "External"]);
    said.run(&["cluster", "register", "edge", "--mode", "external"]);
    said.comment("While the hub is on this machine only, so is the syncer.");
    said.run(&["sync", "edge"]);
    said.run(&["sync", "nowhere"]);
    said.run(&["sync", "edge", "-o"]);
    said.compare("external");
}

#[test]
fn a_rendered_syncer_works_in_its_cluster_with_the_rights_it_is_given() {
    needs_real_programs!();
    const ELSEWHERE: &str = "https://hub.example.org:6443";
    let hub = Hub::start_as(ELSEWHERE);
    let member = real::second();
    hub.tmc(
        COMPUTE,
        &["cluster", "register", "edge", "--mode", "External"],
    )
    .ok();
    let file = hub.scratch().join("syncer.yaml").display().to_string();
    let mut said = Transcript::new(&hub, COMPUTE);
    said.run(&["sync", "edge", "-o", &file]);
    let rights = std::fs::metadata(&file).unwrap().permissions();
    let mode = std::os::unix::fs::PermissionsExt::mode(&rights);
    assert_eq!(mode & 0o777, 0o600, "it holds a credential");
    let applied = member.kubectl().ok(&["apply", "-f", &file]);
    said.output("kubectl apply -f DIR/syncer.yaml", &applied);
    said.comment("Again is no harm.");
    said.run(&["sync", "edge", "-o", &file]);
    let again = hub.tmc(COMPUTE, &["sync", "edge"]);
    assert!(again.stdout.starts_with("apiVersion: v1\n"), "{again}");
    said.compare("sync");

    // The pod of the Deployment does not really run here: this process stands for it, with the
    // Secret that is mounted there and the account that it runs as.
    let secret = member.kubectl().json(&[
        "get",
        "secrets",
        "-A",
        "-l",
        "app.kubernetes.io/name=tmc-syncer",
    ]);
    let secret = &secret["items"][0];
    let (namespace, account) = (
        &secret["metadata"]["namespace"],
        &secret["metadata"]["name"],
    );
    let (namespace, account) = (namespace.as_str().unwrap(), account.as_str().unwrap());
    let bytes = STANDARD
        .decode(secret["data"]["hub.kubeconfig"].as_str().unwrap())
        .unwrap();
    let to_hub = String::from_utf8(bytes).unwrap();
    assert!(to_hub.contains(ELSEWHERE), "{to_hub}");
    let to_hub = hub
        .scratch()
        .write("hub.kubeconfig", to_hub.replace(ELSEWHERE, &hub.url()));
    let token = member
        .kubectl()
        .ok(&["-n", namespace, "create", "token", account]);
    let mut in_member: Value = serde_json::from_str(member.kubeconfig()).unwrap();
    in_member["users"][0]["user"] = json!({"token": token.trim()});
    let in_member = hub
        .scratch()
        .write("member.kubeconfig", in_member.to_string());
    let target = hub.kubectl(COMPUTE).json(&["get", "synctarget", "edge"]);
    let mut command = tmc();
    command
        .arg("syncer")
        .arg("--from-kubeconfig")
        .arg(to_hub)
        .arg("--to-kubeconfig")
        .arg(in_member);
    let uid = target["metadata"]["uid"].as_str().unwrap();
    command.args(["--sync-target-name", "edge", "--sync-target-uid", uid]);
    let mut syncer = Server::start(
        "tmc syncer",
        &mut command,
        &hub.scratch().join("syncer.log"),
    );
    until("the SyncTarget is Ready", SOON, || {
        if let Some(ended) = syncer.ended() {
            panic!("{ended}");
        }
        is_true(
            &hub.kubectl(COMPUTE).json(&["get", "synctarget", "edge"]),
            "Ready",
        )
    });
    let kubectl = hub.kubectl(COMPUTE);
    hub.tmc(COMPUTE, &["bind", "compute"]).ok();
    kubectl.ok(&["create", "deployment", "web", "--image=nginx"]);
    kubectl.ok(&[
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=40s",
    ]);
    kubectl.ok(&["delete", "deployment", "web", "--timeout=30s"]);
    member
        .kubectl()
        .ok(&["delete", "-f", &file, "--wait=false"]);
}

#[test]
fn the_same_program_is_a_plugin_of_kubectl() {
    needs_real_programs!();
    let hub = Hub::start();
    let bin = hub.scratch().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tmc"), bin.join("kubectl-tmc")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let kubectl = hub
        .kubectl_with(&hub.kubeconfig_file(), "root")
        .with_env("PATH", &path);
    let run = |args: &[&str]| {
        let mut command = kubectl.command(&[]);
        // `--server` is kubectl's own: a plugin's flags come after its name.
        let program = command.get_program().to_owned();
        command = std::process::Command::new(program);
        command
            .env("PATH", &path)
            .env("KUBECONFIG", hub.kubeconfig_file())
            .arg("tmc")
            .args(args);
        process::run(&mut command, b"", seconds(30))
    };
    assert_eq!(run(&["get", "targets", "-o", "name"]).ok().trim(), "");
    let usage = run(&["get", "nonsense"]).fails_with(2);
    assert!(usage.contains("Usage: kubectl tmc get"), "{usage}");
}

#[test]
fn a_shell_completes_every_command_from_the_script_that_it_gets() {
    let hub = shared();
    let script = hub.tmc("root", &["completion", "bash"]).ok();
    let mut said = Transcript::new(hub, "root");
    said.comment("What bash offers for the last word, once it has read `tmc completion bash`.");
    for typed in ["tmc c", "tmc cluster ", "tmc cluster register --mode "] {
        let words: Vec<String> = offered(&script, typed)
            .into_iter()
            .filter(|word| !word.starts_with('-'))
            .collect();
        said.output(&format!("{typed}<TAB>"), &(words.join("\n") + "\n"));
    }
    said.comment("A shell that is not known.");
    said.run(&["completion", "tcsh"]);
    said.compare("completion");

    let mut tmc = ::tmc::cli::Cli::command();
    tmc.build();
    for (line, commands) in groups(&tmc, "tmc ") {
        let offered = offered(&script, &line);
        for command in commands {
            assert!(offered.contains(&command), "{line}{command}: {offered:?}");
        }
    }
}

/// What bash offers with a completion script for the last word of a line, sorted.
fn offered(script: &str, line: &str) -> Vec<String> {
    const ASK: &str = r#"
        source /dev/stdin
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        complete -p tmc | grep -q -- "-F _tmc" || exit 1
        _tmc "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", ASK, "bash"]).args(line.split(' '));
    let said = process::run(&mut bash, script.as_bytes(), seconds(10)).ok();
    let mut words: Vec<String> = said.lines().map(str::to_owned).collect();
    words.sort();
    words
}

/// Each command that has others below it, as a line to complete, with the names of those.
fn groups(command: &clap::Command, line: &str) -> Vec<(String, Vec<String>)> {
    let below: Vec<&clap::Command> = command.get_subcommands().collect();
    let deeper = below
        .iter()
        .filter(|command| command.get_name() != "help")
        .flat_map(|command| groups(command, &format!("{line}{} ", command.get_name())));
    let names = below.iter().map(|command| command.get_name().to_owned());
    let own = Some((line.to_owned(), names.collect())).filter(|_| !below.is_empty());
    own.into_iter().chain(deeper).collect()
}
