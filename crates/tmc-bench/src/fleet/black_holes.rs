//! Clusters that take a connection and never say a word, and what they do to those that answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tmc::commands::cluster::{Registration, register};
use tmc_server::tls::{CertificateAuthority, Validity};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::hub::OwnHub;
use crate::in_tls::{self, InTls};
use crate::member::Cluster;

/// Clusters that answer.
const HEALTHY: usize = 5;
/// Between two looks at one of them, as chance stretches the interval.
const LONGEST_INTERVAL: Duration = Duration::from_secs(72);

/// The longest times for which clusters that answer were not looked at.
pub(super) struct Gaps {
    /// Beside black holes.
    pub(super) beside: Duration,
    /// On a hub of their own, in the same time.
    pub(super) alone: Duration,
}

/// Two hubs with as many healthy clusters, one of them with black holes too, for so long.
///
/// # Errors
/// When a cluster cannot be registered, or one that answers is not looked at as often as the window has
/// room for.
pub(super) async fn gaps(black_holes: usize, window: Duration) -> Result<Gaps> {
    let (beside, alone) = tokio::try_join!(Probed::start(), Probed::start())?;
    let hole = BlackHole::open().await?;
    hole.register(&beside.hub, black_holes).await?;
    tokio::time::sleep(window).await;
    Ok(Gaps {
        beside: beside.longest_gap(window)?,
        alone: alone.longest_gap(window)?,
    })
}

/// A hub with clusters that answer.
struct Probed {
    hub: OwnHub,
    served: Vec<InTls>,
    // They answer through it.
    _members: Vec<Cluster>,
}

impl Probed {
    async fn start() -> Result<Self> {
        let hub = OwnHub::start().await?;
        let (mut served, mut members) = (Vec::new(), Vec::new());
        for index in 0..HEALTHY {
            let member = Cluster::simulated().await?;
            let door = InTls::serve(member.connection().clone()).await?;
            register_at(&hub, &format!("healthy-{index}"), &door.kubeconfig).await?;
            served.push(door);
            members.push(member);
        }
        Ok(Self {
            hub,
            served,
            _members: members,
        })
    }

    /// The longest time between two looks at one cluster, the time since its last one included.
    fn longest_gap(&self, window: Duration) -> Result<Duration> {
        let now = Instant::now();
        let mut longest = Duration::ZERO;
        for door in &self.served {
            let mut times = door.asked_for_version();
            // The last look before the window begins what the window shows the end of.
            let before = times.partition_point(|time| now.duration_since(*time) >= window);
            let within = times.len() - before;
            times.drain(..before.saturating_sub(1));
            ensure!(
                within >= least_looks(window) && !times.is_empty(),
                "a cluster was looked at {within} times"
            );
            times.push(now);
            let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
            longest = gaps.fold(longest, Duration::max);
        }
        Ok(longest)
    }
}

/// How often a cluster that answers is looked at in a window at least.
fn least_looks(window: Duration) -> usize {
    let whole = window.as_secs() / LONGEST_INTERVAL.as_secs();
    usize::try_from(whole).unwrap_or(usize::MAX)
}

async fn register_at(hub: &OwnHub, name: &str, kubeconfig: &str) -> Result<()> {
    let registration = Registration {
        name,
        kubeconfig,
        location: None,
        labels: json!({}),
    };
    register(&hub.context("root:compute"), &registration)
        .await
        .with_context(|| format!("{name} cannot be registered"))?;
    Ok(())
}

/// A port at which connections are taken and held.
struct BlackHole {
    kubeconfig: String,
    holding: JoinHandle<()>,
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.holding.abort();
    }
}

impl BlackHole {
    async fn open() -> Result<Self> {
        const DAY: Duration = Duration::from_secs(86_400);
        let authority = CertificateAuthority::generate("nobody", Validity::starting_now(DAY))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("https://{}", listener.local_addr()?);
        let holding = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(taken) = listener.accept().await {
                held.push(taken);
            }
        });
        Ok(Self {
            kubeconfig: in_tls::kubeconfig(&url, &authority, "nobody's"),
            holding,
        })
    }

    /// Registers it under so many names. `register` would wait for SyncTargets, which a cluster that
    /// never answered has not.
    async fn register(&self, hub: &OwnHub, count: usize) -> Result<()> {
        let context = hub.context("root:compute");
        let secrets = context.resource("", "v1", "secrets");
        let clusters = context.resource("workload.kcp.io", "v1alpha1", "clusters");
        for index in 0..count {
            let (name, secret_name) = (format!("hole-{index}"), format!("hole-{index}-kubeconfig"));
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "tmc.kcp.io/kubeconfig",
                "metadata": {"name": secret_name},
                "data": {"kubeconfig": STANDARD.encode(&self.kubeconfig)},
            });
            let cluster = json!({
                "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
                "metadata": {"name": name},
                "spec": {"kubeconfigSecretRef": {"name": secret_name}},
            });
            secrets.create("default", &secret).await?;
            clusters.create("default", &cluster).await?;
        }
        Ok(())
    }
}
