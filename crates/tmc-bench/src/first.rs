//! `first`: from a cold start to status in the hub, against a simulated and the real member.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::flow;
use crate::hub::OwnHub;
use crate::in_tls::InTls;
use crate::member::Cluster;
use crate::pacing::Pace;
use crate::process::{self, Memory, Process};
use crate::real::{Programs, Real};
use crate::report::{Measured, Report, Topic, machine};
use crate::rig::Rig;
use crate::stats::{Samples, millis};
use crate::{OutputArgs, topics};

/// How long a program is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(5);
/// Bytes of data in each object of the syncer's memory row.
const OBJECT_BYTES: usize = 1024;

/// Flags of `first`.
#[derive(Debug, clap::Args)]
pub(crate) struct FirstArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    only: Vec<Part>,
    /// Leave out kube-apiserver and etcd
    #[arg(long)]
    no_real: bool,
    /// Starts of the hub
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    starts: u16,
    /// Objects, and status changes, of the latency rows
    #[arg(long, default_value_t = 300, value_name = "N")]
    count: usize,
    /// Objects, and status changes, offered a second
    #[arg(long, default_value_t = 50.0, value_name = "N")]
    rate: f64,
    /// Objects of the burst
    #[arg(long, default_value_t = 2000, value_name = "N")]
    burst: usize,
    /// Objects of the syncer's memory row
    #[arg(long, default_value_t = 2650, value_name = "N")]
    objects: usize,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Cold start and idle memory
    Start,
    /// `quickstart --once`
    Quickstart,
    /// Hub to member
    Latency,
    /// Member to hub
    Status,
    /// Many objects at once
    Burst,
    /// Memory of the syncer
    Syncer,
}

impl FirstArgs {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn pace(&self) -> Pace {
        Pace {
            count: self.count,
            rate: self.rate,
        }
    }
}

/// Runs it.
///
/// # Errors
/// When the numbers cannot be written; rows that fail say so themselves.
pub(crate) async fn run(args: &FirstArgs) -> Result<ExitCode> {
    let title = format!("bench first: {}", machine());
    eprintln!("{title}");
    let programs = if args.no_real {
        Err("not wanted (--no-real)".to_owned())
    } else {
        Programs::find()
    };
    let mut report = Report::default();
    if args.wants(Part::Start) {
        own_start(args, &mut report).await;
    }
    let real = reference_start(args, &programs, &mut report).await;
    if args.wants(Part::Quickstart) {
        report.add(topics::QUICKSTART, quickstart());
    }
    against(
        args,
        &topics::SIMULATED,
        Cluster::simulated().await,
        &mut report,
    )
    .await;
    match (real, &programs) {
        (Some(real), _) => {
            against(
                args,
                &topics::REAL,
                real.and_then(Cluster::real),
                &mut report,
            )
            .await;
        }
        (None, Err(why)) => {
            for (part, topic) in parts(&topics::REAL) {
                if args.wants(part) {
                    report.skip(topic, why);
                }
            }
        }
        (None, Ok(_)) => {}
    }
    report.finish(&title, &args.output)
}

fn parts(topics: &topics::Against) -> [(Part, Topic); 4] {
    [
        (Part::Latency, topics.latency),
        (Part::Status, topics.status),
        (Part::Burst, topics.burst),
        (Part::Syncer, topics.syncer),
    ]
}

/// Cold starts of the hub, the last of which is left alone and then looked at.
async fn own_start(args: &FirstArgs, report: &mut Report) {
    let mut times = Vec::new();
    let mut memory = Err(anyhow::anyhow!("the hub did not start"));
    for number in 1..=args.starts {
        match OwnHub::start().await {
            Ok(mut hub) => {
                times.push(hub.started_in);
                if number == args.starts {
                    tokio::time::sleep(SETTLE).await;
                    memory = hub.memory();
                }
            }
            Err(error) => {
                report.add(topics::COLD_START, Err(error));
                return;
            }
        }
    }
    let samples = Samples::new(times);
    let measured = Measured {
        shown: format!("{:.0} ms (median of {})", samples.ms(50.0), samples.len()),
        reached: Some(samples.percentile(50.0) <= Duration::from_millis(100)),
        raw: samples.to_json(),
    };
    report.add(topics::COLD_START, Ok(measured));
    let measured = memory.map(|memory| Measured {
        shown: memory.shown(),
        reached: Some(memory.mb() <= 25.0),
        raw: memory.to_json(),
    });
    report.add(topics::IDLE_MEMORY, measured);
}

