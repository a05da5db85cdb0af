//! `tmc syncer`

mod renewal;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::{Clock, Connection, Endpoint, Jitter, ResourceClient, Switch, SystemDialer};
use tmc_syncer::{Agent, AgentOptions, Target};
use tokio_util::sync::CancellationToken;

use self::renewal::{Kept, Renewal};
use super::start::StopSignal;
use crate::cli::SyncerArgs;

/// Runs an agent until it is told to stop, or the hub says that it has no business any more.
///
/// # Errors
/// A sentence naming what cannot be used, or why the hub ended it.
pub async fn run(args: &SyncerArgs) -> Result<()> {
    let context = args.from_context.as_deref();
    let endpoint = endpoint("--from-kubeconfig", &args.from_kubeconfig, context)?;
    let (switch, upstream) = Switch::new(connect("--from-kubeconfig", &endpoint)?);
    let downstream = connection(
        "--to-kubeconfig",
        &args.to_kubeconfig,
        args.to_context.as_deref(),
    )?;
    let (target, pod_security) = find_target(&upstream, args).await?;
    eprintln!("syncing SyncTarget {} ({})", target.name, target.cluster);
    let renewal = renewal(args, endpoint, &upstream, switch, &downstream)?;
    let agent = Agent::new(AgentOptions {
        target,
        upstream,
        downstream,
        identity: identity(args.identity.as_deref()),
        pod_security,
        workers: usize::from(args.workers),
        namespace_delay: Duration::from_secs(args.downstream_namespace_clean_delay),
        clock: Clock::system(),
        jitter: Jitter::random(),
    });
    let stop = CancellationToken::new();
    if let Some(renewal) = renewal {
        let (context, stop) = (args.from_context.clone(), stop.clone());
        tokio::spawn(async move { renewal.run(context.as_deref(), stop).await });
    }
    let ended = stop.clone();
    let mut signals = StopSignal::listen()?;
    tokio::spawn(async move {
        signals.received().await;
        ended.cancel();
    });
    agent
        .run(stop)
        .await
        .map_err(|error| anyhow!("the hub ended this syncer: {error}"))
}

fn connection(flag: &str, file: &Path, context: Option<&str>) -> Result<Connection> {
    connect(flag, &endpoint(flag, file, context)?)
}

fn endpoint(flag: &str, file: &Path, context: Option<&str>) -> Result<Endpoint> {
    let kubeconfig = crate::kubeconfig::load(flag, file)?;
    Endpoint::from_kubeconfig(&kubeconfig, context)
        .map_err(|error| anyhow!("{flag} {}: {error}", file.display()))
}

fn connect(flag: &str, endpoint: &Endpoint) -> Result<Connection> {
    Connection::https(endpoint, Arc::new(SystemDialer)).map_err(|error| anyhow!("{flag}: {error}"))
}

/// The renewal of the token for the hub, if it is one that can be renewed.
fn renewal(
    args: &SyncerArgs,
    endpoint: Endpoint,
    upstream: &Connection,
    switch: Switch,
    member: &Connection,
) -> Result<Option<Renewal>> {
    let kubeconfig = crate::kubeconfig::read(&args.from_kubeconfig)?;
    let claims = renewal::renewable(&kubeconfig, args.from_context.as_deref());
    let kept = args.keep_token_in.as_ref().map(|(namespace, name)| Kept {
        member: member.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
    });
    Ok(claims.map(|claims| Renewal {
        endpoint,
        kubeconfig,
        claims,
        upstream: upstream.clone(),
        switch,
        kept,
    }))
}

/// The SyncTarget, which must be exactly the one named.
async fn find_target(upstream: &Connection, args: &SyncerArgs) -> Result<(Target, String)> {
    let gvr = GroupVersionResource::new("workload.kcp.io", "v1alpha1", "synctargets");
    let client = ResourceClient::new(upstream.base_client(), gvr);
    let name = &args.sync_target_name;
    let object = client
        .get("", name)
        .await
        .map_err(|error| anyhow!("SyncTarget {name}: {error}"))?;
    let found = meta(&object);
    if found.uid() != args.sync_target_uid {
        bail!(
            "SyncTarget {name} has uid {}, not {}: it was made again; use the new uid",
            found.uid(),
            args.sync_target_uid
        );
    }
    let Some(cluster) = ClusterName::parse(found.cluster()) else {
        bail!("SyncTarget {name} does not tell its logical cluster (annotation kcp.io/cluster)");
    };
    let level = object
        .pointer("/spec/podSecurity")
        .and_then(serde_json::Value::as_str);
    let target = Target {
        cluster,
        name: name.clone(),
        uid: args.sync_target_uid.clone(),
    };
    Ok((target, level.unwrap_or("baseline").to_owned()))
}

/// The replica's name: what was given or the host's, with a part that differs at each start, because
/// beats of one identity count upwards.
fn identity(given: Option<&str>) -> String {
    let host = given
        .map(str::to_owned)
        .or_else(|| std::env::var("HOSTNAME").ok());
    let host = host
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| "syncer".into());
    let run = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}", host.to_lowercase(), &run[..8])
}
