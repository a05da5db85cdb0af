//! The hub as a process that can die: what `tmc start` puts together, on simulated surroundings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tmc::assembly::core::{Core, CoreOptions};
use tmc::assembly::members::Members;
use tmc::assembly::surroundings::{Part, Surroundings};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::user::{GROUP_MASTERS, UserInfo};
use tmc_hub::WeakHub;
use tmc_hub::environment::{Environment, SharedEnvironment};
use tmc_runtime::{Clock, Connection, Jitter, ResourceClient};
use tmc_virtual::syncer::TargetId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::disk::Disk;
use super::fleet::Fleet;
use super::frames::Delivered;
use super::kept::AllKept;
use super::trace::Trace;
use super::weather::Weather;
use super::wire::{Call, Inspector, Wire};

/// URL of the simulated hub.
const URL: &str = "https://hub.sim.example.com:6443";

/// Time and uids of a run.
pub(crate) struct SimulatedTime {
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
}

impl Environment for SimulatedTime {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn uid(&self) -> String {
        self.chance.uid()
    }
}

/// Clocks of agents and members, as far as they are off, by [`WhoseClock`] and member.
pub(crate) type Skews = Arc<Mutex<BTreeMap<(WhoseClock, String), SignedDuration>>>;

/// Whose clock may be off. The hub's own is the one that all others are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WhoseClock {
    /// The syncer's.
    Agent,
    /// The API server's of the member, and of what runs there.
    Member,
}

/// Hubs that may have ended.
pub(crate) type Hubs = Arc<Mutex<Vec<WeakHub>>>;

/// What all processes of a run share.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) chance: Chance,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) weather: Weather,
    pub(crate) trace: Trace,
    pub(crate) skews: Skews,
    /// Requests that change something, on all wires.
    pub(crate) writes: Arc<AtomicU64>,
    /// When a beat of a member was last answered.
    pub(crate) heard: Arc<Mutex<BTreeMap<String, Instant>>>,
    /// What was asked to stay in members.
    pub(crate) kept: AllKept,
    /// The hubs that there were.
    pub(crate) hubs: Hubs,
}

impl Ground {
    pub(crate) fn new(seed: u64, trace: &Trace, hubs: &Hubs) -> Self {
        let start: Timestamp =
            Timestamp::from_second(1_893_456_000).unwrap_or(Timestamp::UNIX_EPOCH);
        Self {
            chance: Chance::new(seed),
            clock: Clock::starting_at(start),
            disk: Disk::default(),
            weather: Weather::default(),
            trace: trace.clone(),
            skews: Skews::default(),
            writes: Arc::default(),
            heard: Arc::default(),
            kept: AllKept::default(),
            hubs: hubs.clone(),
        }
    }

    /// Time and uids for a hub.
    pub(crate) fn environment(&self, part: &str) -> SharedEnvironment {
        Arc::new(SimulatedTime {
            clock: self.clock.clone(),
            chance: self.chance.fork(part),
        })
    }

    /// Time and uids for a member, whose clock may be off.
    pub(crate) fn member_environment(&self, member: &str) -> SharedEnvironment {
        Arc::new(SimulatedTime {
            clock: self.skewed(WhoseClock::Member, member),
            chance: self.chance.fork(member),
        })
    }

    /// A clock that may be off.
    fn skewed(&self, whose: WhoseClock, member: &str) -> Clock {
        let (clock, skews) = (self.clock.clone(), self.skews.clone());
        let of = (whose, member.to_owned());
        Clock::new(move || {
            let skew = skews.lock().get(&of).copied().unwrap_or_default();
            clock.now().saturating_add(skew).unwrap_or(Timestamp::MAX)
        })
    }
}

/// The member that a target is of: targets are named after their Cluster.
pub(crate) fn member_of(target: &str) -> &str {
    target.split('-').next().unwrap_or(target)
}

/// The surroundings of one process.
struct Around {
    ground: Ground,
    number: u64,
    dead: CancellationToken,
}

impl Around {
    fn label(&self, part: &str) -> String {
        format!("{part}/{}", self.number)
    }

    fn wire(&self, name: &str, inspector: Option<Inspector>, writer: Option<kube::Client>) -> Wire {
        let ground = &self.ground;
        Wire {
            name: name.into(),
            weather: ground.weather.clone(),
            chance: ground.chance.fork(&self.label(name)),
            trace: ground.trace.clone(),
            dead: self.dead.clone(),
            inspector,
            other_writer: writer,
            writes: ground.writes.clone(),
            delivered: Delivered::default(),
            heard: None,
        }
    }
}

impl Surroundings for Around {
    fn environment(&self) -> SharedEnvironment {
        self.ground.environment(&self.label("hub"))
    }

    fn clock(&self) -> Clock {
        self.ground.clock.clone()
    }

    fn syncer_clock(&self, target: &TargetId) -> Clock {
        self.ground
            .skewed(WhoseClock::Agent, member_of(&target.name))
    }

    fn jitter(&self) -> Jitter {
        self.ground.chance.fork(&self.label("jitter")).jitter()
    }

    fn store(&self) -> tmc_store::Options {
        let origin = Instant::now();
        tmc_store::Options {
            inline: true,
            clock: tmc_store::Clock::new(move || origin.elapsed()),
            ..tmc_store::Options::default()
        }
    }

