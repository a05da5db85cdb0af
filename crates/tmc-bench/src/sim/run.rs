//! One run: set up, let a storm rage over it, and see that everything comes to rest.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tmc_apimachinery::meta::meta;
use tmc_hub::WeakHub;
use tmc_runtime::client::ListParams;
use tokio::time::Instant;

use super::disk::Line;
use super::fleet::Fleet;
use super::process::{Ground, Hubs, Process, member_of};
use super::snapshot::{self, Snapshot};
use super::trace::Trace;
use super::users::{TEAMS, Users};
use super::{invariants, kept, storm, watchdog};

/// How long a fleet may take to come to rest after a storm.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(5);
/// Time without a beat after which a target must not be Ready: three intervals of ten seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// How much later that may show in calm weather, and in a storm, where writes are held up and tried
/// again.
const LATE: Duration = Duration::from_secs(3);
const LATE_IN_STORM: Duration = Duration::from_secs(150);
/// How long after it came to rest somebody may still try again what failed in the storm: the longest
/// pause of a work queue, stretched by chance.
const LAST_TRIES: Duration = Duration::from_secs(95);
/// How often times of beats and probes are written.
const PERSIST: Duration = Duration::from_secs(300);

/// What a run is to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Decides everything.
    pub(crate) seed: u64,
    /// Write the trace to stderr.
    pub(crate) loud: bool,
    /// Things that happen in the storm; 0 for a run in which nothing goes wrong.
    pub(crate) events: u32,
    /// How long it is watched after it came to rest.
    pub(crate) quiet: Duration,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// What was wrong; empty if all is well.
    pub(crate) wrong: Vec<String>,
    /// Hash of the hub's revision log.
    pub(crate) hash: String,
    /// That log.
    pub(crate) log: Vec<Line>,
    /// Virtual time that passed.
    pub(crate) took: Duration,
}

/// Runs it on a runtime of its own whose time passes only when nothing is left to do.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return Outcome {
                wrong: vec![format!("no runtime: {error}")],
                hash: String::new(),
                log: Vec::new(),
                took: Duration::ZERO,
            };
        }
    };
    let hubs = Hubs::default();
    let mut outcome = runtime.block_on(play(plan, &hubs));
    drop(runtime);
    let left = hubs.lock().iter().filter_map(WeakHub::upgrade).count();
    if left > 0 {
        let text = format!("{left} hubs that have ended are still in memory");
        outcome.wrong.push(text);
    }
    outcome
}

async fn play(plan: &Plan, hubs: &Hubs) -> Outcome {
    let trace = Trace::new(plan.loud);
    let ground = Ground::new(plan.seed, &trace, hubs);
    ground.disk.watched_by(watchdog::witness(&trace));
    let played = World::play(plan, &ground).await;
    let mut wrong = trace.violations();
    wrong.extend(played.err().map(|error| format!("{error:#}")));
    Outcome {
        wrong,
        hash: ground.disk.hash(),
        log: ground.disk.log(),
        took: trace.elapsed(),
    }
}

/// The world of a run.
pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) fleet: Fleet,
    /// `None` while it is down.
    hub: Option<Process>,
    pub(crate) users: Users,
    /// Number of the hub's process.
    number: u64,
    /// Since when it runs.
    since: Instant,
    /// How late a lost target may show.
    late: Duration,
    teams: std::collections::BTreeMap<String, String>,
}

impl World {
    async fn play(plan: &Plan, ground: &Ground) -> Result<()> {
        let mut world = Self::start(ground).await?;
        if plan.events == 0 {
            world.users.simple_work(world.hub()?).await?;
        } else {
            world.late = LATE_IN_STORM;
            storm::rage(&mut world, plan.events).await?;
            storm::end(&world).await?;
        }
        world.come_to_rest().await?;
        world.late = LATE;
        world.stay_quiet(plan.quiet).await?;
        if let Some(hub) = world.hub.take() {
            hub.kill().await;
        }
        Ok(())
    }

    async fn start(ground: &Ground) -> Result<Self> {
        let count = usize::try_from(2 + ground.chance.below(3)).unwrap_or(2);
        let fleet = Fleet::start(ground, count).await.context("no members")?;
        let hub = Process::start(ground, &fleet, 0).await.context("no hub")?;
        let users = Users::new(ground);
        users
            .set_up(&hub, &fleet)
            .await
            .context("the set-up failed")?;
        let mut world = Self {
            ground: ground.clone(),
            fleet,
            hub: Some(hub),
            users,
            number: 0,
            since: Instant::now(),
            late: LATE,
            teams: Default::default(),
        };
        world.learn_teams().await?;
        world
            .come_to_rest()
            .await
            .context("before anything was done")?;
        Ok(world)
    }

