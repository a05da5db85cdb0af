//! Agents without a member: each holds the session and the watches that a real one holds, over
//! connections of its own, so that the hub has the same work and this process little.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tmc_api::syncer::{AgentFrame, Hello, HubFrame, Ping, Report};
use tmc_api::time::MilliTime;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::client::get_path;
use tmc_runtime::{Connection, Endpoint, Informer, Jitter, ResourceClient, SystemDialer};
use tmc_syncer::Target;
use tmc_syncer::connect::{Ended, Link, accepted};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where the syncer endpoints are, below a target's root.
const ENDPOINTS: &str = "/apis/syncer.kcp.io/v1alpha1";
/// Agents that connect at once, when they are started.
const AT_ONCE: usize = 64;
/// Until a lost session is tried again, at most: as real agents spread.
const RETRY: Duration = Duration::from_millis(500);
/// Connections beside that of the session: one for watches, one for other requests.
const CONNECTIONS: usize = 2;
/// Open files that this program, or a hub, needs beside those of the agents.
const OTHER_FILES: usize = 200;

/// Whether agents speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Speaking,
    /// The sockets stay open and nothing is sent: as if a network had gone away.
    Silent,
}

/// Which of the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Every tenth.
    Tenth,
    /// All of them.
    All,
}

impl Which {
    fn has(self, index: usize) -> bool {
        self == Self::All || index.is_multiple_of(10)
    }

    /// How many of so many agents.
    pub(crate) fn of(self, agents: usize) -> usize {
        match self {
            Self::Tenth => agents.div_ceil(10),
            Self::All => agents,
        }
    }
}

/// Agents of as many targets.
pub(crate) struct Agents {
    all: Vec<Arc<Agent>>,
    /// Who does not speak; all do if `None`.
    silent: watch::Sender<Option<Which>>,
    /// How many agents share the connections that their watches and requests have.
    pub(crate) sharing: usize,
    stop: CancellationToken,
    _ends_watches: DropGuard,
    _tasks: JoinSet<()>,
}

struct Agent {
    index: usize,
    target: Target,
    connection: Connection,
    report: Arc<Report>,
    last_beat: Mutex<Option<Instant>>,
    gate: Arc<Semaphore>,
}

impl Agents {
    /// Starts an agent for each target; it is its session that makes a target Ready.
    ///
    /// # Errors
    /// When the endpoint cannot be used.
    pub(crate) fn start(endpoint: &Endpoint, targets: Vec<Target>, report: Report) -> Result<Self> {
        let sharing = sharing(targets.len(), open_files()?);
        let (silent, hears) = watch::channel(None);
        let stop = CancellationToken::new();
        let (report, gate) = (Arc::new(report), Arc::new(Semaphore::new(AT_ONCE)));
        let mut all = Vec::with_capacity(targets.len());
        let mut tasks = JoinSet::new();
        for group in targets.chunks(sharing) {
            let connection = Connection::https(endpoint, Arc::new(SystemDialer))?;
            for target in group {
                let agent = Arc::new(Agent {
                    index: all.len(),
                    target: target.clone(),
                    connection: connection.clone(),
                    report: report.clone(),
                    last_beat: Mutex::default(),
                    gate: gate.clone(),
                });
                tasks.spawn(agent.clone().live(hears.clone()));
                all.push(agent);
            }
        }
        Ok(Self {
            all,
            silent,
            sharing,
            _ends_watches: stop.clone().drop_guard(),
            stop,
            _tasks: tasks,
        })
    }

    /// Opens the watches of all agents, as many as the hub wants of each; returns how many there are.
    ///
    /// # Errors
    /// When the hub does not say what to watch, or a first list does not come.
    pub(crate) async fn watch(&self) -> Result<usize> {
        let watches = futures::stream::iter(&self.all).map(|agent| agent.watch(&self.stop));
        let mut watches = watches.buffer_unordered(AT_ONCE);
        let mut count = 0;
        while let Some(opened) = watches.next().await {
            count += opened?;
        }
        Ok(count)
    }

    /// Silences agents, all of these at once.
    pub(crate) fn silence(&self, which: Which) {
        self.silent.send_replace(Some(which));
    }

    /// When each of these agents spoke last, by the name of its target.
    pub(crate) fn last_beats(&self, which: Which) -> Vec<(String, Instant)> {
        let agents = self.all.iter().filter(|agent| which.has(agent.index));
        let beats = agents.filter_map(|agent| {
            let beat = (*agent.last_beat.lock())?;
            Some((agent.target.name.clone(), beat))
        });
        beats.collect()
    }

    /// Lets all speak again, each by a new session.
    pub(crate) fn resume(&self) {
        self.silent.send_replace(None);
    }
}