    fn wire(&self, part: Part<'_>, direct: Connection) -> Connection {
        let wire = match part {
            Part::Controllers => {
                let writer = direct.client("");
                self.wire("controllers", Some(Arc::new(deletes_nothing)), Some(writer))
            }
            Part::Views => self.wire("views", None, Some(direct.client(""))),
            Part::Syncer(target) => {
                let member = member_of(&target.name);
                let wire = self.wire(&format!("agent/{member}"), None, None);
                let (heard, member) = (self.ground.heard.clone(), member.to_owned());
                let now = move || {
                    heard.lock().insert(member.clone(), Instant::now());
                };
                Wire {
                    heard: Some(Arc::new(now)),
                    ..wire
                }
            }
        };
        wire.over(&direct)
    }
}

/// Controllers never delete what is a user's.
fn deletes_nothing(call: &Call) -> Option<String> {
    let users = ["deployments", "configmaps", "namespaces", "placements"];
    let resource = call.uri.path().rsplit('/').nth(1).unwrap_or_default();
    let forbidden = call.method == http::Method::DELETE && users.contains(&resource);
    forbidden.then(|| format!("a controller deletes {}", call.uri.path()))
}

/// In a member nothing is deleted without its uid, and nothing of a stranger is touched.
fn has_proof(call: &Call) -> Option<String> {
    let path = call.uri.path();
    if call.is_write() && path.split('/').any(|part| part.starts_with("stranger")) {
        return Some(format!("{} of a stranger's {path}", call.method));
    }
    if call.method != http::Method::DELETE {
        return None;
    }
    let options: serde_json::Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let uid = options
        .pointer("/preconditions/uid")
        .and_then(|uid| uid.as_str());
    let missing = uid.is_none_or(str::is_empty);
    missing.then(|| format!("{path} of a member is deleted without its uid"))
}

/// A running hub process.
pub(crate) struct Process {
    pub(crate) core: Core,
    dead: CancellationToken,
    disk: Disk,
}

impl Process {
    /// Starts the process of this number on what the one before left. As long as the wires do not let
    /// it start it is started again, as a supervisor would.
    pub(crate) async fn start(ground: &Ground, fleet: &Fleet, number: u64) -> Result<Self> {
        const TRIES: u32 = 200;
        let mut failure = None;
        for attempt in 0..TRIES {
            let number = number * u64::from(TRIES) + u64::from(attempt);
            match Self::try_start(ground, fleet, number).await {
                Ok(process) => return Ok(process),
                Err(error) => failure = Some(error),
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        Err(failure.unwrap_or_else(|| anyhow::anyhow!("the hub was not started")))
    }

    async fn try_start(ground: &Ground, fleet: &Fleet, number: u64) -> Result<Self> {
        let dead = CancellationToken::new();
        let around = Arc::new(Around {
            ground: ground.clone(),
            number,
            dead: dead.clone(),
        });
        let members = Arc::new(Members::default());
        for site in fleet.sites() {
            let name = format!("member/{}", site.name);
            let wire = around.wire(&name, Some(Arc::new(has_proof)), None);
            site.add_to(&members, &wire.over(site.member.connection()));
        }
        let engine = ground.disk.mount();
        let started = Core::start(CoreOptions {
            engine,
            signer: None,
            token_keys: None,
            url: URL.to_owned(),
            listening: Vec::new(),
            sync_resources: vec!["deployments.apps".to_owned()],
            members,
            surroundings: around,
        })
        .await;
        match started {
            Ok(core) => {
                ground.hubs.lock().push(core.hub().downgrade());
                Ok(Self {
                    core,
                    dead,
                    disk: ground.disk.clone(),
                })
            }
            Err(error) => {
                ground.disk.unplug();
                dead.cancel();
                Err(error)
            }
        }
    }

    /// Ends it as a kill does: nothing more is written, nobody is answered.
    pub(crate) async fn kill(self) {
        self.disk.unplug();
        self.dead.cancel();
        self.core.stop(async {}).await;
    }

    /// The administrator's way in, which nothing disturbs.
    pub(crate) fn admin(&self) -> Connection {
        let admin = UserInfo::new("system:admin", &[GROUP_MASTERS]);
        self.core.connection_as(admin)
    }

    /// A client of a resource in a workspace, or in all (`*`).
    pub(crate) fn client(connection: &Connection, workspace: &str, gvr: Gvr) -> ResourceClient {
        let client = connection.client(&format!("/clusters/{workspace}"));
        ResourceClient::new(client, GroupVersionResource::new(gvr.0, gvr.1, gvr.2))
    }
}

/// Group, version, resource.
pub(crate) type Gvr = (&'static str, &'static str, &'static str);

/// The resources that a run is about.
pub(crate) mod kinds {
    use super::Gvr;

    pub(crate) const SYNC_TARGETS: Gvr = ("workload.kcp.io", "v1alpha1", "synctargets");
    pub(crate) const CLUSTERS: Gvr = ("workload.kcp.io", "v1alpha1", "clusters");
    pub(crate) const LOCATIONS: Gvr = ("scheduling.kcp.io", "v1alpha1", "locations");
    pub(crate) const PLACEMENTS: Gvr = ("scheduling.kcp.io", "v1alpha1", "placements");
    pub(crate) const NAMESPACES: Gvr = ("", "v1", "namespaces");
    pub(crate) const CONFIG_MAPS: Gvr = ("", "v1", "configmaps");
    pub(crate) const SECRETS: Gvr = ("", "v1", "secrets");
    pub(crate) const DEPLOYMENTS: Gvr = ("apps", "v1", "deployments");
}
