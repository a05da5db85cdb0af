//! What `tmc start` does with a port or a data directory it cannot use, and what it keeps when it is
//! killed.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use http::Method;
use serde_json::json;

use crate::support::http::{Api, Content};
use crate::support::hub::{Hub, tmc};
use crate::support::ports;
use crate::support::process;
use crate::support::scratch::Scratch;
use crate::support::wait::{seconds, until};

/// `tmc start` on a directory, with a port that is free.
fn start(directory: &Path) -> Command {
    let mut command = tmc();
    command.arg("start").arg("--data-dir").arg(directory);
    command.args(["--listen", &format!("127.0.0.1:{}", ports::free())]);
    command
}

/// Runs a start that must fail with one sentence holding `words`.
#[track_caller]
fn refuses(command: &mut Command, words: &[&str]) {
    let output = process::run(command, b"", seconds(20));
    assert_eq!(output.stdout, "", "{output}");
    let message = output.fails_with(1);
    assert_eq!(
        message.trim_end().lines().count(),
        1,
        "one sentence: {message}"
    );
    for word in words {
        assert!(message.contains(word), "names {word}: {message}");
    }
}

/// Every file below a directory with its content.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            files.insert(name, Vec::new());
            files.extend(content(&path));
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

/// A data directory of a hub that was used and stopped.
fn used_directory() -> Hub {
    let mut hub = Hub::start();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}});
    hub.api()
        .post("/clusters/root/api/v1/namespaces/default/configmaps", &map)
        .expect(&[201]);
    assert_eq!(hub.stop(), Some(0));
    hub
}

#[test]
fn a_port_in_use_is_named_and_the_data_stays_as_it_is() {
    let hub = used_directory();
    let before = content(&hub.data_directory());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = tmc();
    command
        .arg("start")
        .arg("--data-dir")
        .arg(hub.data_directory())
        .args(["--listen", &address]);
    refuses(&mut command, &[&address, "in use", "--listen"]);
    assert!(
        content(&hub.data_directory()) == before,
        "the data directory has changed"
    );
}

#[test]
fn an_unwritable_data_directory_is_named() {
    let scratch = Scratch::new("unwritable");
    let file = scratch.write("file", "not a directory");
    let below = file.join("data");
    refuses(&mut start(&below), &[below.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a directory");
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt as _;
        let locked = scratch.join("locked");
        std::fs::create_dir(&locked).unwrap();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
        refuses(&mut start(&locked), &[locked.to_str().unwrap(), "written"]);
    }
}

#[test]
fn a_foreign_data_directory_is_left_alone() {
    let scratch = Scratch::new("foreign");
    scratch.write("letter.txt", "dear reader");
    let before = content(scratch.path());
    refuses(
        &mut start(scratch.path()),
        &[scratch.path().to_str().unwrap(), "not a data directory"],
    );
    assert_eq!(content(scratch.path()), before);
}

#[test]
fn a_data_directory_of_a_newer_format_is_left_alone() {
    let hub = used_directory();
    let file = hub.data_directory().join("format");
    let format = std::fs::read_to_string(&file).unwrap();
    let newer: String = format
        .chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect();
    assert_ne!(newer, format, "it has a number: {format}");
    std::fs::write(&file, newer).unwrap();
    let before = content(&hub.data_directory());
    refuses(
        &mut start(&hub.data_directory()),
        &[hub.data_directory().to_str().unwrap(), "format 9", "newer"],
    );
    assert!(
        content(&hub.data_directory()) == before,
        "the data directory has changed"
    );
}

#[test]
fn a_second_start_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let hub = Hub::start();
    let words = [
        hub.data_directory().display().to_string(),
        "in use".to_owned(),
    ];
    refuses(
        &mut start(&hub.data_directory()),
        &words.each_ref().map(String::as_str),
    );
    hub.api().get("/readyz").expect(&[200]);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "after"}});
    hub.api()
        .post("/clusters/root/api/v1/namespaces/default/configmaps", &map)
        .expect(&[201]);
}

#[test]
fn the_data_directory_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let hub = Hub::start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&hub.data_directory()), 0o700);
    for entry in std::fs::read_dir(hub.data_directory()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn every_acknowledged_write_survives_kill_9() {
    let mut hub = Hub::start();
    let collection = "/clusters/root/api/v1/namespaces/default/configmaps";
    let mut expected = BTreeMap::new();
    for round in 0..5_usize {
        let acknowledged = write_until_killed(&mut hub, collection, round);
        assert!(
            acknowledged.len() >= 10,
            "few objects before the kill: {}",
            acknowledged.len()
        );
        expected.extend(acknowledged);
        hub.restart();
        let list = hub.api().get(collection).expect(&[200]).json();
        let found: BTreeMap<&str, &str> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|map| {
                Some((
                    map["metadata"]["name"].as_str()?,
                    map["data"]["n"].as_str()?,
                ))
            })
            .collect();
        for (name, value) in &expected {
            let kept: Option<u64> = found.get(name.as_str()).and_then(|text| text.parse().ok());
            // What was sent and not answered may be there, too: never less than what was answered.
            assert!(
                kept >= Some(*value),
                "{name}: {kept:?} after {value} was acknowledged"
            );
        }
    }
}

/// Writes from four clients until the hub is killed in the middle: the last acknowledged value a name.
fn write_until_killed(hub: &mut Hub, collection: &str, round: usize) -> BTreeMap<String, u64> {
    let api = hub.api();
    let acknowledged = Mutex::new(BTreeMap::new());
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (api, acknowledged, count) = (api.clone(), &acknowledged, &count);
            scope.spawn(move || {
                for number in 0_u64.. {
                    let name = format!("r{round}-w{writer}-{}", number / 5);
                    let value = number % 5;
                    if !write(&api, collection, &name, value) {
                        return;
                    }
                    acknowledged.lock().unwrap().insert(name, value);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // A different place in the stream of writes each round.
        let enough = 50 + 23 * round;
        until("enough writes", seconds(30), || {
            let done = count.load(Ordering::Relaxed);
            if done >= enough {
                Ok(())
            } else {
                Err(format!("{done} writes"))
            }
        });
        hub.kill();
    });
    acknowledged.into_inner().unwrap()
}

/// Whether a write was acknowledged: value 0 creates, the others update.
fn write(api: &Api, collection: &str, name: &str, value: u64) -> bool {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name}, "data": {"n": value.to_string()}});
    let answer = if value == 0 {
        api.try_send(&Method::POST, collection, Some(Content::json(&body)))
    } else {
        let path = format!("{collection}/{name}");
        let content = Content::raw("application/merge-patch+json", body.to_string());
        api.try_send(&Method::PATCH, &path, Some(content))
    };
    answer.is_ok_and(|answer| matches!(answer.code, 200 | 201))
}