impl Agent {
    async fn live(self: Arc<Self>, mut silent: watch::Receiver<Option<Which>>) {
        let jitter = Jitter::random();
        loop {
            self.until(&mut silent, Voice::Speaking).await;
            if let Err(ended) = self.session(&mut silent, &jitter).await {
                tracing::debug!(target = self.target.name, ?ended, "a session ended");
            }
            tokio::time::sleep(jitter.stretch(RETRY / 2, 100)).await;
        }
    }

    /// A session, until it breaks off or the network comes back that it was on.
    async fn session(
        &self,
        silent: &mut watch::Receiver<Option<Which>>,
        jitter: &Jitter,
    ) -> Result<(), Ended> {
        let (mut link, interval) = self.connect().await?;
        let mut sequence = 0;
        let mut ping_at = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                () = self.until(silent, Voice::Silent) => {
                    self.until(silent, Voice::Speaking).await;
                    return Ok(());
                }
                () = tokio::time::sleep_until(ping_at) => {
                    sequence += 1;
                    let ping = Ping { sequence, sent_at: MilliTime::new(jiff::Timestamp::now()) };
                    let beat = Instant::now();
                    link.send(&AgentFrame::Ping(ping)).await?;
                    *self.last_beat.lock() = Some(beat);
                    ping_at = tokio::time::Instant::now() + jitter.stretch(interval.mul_f64(0.8), 20);
                }
                frame = link.next() => { frame?; }
            }
        }
    }

    /// Waits until this agent is told so, or there are none any more.
    async fn until(&self, silent: &mut watch::Receiver<Option<Which>>, wanted: Voice) {
        let voice = |silent: &Option<Which>| match silent {
            Some(which) if which.has(self.index) => Voice::Silent,
            _ => Voice::Speaking,
        };
        let _ = silent.wait_for(|silent| voice(silent) == wanted).await;
    }

    async fn connect(&self) -> Result<(Link, Duration), Ended> {
        let _turn = self.gate.acquire().await;
        let path = format!("{}{ENDPOINTS}/connect", self.target.view_path());
        let opened = Link::open(&self.connection, &path).await;
        let mut link = opened.map_err(|error| Ended::Lost(error.to_string()))?;
        let hello = Hello {
            uid: self.target.uid.clone(),
            identity: "bench".to_owned(),
            ..Hello::default()
        };
        link.send(&AgentFrame::Hello(hello)).await?;
        loop {
            if let Some(HubFrame::Welcome(welcome)) = link.next().await? {
                let report = AgentFrame::Report((*self.report).clone());
                link.send(&report).await?;
                return Ok((link, welcome.heartbeat_interval.duration()));
            }
        }
    }

    /// Opens what an agent watches on the hub: namespaces, and each resource that is Accepted.
    async fn watch(&self, stop: &CancellationToken) -> Result<usize> {
        let name = &self.target.name;
        let root = self.connection.client(&self.target.view_path());
        let list = loop {
            match get_path(&root, &format!("{ENDPOINTS}/resources")).await {
                // It takes no more at once; all agents of a fleet are asking.
                Err(error) if error.code() == Some(429) => tokio::time::sleep(RETRY).await,
                list => break list.with_context(|| format!("{name}: no list of resources"))?,
            }
        };
        let mut wanted = accepted(&serde_json::from_slice(&list)?);
        wanted.push(GroupVersionResource::new("", "v1", "namespaces"));
        let view = self
            .connection
            .client(&format!("{}/clusters/*", self.target.view_path()));
        let stores: Vec<_> = wanted
            .into_iter()
            .map(|resource| {
                Informer::<Seen>::new(ResourceClient::new(view.clone(), resource), None)
                    .page_size(100)
                    .spawn(stop.clone())
            })
            .collect();
        for store in &stores {
            store.synced().await;
        }
        Ok(stores.len())
    }
}

/// An object of which nothing is kept.
#[derive(Deserialize)]
struct Seen {
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
}

/// How many agents have to share their connections for watches and requests, so that these and the
/// sessions, one connection each, fit into what a process may have open.
fn sharing(agents: usize, open_files: usize) -> usize {
    let left = open_files.saturating_sub(OTHER_FILES + agents) / CONNECTIONS;
    agents.div_ceil(left.max(1)).max(1)
}

/// How many files this process, and a child of it, may have open.
fn open_files() -> Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok())
        .context("/proc/self/limits says nothing of open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_as_many_agents_as_are_of_it() {
        for agents in [1, 9, 10, 11, 1_000] {
            for which in [Which::Tenth, Which::All] {
                let found = (0..agents).filter(|index| which.has(*index)).count();
                assert_eq!(found, which.of(agents), "{which:?} of {agents}");
            }
        }
    }

    #[test]
    fn agents_share_connections_only_where_files_are_short() {
        assert_eq!(sharing(1_000, 20_000), 1);
        assert_eq!(sharing(6_600, 20_000), 1);
        assert_eq!(sharing(10_000, 20_000), 3);
        assert_eq!(sharing(10_000, 10_100), 10_000);
        assert!(open_files().expect("limits") > 0);
    }
}