/// Starts of kube-apiserver with etcd, beside; the last goes on as the real member.
async fn reference_start(
    args: &FirstArgs,
    programs: &Result<Programs, String>,
    report: &mut Report,
) -> Option<Result<Real>> {
    const STARTS: usize = 3;
    let against = parts(&topics::REAL)
        .iter()
        .any(|(part, _)| args.wants(*part));
    let starts = args.wants(Part::Start);
    let programs = match programs {
        Ok(programs) => programs,
        Err(why) => {
            if starts {
                report.skip(topics::REFERENCE_START, why);
                report.skip(topics::REFERENCE_MEMORY, why);
            }
            return None;
        }
    };
    if !starts {
        return if against {
            Some(Real::start(programs).await)
        } else {
            None
        };
    }
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..STARTS {
        // Only one at a time.
        drop(last.take());
        match Real::start(programs).await {
            Ok(real) => {
                times.push(real.started_in());
                last = Some(real);
            }
            Err(error) => {
                report.add(topics::REFERENCE_START, Err(error));
                return against.then(|| Err(anyhow::anyhow!("it did not start, see above")));
            }
        }
    }
    let samples = Samples::new(times);
    let measured = Measured {
        shown: format!("{:.0} ms (median of {STARTS})", samples.ms(50.0)),
        reached: None,
        raw: samples.to_json(),
    };
    report.add(topics::REFERENCE_START, Ok(measured));
    let mut real = last?;
    tokio::time::sleep(SETTLE).await;
    report.add(
        topics::REFERENCE_MEMORY,
        real.memory().map(|both| reference_memory(&both)),
    );
    Some(Ok(real))
}

fn reference_memory(both: &[Memory]) -> Measured {
    let total: f64 = both.iter().map(|memory| memory.mb()).sum();
    let parts: Vec<String> = both
        .iter()
        .map(|memory| format!("{:.0}", memory.mb()))
        .collect();
    Measured {
        shown: format!("{total:.0} MB ({})", parts.join(" + ")),
        reached: None,
        raw: both.iter().map(|memory| memory.to_json()).collect(),
    }
}

/// `tmc quickstart --once` from start to exit.
fn quickstart() -> Result<Measured> {
    const RUNS: usize = 5;
    let tmc = process::beside("tmc")
        .context("tmc is not built beside this program: run `cargo build --release -p tmc`")?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let output = Command::new(&tmc)
            .args(["quickstart", "--once"])
            .stdin(Stdio::null())
            .output()?;
        times.push(start.elapsed());
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", output.status);
    }
    let samples = Samples::new(times);
    Ok(Measured {
        shown: format!(
            "{:.2} s (median of {RUNS})",
            samples.percentile(50.0).as_secs_f64()
        ),
        reached: Some(samples.percentile(50.0) <= Duration::from_secs(3)),
        raw: samples.to_json(),
    })
}

/// The rows that need a member.
async fn against(
    args: &FirstArgs,
    topics: &topics::Against,
    member: Result<Cluster>,
    report: &mut Report,
) {
    let wanted: Vec<_> = parts(topics)
        .into_iter()
        .filter(|(part, _)| args.wants(*part))
        .collect();
    let Some((_, first)) = wanted.first() else {
        return;
    };
    let member = match member {
        Ok(member) => member,
        Err(error) => return report.add(*first, Err(error.context("no member"))),
    };
    if wanted.iter().any(|(part, _)| *part != Part::Syncer)
        && let Err(error) = flows(args, topics, &member, report).await
    {
        report.add(*first, Err(error.context("no hub with this member")));
    }
    if args.wants(Part::Syncer) {
        report.add(topics.syncer, syncer(args, topics, &member).await);
    }
}

/// Latencies and burst through a Hosted syncer.
async fn flows(
    args: &FirstArgs,
    topics: &topics::Against,
    member: &Cluster,
    report: &mut Report,
) -> Result<()> {
    let rig = Rig::start().await?;
    let hub = rig.hosted("hosted", &member.kubeconfig()).await?;
    if args.wants(Part::Latency) {
        let propagation = flow::propagation(&hub, member, args.pace()).await;
        report.add(
            topics.latency,
            propagation.map(|p| stages(&p, topics.latency_ms)),
        );
        let alone = flow::member_alone(member, args.pace()).await;
        report.add(
            topics.alone,
            alone.map(|s| Measured {
                reached: None,
                ..latency(&s, (0.0, 0.0))
            }),
        );
    }
    if args.wants(Part::Status) {
        let back = flow::status_back(&hub, member, args.pace()).await;
        report.add(
            topics.status,
            back.map(|back| status(&back, topics.status_ms)),
        );
    }
    if args.wants(Part::Burst) {
        let burst = flow::burst(&hub, member, ("burst", args.burst, 64)).await;
        let measured = burst.map(|burst| Measured {
            shown: format!("{:.0}/s ({} objects)", burst.rate(), burst.objects),
            reached: Some(burst.rate() >= topics.burst_rate),
            raw: json!({
                "objects": burst.objects, "accepted_s": burst.accepted.as_secs_f64(),
                "arrived_s": burst.arrived.as_secs_f64(), "rate": burst.rate(),
            }),
        });
        report.add(topics.burst, measured);
    }
    rig.stop().await
}

