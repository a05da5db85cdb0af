//! `fleet`: what many targets, Placements and objects cost one hub, and what members cost that never
//! answer.

mod agents;
mod black_holes;
mod conditions;
mod histogram;
mod liveness;
mod objects;
mod placements;
mod tempo;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use self::agents::Which;
use self::liveness::{Fleet, MISSED, Quiet, Started};
use self::tempo::Tempo;
use crate::OutputArgs;
use crate::pacing::Pace;
use crate::report::{Measured, Report, Topic, machine};
use crate::stats::Samples;
use crate::topics::fleet as topics;

/// Flags of `fleet`.
#[derive(Debug, clap::Args)]
pub(crate) struct FleetArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    only: Vec<Part>,
    /// Targets with live sessions, each number on a hub of its own
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,3500,10000",
        value_name = "LIST"
    )]
    targets: Vec<usize>,
    /// How long the hub is watched doing nothing, in seconds; the times of beats of a small fleet are
    /// written every five to ten minutes
    #[arg(long, default_value_t = 360, value_name = "SECONDS")]
    quiet: u64,
    /// Placements that wait for one Location
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    placements: usize,
    /// Targets of that Location
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    placement_targets: usize,
    /// Objects on the hub whose passes are timed
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    objects: usize,
    /// Objects that come, 100 a second, while passes are timed
    #[arg(long, default_value_t = 3_000, value_name = "N")]
    more_objects: usize,
    /// Clusters that never answer
    #[arg(long, default_value_t = 100, value_name = "N")]
    black_holes: usize,
    #[command(flatten)]
    tempo: Tempo,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Memory, writes, processors, loss and return of targets
    Targets,
    /// Scheduling
    Placements,
    /// Passes of controllers on a full hub
    Objects,
    /// Clusters that never answer
    BlackHoles,
}

/// Interval of probes of a member that answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// Runs it.
///
/// # Errors
/// When the numbers cannot be written; rows that fail say so themselves.
pub(crate) async fn run(args: &FleetArgs) -> Result<ExitCode> {
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    let title = format!("bench fleet: {}", machine());
    eprintln!("{title}");
    let mut report = Report::default();
    if wants(Part::Targets) {
        for count in &args.targets {
            targets(*count, args, &mut report).await;
        }
    }
    if wants(Part::Placements) {
        report.add(topics::PLACEMENTS, scheduled(args).await);
    }
    if wants(Part::Objects) {
        report.add(topics::PASSES, passes(args).await);
    }
    if wants(Part::BlackHoles) {
        report.add(topics::BLACK_HOLES, black_holes(args).await);
    }
    report.finish(&title, &args.output)
}

/// The rows of a number of targets.
async fn targets(count: usize, args: &FleetArgs, report: &mut Report) {
    let (mut fleet, started) = match Fleet::start(count, args.tempo).await {
        Ok(up) => up,
        Err(error) => return report.add(of(count, topics::START), Err(error)),
    };
    report.add(of(count, topics::START), Ok(start(&started)));
    match fleet.quiet(Duration::from_secs(args.quiet)).await {
        Ok(quiet) => {
            let sharing = fleet.agents.sharing;
            let measured = memory(&quiet, &started, (count, sharing));
            report.add(of(count, topics::MEMORY), Ok(measured));
            report.add(of(count, topics::WRITES), Ok(writes(&quiet)));
            report.add(of(count, topics::PROCESSOR), Ok(processor(&quiet)));
        }
        Err(error) => report.add(of(count, topics::MEMORY), Err(error)),
    }
    let lost = fleet.silence(Which::Tenth).await;
    report.add(
        of(count, topics::PARTIAL_LOSS),
        lost.map(|noticed| loss(&noticed, args.tempo)),
    );
    if let Err(error) = fleet.resume().await {
        return report.add(of(count, topics::LOSS), Err(error));
    }
    let lost = fleet.silence(Which::All).await;
    report.add(
        of(count, topics::LOSS),
        lost.map(|noticed| loss(&noticed, args.tempo)),
    );
    let back = fleet.resume().await;
    report.add(of(count, topics::RETURN), back.map(|times| seconds(&times)));
}

/// The row of so many targets.
fn of(count: usize, topic: Topic) -> Topic {
    Topic {
        // One string a row of one run.
        name: Box::leak(format!("{count} targets: {}", topic.name).into_boxed_str()),
        ..topic
    }
}

fn start(started: &Started) -> Measured {
    Measured {
        shown: format!(
            "{:.1} s made, {:.1} s until all Ready",
            started.made.as_secs_f64(),
            started.ready.as_secs_f64()
        ),
        reached: None,
        raw: json!({
            "made_s": started.made.as_secs_f64(), "ready_s": started.ready.as_secs_f64(),
            "watches_each": started.watches,
        }),
    }
}