    async fn learn_teams(&mut self) -> Result<()> {
        for team in TEAMS {
            let gvr = ("core.kcp.io", "v1alpha1", "logicalclusters");
            let client = Process::client(&self.hub()?.admin(), &format!("root:{team}"), gvr);
            let list = client.list("", &ListParams::default()).await?;
            let cluster = meta(&list["items"][0]).cluster().to_owned();
            self.teams.insert(cluster, team.to_owned());
        }
        Ok(())
    }

    /// The running hub.
    ///
    /// # Errors
    /// While it is down.
    pub(crate) fn hub(&self) -> Result<&Process> {
        self.hub.as_ref().context("the hub is down")
    }

    /// Notes an event.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        self.ground.trace.note(text);
    }

    /// Kills the hub and starts it again after a pause.
    pub(crate) async fn restart(&mut self, pause: Duration, compacted: bool) -> Result<()> {
        self.note(|| {
            format!(
                "the hub is killed, for {pause:?}, history kept: {}",
                !compacted
            )
        });
        self.number += 1;
        if let Some(hub) = self.hub.take() {
            hub.kill().await;
        }
        if compacted {
            self.ground.disk.compact();
        }
        tokio::time::sleep(pause).await;
        let hub = Process::start(&self.ground, &self.fleet, self.number).await;
        self.hub = Some(hub.context("the hub does not come back")?);
        self.since = Instant::now();
        self.note(|| "the hub is back".to_owned());
        Ok(())
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        let now = self.ground.clock.now();
        let mut snapshot = Snapshot::take(self.hub()?, &self.fleet, now).await?;
        snapshot.teams.clone_from(&self.teams);
        snapshot.left_behind = snapshot::left_behind(&self.ground.disk.log());
        Ok(snapshot)
    }

    /// Checks what must hold always.
    pub(crate) async fn look(&self) -> Result<()> {
        let snapshot = self.snapshot().await?;
        self.check(&snapshot);
        Ok(())
    }

    fn check(&self, snapshot: &Snapshot) {
        let wrong = invariants::always(snapshot);
        for text in wrong.into_iter().chain(self.silent_but_ready(snapshot)) {
            self.ground.trace.violation(&text);
        }
    }

    /// What must hold at rest and does not.
    fn unsettled(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut wrong = invariants::at_rest(snapshot);
        let (kept, log) = (self.ground.kept.lock(), self.ground.disk.log());
        wrong.extend(kept::missing(&kept, snapshot, &log));
        wrong
    }

    /// Targets that are Ready though nobody has heard of them for too long.
    fn silent_but_ready(&self, snapshot: &Snapshot) -> Vec<String> {
        let heard = self.ground.heard.lock();
        let silence = |name: &str| {
            let last = heard
                .get(member_of(name))
                .map_or(self.since, |at| (*at).max(self.since));
            last.elapsed()
        };
        let ready = snapshot
            .targets
            .iter()
            .filter(|target| invariants::condition(target, "Ready") == "True");
        ready
            .map(|target| (meta(target).name(), silence(meta(target).name())))
            .filter(|(_, silence)| *silence > SILENCE + self.late)
            .map(|(name, silence)| {
                format!("SyncTarget {name} is Ready after {silence:?} of silence")
            })
            .collect()
    }

    /// Waits until all that was asked for is done.
    async fn come_to_rest(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut revision = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            let late = Instant::now() >= deadline;
            let now = self.ground.disk.revision();
            // While it still moves there is no use in looking.
            if now != revision && !late {
                revision = now;
                continue;
            }
            let snapshot = self.snapshot().await?;
            self.check(&snapshot);
            let wrong = self.unsettled(&snapshot);
            if wrong.is_empty() {
                self.note(|| format!("at rest at revision {now}"));
                return Ok(());
            }
            if late {
                let list = wrong.join("\n  ");
                anyhow::bail!("not at rest {PATIENCE:?} after everything worked again:\n  {list}");
            }
        }
    }

    /// Nothing is written while nothing happens.
    async fn stay_quiet(&self, time: Duration) -> Result<()> {
        tokio::time::sleep(LAST_TRIES).await;
        let (revision, writes) = (self.ground.disk.revision(), &self.ground.writes);
        let before = writes.load(Ordering::Relaxed);
        tokio::time::sleep(time).await;
        let lines = self.ground.disk.since(revision);
        let most =
            2 + usize::try_from(time.as_secs() / PERSIST.as_secs()).unwrap_or(usize::MAX - 2);
        for text in watchdog::unrest(&lines, most) {
            self.ground.trace.violation(&text);
        }
        let sent = writes.load(Ordering::Relaxed) - before;
        let kept = lines.iter().filter(|line| !watchdog::is_end_of_event(line));
        let kept = u64::try_from(kept.count()).unwrap_or(u64::MAX);
        if sent > kept {
            let text =
                format!("{sent} writes were sent though nothing happened, {kept} had an effect");
            self.ground.trace.violation(&text);
        }
        let snapshot = self.snapshot().await?;
        self.check(&snapshot);
        for text in self.unsettled(&snapshot) {
            self.ground.trace.violation(&text);
        }
        Ok(())
    }
}
