//! The first thing that anybody types.

use crate::support::hub::tmc;
use crate::support::process::{self, Output, Server};
use crate::support::scratch::Scratch;
use crate::support::wait::{seconds, until};

#[test]
fn quickstart_once_shows_two_available_deployments_in_plain_lines() {
    let scratch = Scratch::new("quickstart");
    let mut command = tmc();
    command
        .args(["quickstart", "--once"])
        .env("TMPDIR", scratch.path())
        .env("HOME", scratch.path());
    let output = process::run(&mut command, b"", seconds(90));
    assert!(output.succeeded(), "{output}");
    for text in [&output.stdout, &output.stderr] {
        assert!(
            !text.contains(['\u{1b}', '\r']),
            "a pipe gets plain lines: {text:?}"
        );
    }
    shows_both_available(&output);
    for step in ["register", "place", "sync", "ready"] {
        let count = output
            .stderr
            .lines()
            .filter(|l| l.split_whitespace().any(|w| w == step))
            .count();
        assert!(count >= 2, "one line of {step} a cluster: {output}");
    }
    assert_eq!(
        left_in(&scratch),
        Vec::<String>::new(),
        "its data goes with it"
    );
}

#[test]
fn ctrl_c_ends_quickstart_and_removes_its_data() {
    let scratch = Scratch::new("interrupt");
    let logs = Scratch::new("interrupt-log");
    let log = logs.join("log");
    let mut command = tmc();
    command
        .arg("quickstart")
        .env("TMPDIR", scratch.path())
        .env("HOME", scratch.path());
    let mut server = Server::start("tmc quickstart", &mut command, &log);
    until("the three commands to try next", seconds(60), || {
        let text = std::fs::read_to_string(&log).unwrap();
        if let Some(ended) = server.ended() {
            panic!("{ended}");
        }
        if text.matches("kubectl").count() >= 2 {
            Ok(())
        } else {
            Err(text)
        }
    });
    server.signal(rustix::process::Signal::INT);
    let code = server.wait(seconds(20));
    assert!(
        matches!(code, Some(0 | 130)),
        "{code:?}: {}",
        server.log_tail()
    );
    assert_eq!(left_in(&scratch), Vec::<String>::new());
}

#[test]
fn ctrl_c_before_it_is_ready_leaves_nothing_either() {
    let scratch = Scratch::new("early");
    let logs = Scratch::new("early-log");
    let mut command = tmc();
    command
        .arg("quickstart")
        .env("TMPDIR", scratch.path())
        .env("HOME", scratch.path());
    let mut server = Server::start("tmc quickstart", &mut command, &logs.join("log"));
    until("its directory is there", seconds(30), || {
        if left_in(&scratch).is_empty() {
            Err("not yet".to_owned())
        } else {
            Ok(())
        }
    });
    server.signal(rustix::process::Signal::INT);
    let code = server.wait(seconds(20));
    assert!(
        matches!(code, Some(0 | 130)),
        "{code:?}: {}",
        server.log_tail()
    );
    assert_eq!(left_in(&scratch), Vec::<String>::new());
}

#[test]
fn quickstart_once_that_is_interrupted_is_a_failure() {
    let scratch = Scratch::new("once");
    let logs = Scratch::new("once-log");
    let mut command = tmc();
    command
        .args(["quickstart", "--once"])
        .env("TMPDIR", scratch.path())
        .env("HOME", scratch.path());
    let mut server = Server::start("tmc quickstart", &mut command, &logs.join("log"));
    until("its directory is there", seconds(30), || {
        if left_in(&scratch).is_empty() {
            Err("not yet".to_owned())
        } else {
            Ok(())
        }
    });
    server.signal(rustix::process::Signal::INT);
    let code = server.wait(seconds(20));
    let log = server.log_tail();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("error: stopped before"), "{log}");
}

#[test]
fn a_wrong_flag_is_a_usage_error_that_names_it() {
    let wrong: [(&[&str], &str); 9] = [
        (&["quickstart", "--clusters", "0"], "--clusters"),
        (&["quickstart", "--clusters", "many"], "--clusters"),
        (&["quickstart", "--onc"], "--onc"),
        (&["start", "--listen", "nowhere"], "--listen"),
        (&["start", "--store", "etcd"], "--store"),
        (&["cluster", "register", "east"], "--member-kubeconfig"),
        (&["frobnicate"], "frobnicate"),
        (&["explain", "web"], "KIND/NAME"),
        (&["start", "--external-url", "foo"], "--external-url"),
    ];
    for (args, named) in wrong {
        let output = process::run(tmc().args(args), b"", seconds(10));
        assert_eq!(output.stdout, "", "{args:?}");
        let message = output.fails_with(2);
        assert!(message.contains(named), "{args:?}: {message}");
    }
}

/// The table says that the samples of both clusters are available.
pub(crate) fn shows_both_available(output: &Output) {
    for cluster in ["cluster-1", "cluster-2"] {
        let row = output.stdout.lines().find(|line| line.contains(cluster));
        let row = row.unwrap_or_else(|| panic!("no row of {cluster}: {output}"));
        let words: Vec<&str> = row.split_whitespace().collect();
        assert!(words.contains(&"2/2") && words.contains(&"True"), "{row}");
    }
}

/// Names of what is in a directory.
fn left_in(scratch: &Scratch) -> Vec<String> {
    let entries = std::fs::read_dir(scratch.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}