fn memory(quiet: &Quiet, started: &Started, (count, sharing): (usize, usize)) -> Measured {
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / count as f64;
    let resident = each(quiet.memory.resident, quiet.before.resident);
    let session = each(started.sessions.resident, quiet.before.resident);
    let watches = started.watches;
    let shared = if sharing > 1 {
        format!("; {sharing} agents share a connection for watches, for want of files")
    } else {
        String::new()
    };
    Measured {
        shown: format!(
            "{resident:.0} KiB ({session:.0} without its {watches} watches; hub {:.0} MB{shared})",
            quiet.memory.mb()
        ),
        reached: Some(resident <= 100.0),
        raw: json!({
            "before": quiet.before.to_json(), "sessions": started.sessions.to_json(),
            "with": quiet.memory.to_json(), "kib_each": resident, "sharing": sharing,
        }),
    }
}

fn writes(quiet: &Quiet) -> Measured {
    let rate = quiet.writes as f64 / quiet.window.as_secs_f64();
    Measured {
        shown: format!("{rate:.2}/s"),
        reached: Some(rate <= 5.0),
        raw: json!({"writes": quiet.writes, "window_s": quiet.window.as_secs_f64()}),
    }
}

fn processor(quiet: &Quiet) -> Measured {
    let share = quiet.processor.as_secs_f64() / quiet.window.as_secs_f64();
    Measured {
        shown: format!("{:.1} % of one core", 100.0 * share),
        reached: None,
        raw: json!({"processor_s": quiet.processor.as_secs_f64(), "window_s": quiet.window.as_secs_f64()}),
    }
}

fn loss(noticed: &Samples, tempo: Tempo) -> Measured {
    let limit = tempo.beat() * MISSED + Duration::from_secs(1);
    Measured {
        reached: Some(noticed.percentile(100.0) <= limit),
        ..seconds(noticed)
    }
}

fn seconds(samples: &Samples) -> Measured {
    let [p50, p99, max] = [50.0, 99.0, 100.0].map(|p| samples.percentile(p).as_secs_f64());
    Measured {
        shown: format!("{p50:.2} / {p99:.2} / {max:.2} s"),
        reached: None,
        raw: samples.to_json(),
    }
}

async fn scheduled(args: &FleetArgs) -> Result<Measured> {
    let (placements, targets) = (args.placements, args.placement_targets);
    let (fleet, _) = Fleet::start(targets, args.tempo).await?;
    let scheduled = placements::schedule(&fleet.hub, placements).await?;
    Ok(Measured {
        shown: format!("{:.0}/s ({placements} Placements)", scheduled.rate()),
        reached: Some(scheduled.rate() >= 5_000.0),
        raw: json!({
            "placements": placements, "targets": targets, "made_s": scheduled.made.as_secs_f64(),
            "took_s": scheduled.took.as_secs_f64(), "writes": scheduled.writes,
        }),
    })
}

async fn passes(args: &FleetArgs) -> Result<Measured> {
    let pace = Pace {
        count: args.more_objects,
        rate: 100.0,
    };
    let (fleet, _) = Fleet::start(objects::TARGETS, args.tempo).await?;
    let passes = objects::passes(&fleet, args.objects, pace).await?;
    let all = passes.all();
    let shown = |percent| {
        all.at_most(percent)
            .map_or("beyond 13 s".to_owned(), |time| {
                format!("{:.1}", time.as_secs_f64() * 1000.0)
            })
    };
    let by_controller = passes.by_controller.iter().map(|(name, passes)| {
        let ms = |percent| {
            passes
                .at_most(percent)
                .map(|time| time.as_secs_f64() * 1000.0)
        };
        let value = json!({"passes": passes.count(), "p50_ms": ms(50.0), "p99_ms": ms(99.0)});
        (name.clone(), value)
    });
    Ok(Measured {
        shown: format!(
            "≤ {} / {} ms ({} passes)",
            shown(50.0),
            shown(99.0),
            all.count()
        ),
        reached: None,
        raw: json!({
            "objects": args.objects, "filled_s": passes.filled.as_secs_f64(),
            "by_controller": by_controller.collect::<serde_json::Map<_, _>>(),
        }),
    })
}

async fn black_holes(args: &FleetArgs) -> Result<Measured> {
    let count = args.black_holes;
    let gaps = black_holes::gaps(count, args.tempo.black_hole_window()).await?;
    let (beside, alone) = (gaps.beside.as_secs_f64(), gaps.alone.as_secs_f64());
    Ok(Measured {
        shown: format!("{beside:.1} s ({alone:.1} s without black holes)"),
        reached: Some(gaps.beside <= gaps.alone + PROBE_INTERVAL),
        raw: json!({"black_holes": count, "beside_s": beside, "alone_s": alone}),
    })
}
