//! `store`: the store alone.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use clap::ValueEnum as _;
use serde_json::json;
use tmc_store::engine::{Engine, Memory, Redb};
use tmc_store::{Expect, Mutation, Options, Store};
use tokio::task::JoinSet;

use crate::OutputArgs;
use crate::report::{Measured, Report, Topic, machine};
use crate::stats::Samples;

/// Bytes of a value.
const VALUE: usize = 1024;

/// Flags of `store`.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Seconds of each commit row
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,
    /// Objects of the row about reopening
    #[arg(long, default_value_t = 60_000, value_name = "N")]
    objects: usize,
    /// Watchers of the fan-out row
    #[arg(long, default_value_t = 1000, value_name = "N")]
    watchers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Memory,
    Redb,
}

impl Kind {
    fn open(self, directory: &Path) -> Result<Store<()>> {
        let engine: Box<dyn Engine> = match self {
            Self::Memory => Box::new(Memory::default()),
            Self::Redb => Box::new(Redb::open(directory.join("store.redb"))?),
        };
        Ok(Store::open(engine, |_, _| (), Options::default())?)
    }
}

const COMMITS: [(usize, [&str; 2]); 4] = [
    (
        1,
        ["memory: commits, 1 submitter", "redb: commits, 1 submitter"],
    ),
    (
        8,
        [
            "memory: commits, 8 submitters",
            "redb: commits, 8 submitters",
        ],
    ),
    (
        64,
        [
            "memory: commits, 64 submitters",
            "redb: commits, 64 submitters",
        ],
    ),
    (
        256,
        [
            "memory: commits, 256 submitters",
            "redb: commits, 256 submitters",
        ],
    ),
];
const COMMIT_METHOD: &str = "closed loop: each submitter creates a key with 1 KiB, waits until it \
                             is durable, and goes on; rate, and p50 / p99 of one commit";
const REOPEN: Topic = Topic {
    name: "redb: reopen",
    target: "",
    reference: "",
    method: "closed with all objects of 1 KiB in it; from opening the file until reads are answered",
};
const FAN_OUT: [&str; 2] = [
    "memory: fan-out to all watchers",
    "redb: fan-out to all watchers",
];
const FAN_OUT_METHOD: &str = "200 commits, each when the one before has reached every watcher of \
                              its resource; from the call until the last watcher has it";

/// Runs it.
///
/// # Errors
/// When the numbers cannot be written; rows that fail say so themselves.
pub(crate) async fn run(args: &StoreArgs) -> Result<ExitCode> {
    let title = format!("bench store: {}", machine());
    let mut report = Report::default();
    for kind in Kind::value_variants() {
        for (submitters, names) in COMMITS {
            let topic = Topic {
                name: names[*kind as usize],
                method: COMMIT_METHOD,
                ..Topic::default()
            };
            let length = Duration::from_secs_f64(args.seconds);
            report.add(topic, commits(*kind, submitters, length).await);
        }
    }
    report.add(REOPEN, reopen(args.objects).await);
    for kind in Kind::value_variants() {
        let topic = Topic {
            name: FAN_OUT[*kind as usize],
            method: FAN_OUT_METHOD,
            ..Topic::default()
        };
        report.add(topic, fan_out(*kind, args.watchers).await);
    }
    report.finish(&title, &args.output)
}

fn create(key: String, value: Bytes) -> Mutation<()> {
    Mutation {
        key: key.into(),
        expect: Expect::Absent,
        encode: Box::new(move |_| (value, ())),
        delete: false,
    }
}

async fn commit(store: &Store<()>, key: String, value: &Bytes) -> Result<()> {
    let done = store.commit(create(key, value.clone())).await;
    done.map(drop).map_err(|error| anyhow!("{error}"))
}

async fn commits(kind: Kind, submitters: usize, length: Duration) -> Result<Measured> {
    let directory = tempfile::tempdir()?;
    let store = kind.open(directory.path())?;
    let value = Bytes::from(vec![b'x'; VALUE]);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for submitter in 0..submitters {
        let (store, value) = (store.clone(), value.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < length {
                let begun = Instant::now();
                let key = format!("core/configmaps/c/{submitter}/{}", times.len());
                commit(&store, key, &value).await?;
                times.push(begun.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    let took = start.elapsed();
    store.close().await;
    let samples = Samples::new(times);
    let rate = samples.len() as f64 / took.as_secs_f64();
    let (p50, p99) = (samples.ms(50.0), samples.ms(99.0));
    Ok(Measured {
        shown: format!("{rate:.0}/s, {p50:.3} / {p99:.3} ms"),
        reached: None,
        raw: json!({"commits": samples.len(), "seconds": took.as_secs_f64(), "rate": rate,
            "p50_ms": p50, "p99_ms": p99, "max_ms": samples.ms(100.0)}),
    })
}

async fn reopen(objects: usize) -> Result<Measured> {
    const SUBMITTERS: usize = 256;
    let directory = tempfile::tempdir()?;
    let store = Kind::Redb.open(directory.path())?;
    let value = Bytes::from(vec![b'x'; VALUE]);
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..SUBMITTERS {
        let (store, value, next) = (store.clone(), value.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= objects {
                    return anyhow::Ok(());
                }
                commit(
                    &store,
                    format!("core/configmaps/c/default/{number}"),
                    &value,
                )
                .await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    store.close().await;
    drop(store);
    let start = Instant::now();
    let store = Kind::Redb.open(directory.path())?;
    let found = store.count("core/configmaps/");
    let took = start.elapsed();
    anyhow::ensure!(found == objects, "{found} of {objects} objects are there");
    store.close().await;
    Ok(Measured {
        shown: format!("{:.0} ms, {objects} objects", took.as_secs_f64() * 1000.0),
        reached: None,
        raw: json!({"objects": objects, "seconds": took.as_secs_f64()}),
    })
}

async fn fan_out(kind: Kind, watchers: usize) -> Result<Measured> {
    const EVENTS: usize = 200;
    let directory = tempfile::tempdir()?;
    let store = kind.open(directory.path())?;
    let value = Bytes::from(vec![b'x'; VALUE]);
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..watchers {
        let mut watcher = store.watch("core/configmaps/", store.revision())?;
        let arrived = arrived.clone();
        tasks.spawn(async move {
            while let Ok(events) = watcher.next().await {
                let now = Instant::now();
                if events.iter().any(|_| arrived.send(now).is_err()) {
                    return;
                }
            }
        });
    }
    let mut times = Vec::new();
    for event in 0..EVENTS {
        let begun = Instant::now();
        commit(&store, format!("core/configmaps/c/default/{event}"), &value).await?;
        let mut last = begun;
        for _ in 0..watchers {
            last = last.max(arrivals.recv().await.context("the watchers are gone")?);
        }
        times.push(last - begun);
    }
    tasks.abort_all();
    store.close().await;
    let samples = Samples::new(times);
    let (p50, p99) = (samples.ms(50.0), samples.ms(99.0));
    Ok(Measured {
        shown: format!("{p50:.2} / {p99:.2} ms, {watchers} watchers"),
        reached: None,
        raw: json!({"watchers": watchers, "latency": samples.to_json()}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_of_the_store_can_be_measured() {
        for kind in Kind::value_variants() {
            let row = commits(*kind, 4, Duration::from_millis(50))
                .await
                .expect("commits");
            assert!(row.raw["commits"].as_u64() > Some(0));
            fan_out(*kind, 10).await.expect("fans out");
        }
        assert_eq!(reopen(500).await.expect("reopens").raw["objects"], 500);
    }
}