fn latency(samples: &Samples, (p50, p99): (f64, f64)) -> Measured {
    Measured {
        shown: format!("{:.1} / {:.1} ms", samples.ms(50.0), samples.ms(99.0)),
        reached: Some(samples.ms(50.0) <= p50 && samples.ms(99.0) <= p99),
        raw: samples.to_json(),
    }
}

/// The latency to the member, with when each step before was done in the raw numbers.
fn stages(propagation: &flow::Propagation, target: (f64, f64)) -> Measured {
    let mut measured = latency(&propagation.arrived, target);
    let names = ["shown_on_hub", "labelled_on_hub", "held_on_hub"];
    for (name, samples) in names.into_iter().zip(&propagation.on_hub) {
        measured.raw["until"][name] =
            json!({"p50_ms": samples.ms(50.0), "p99_ms": samples.ms(99.0)});
    }
    measured
}

/// The latency of a status, with the part that is not the member's in the raw numbers.
fn status(back: &flow::StatusBack, target: (f64, f64)) -> Measured {
    let mut measured = latency(&back.from_write, target);
    measured.raw["from_member_watch"] = back.from_watch.to_json();
    let without = back.from_watch.ms(50.0);
    measured.shown = format!("{} ({without:.1} from the member's watch)", measured.shown);
    measured
}

/// A syncer as a process: idle, then with objects.
async fn syncer(args: &FirstArgs, topics: &topics::Against, member: &Cluster) -> Result<Measured> {
    let directory = tempfile::Builder::new()
        .prefix("tmc-bench-syncer-")
        .tempdir()?;
    let rig = Rig::start().await?;
    let target = rig.external("external").await?;
    let served = match member {
        Cluster::Simulated(_) => Some(InTls::serve(member.connection().clone()).await?),
        Cluster::Real { .. } => None,
    };
    let below = match (&served, member) {
        (Some(served), _) => served.kubeconfig.clone(),
        (None, Cluster::Real { real, .. }) => real.kubeconfig().to_owned(),
        (None, Cluster::Simulated(_)) => anyhow::bail!("a simulated member is always served"),
    };
    let write = |name: &str, text: &str| -> Result<std::path::PathBuf> {
        let file = directory.path().join(name);
        tmc::kubeconfig::write_private(&file, text)?;
        Ok(file)
    };
    let mut command = process::own("syncer")?;
    command
        .arg("--from-kubeconfig")
        .arg(write("hub", &target.kubeconfig)?);
    command.arg("--to-kubeconfig").arg(write("member", &below)?);
    command.args([
        "--sync-target-name",
        &target.name,
        "--sync-target-uid",
        &target.uid,
    ]);
    let mut syncer = start_syncer(&mut command, directory.path())?;
    let hub = match rig.external_ready(&target).await {
        Ok(hub) => hub,
        Err(error) => {
            syncer.check()?;
            return Err(error);
        }
    };
    tokio::time::sleep(SETTLE).await;
    let idle = syncer.memory()?;
    let burst = flow::burst(&hub, member, ("load", args.objects, OBJECT_BYTES)).await?;
    tokio::time::sleep(SETTLE).await;
    let loaded = syncer.memory()?;
    drop(syncer);
    rig.stop().await?;
    let (most_idle, most_loaded) = topics.syncer_mb;
    Ok(Measured {
        shown: format!("{} / {}", idle.shown(), loaded.shown()),
        reached: Some(idle.mb() <= most_idle && loaded.mb() <= most_loaded),
        raw: json!({
            "idle": idle.to_json(), "loaded": loaded.to_json(), "objects": args.objects,
            "load_arrived_ms": millis(burst.arrived), "load_rate": burst.rate(),
        }),
    })
}

fn start_syncer(command: &mut Command, directory: &Path) -> Result<Process> {
    Process::start("the syncer", command, directory.join("log"))
}
