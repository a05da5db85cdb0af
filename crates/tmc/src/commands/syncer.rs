//! `tmc syncer`

mod renewal;
mod way;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use tmc_api::agent::AgentId;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::lease::{Election, ElectionOptions, Moments, Times};
use tmc_runtime::{
    Bounds, Clock, Connection, Endpoint, Jitter, ResourceClient, Switch, SystemDialer,
};
use tmc_syncer::{Agent, AgentOptions, REPORT_EVERY, Target, replicas};
use tokio_util::sync::CancellationToken;

use self::renewal::{Kept, Renewal};
use self::way::Way;
use super::start::StopSignal;
use crate::cli::SyncerArgs;

/// Runs an agent until it is told to stop, or the hub says that it has no business any more.
///
/// # Errors
/// A sentence naming what cannot be used, or why the hub ended it.
pub async fn run(args: &SyncerArgs) -> Result<()> {
    let given = Way::given(args)?;
    let downstream = connection(
        "--to-kubeconfig",
        &args.to_kubeconfig,
        args.to_context.as_deref(),
    )?;
    let (way, target) = given.leading_to_views(args).await?;
    let (switch, upstream) = Switch::new(way.connection.clone());
    let (target, pod_security) = described(&target)?;
    eprintln!("syncing SyncTarget {} ({})", target.name, target.cluster);
    let context = way.context.clone();
    let renewal = renewal(args, way, &upstream, switch, &downstream);
    let identity = identity(args.identity.as_deref());
    let election = match &args.lease_namespace {
        Some(namespace) => Some(election(namespace, &target, &identity, &downstream)?),
        None => None,
    };
    let options = AgentOptions {
        target,
        upstream,
        downstream,
        identity,
        pod_security,
        workers: usize::from(args.workers),
        namespace_delay: Duration::from_secs(args.downstream_namespace_clean_delay),
        report_every: REPORT_EVERY,
        clock: Clock::system(),
        jitter: Jitter::random(),
    };
    let stop = CancellationToken::new();
    if let Some(renewal) = renewal {
        let stop = stop.clone();
        tokio::spawn(async move { renewal.run(context.as_deref(), stop).await });
    }
    let ended = stop.clone();
    let mut signals = StopSignal::listen()?;
    tokio::spawn(async move {
        signals.received().await;
        ended.cancel();
    });
    let ended = match election {
        Some(election) => replicas::run(options, election, stop).await,
        None => Agent::new(options).run(stop).await,
    };
    ended.map_err(|error| anyhow!("the hub ended this syncer: {error}"))
}

/// The election of the one replica that syncs.
fn election(
    namespace: &str,
    target: &Target,
    identity: &str,
    member: &Connection,
) -> Result<Election> {
    let agent = AgentId::new(target.cluster.as_str(), &target.name, &target.uid);
    let options = ElectionOptions {
        namespace: namespace.to_owned(),
        name: agent.lease(),
        identity: identity.to_owned(),
        times: Times::default(),
        clock: Moments::system(),
        jitter: Jitter::random(),
    };
    eprintln!("standing for Lease {namespace}/{}", options.name);
    let election = Election::over(member.base_client(), options).map_err(|why| anyhow!(why))?;
    Ok(election.marked(agent.lease_marks()))
}

/// The way into the member, which is not trusted to stop.
fn connection(flag: &str, file: &Path, context: Option<&str>) -> Result<Connection> {
    Ok(connect(flag, &endpoint(flag, file, context)?)?.bounded(Bounds::MEMBER))
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
    way: Way,
    upstream: &Connection,
    switch: Switch,
    member: &Connection,
) -> Option<Renewal> {
    let claims = renewal::renewable(&way.kubeconfig, way.context.as_deref())?;
    let kept = args.keep_token_in.as_ref().map(|(namespace, name)| Kept {
        member: member.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
    });
    Some(Renewal {
        endpoint: way.endpoint,
        kubeconfig: way.kubeconfig,
        claims,
        upstream: upstream.clone(),
        switch,
        kept,
    })
}

/// The SyncTarget, which must be exactly the one named.
async fn find_target(upstream: &Connection, args: &SyncerArgs) -> Result<Value> {
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
    Ok(object)
}

/// Which SyncTarget it is, and what its namespaces in the member let pods do.
fn described(object: &Value) -> Result<(Target, String)> {
    let found = meta(object);
    let name = found.name();
    let Some(cluster) = ClusterName::parse(found.cluster()) else {
        bail!("SyncTarget {name} does not tell its logical cluster (annotation kcp.io/cluster)");
    };
    let level = object.pointer("/spec/podSecurity").and_then(Value::as_str);
    let target = Target {
        cluster,
        name: name.to_owned(),
        uid: found.uid().to_owned(),
    };
    Ok((target, level.unwrap_or("baseline").to_owned()))
}

/// Longest part of an identity that is given: with the part that differs, a DNS subdomain.
const MAX_NAME: usize = 253 - 9;

/// The replica's name: what was given or the host's, with a part that differs at each start, because
/// beats of one identity count upwards, and a term belongs to one start.
fn identity(given: Option<&str>) -> String {
    let host = given
        .map(str::to_owned)
        .or_else(|| std::env::var("HOSTNAME").ok());
    let run = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}", subdomain(&host.unwrap_or_default()), &run[..8])
}

/// A name as (the beginning of) a DNS subdomain.
fn subdomain(name: &str) -> String {
    let lower = name.to_lowercase();
    let labels = lower.split('.').map(|label| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        label.chars().map(plain).collect::<String>()
    });
    let labels: Vec<String> = labels
        .map(|label| label.trim_matches('-').to_owned())
        .filter(|label| !label.is_empty())
        .collect();
    let mut name = labels.join(".");
    name.truncate(MAX_NAME);
    match name.trim_end_matches(['-', '.']) {
        "" => "syncer".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("kcp-syncer-east-0-7d9f-abcde", "kcp-syncer-east-0-7d9f-abcde")]
    #[case("Laptop.Example.ORG", "laptop.example.org")]
    #[case("my_machine (2)", "my-machine--2")]
    #[case("-a-..b.", "a.b")]
    #[case("", "syncer")]
    #[case("___", "syncer")]
    fn a_replica_is_called_as_its_host_as_far_as_a_subdomain_can(
        #[case] host: &str,
        #[case] name: &str,
    ) {
        assert_eq!(subdomain(host), name);
    }

    #[test]
    fn an_identity_differs_at_each_start_and_is_never_too_long() {
        let (one, two) = (identity(Some("pod-a")), identity(Some("pod-a")));
        assert!(one.starts_with("pod-a-") && one != two, "{one} {two}");
        assert_eq!(identity(Some(&"x.".repeat(200))).len(), 252);
        assert_eq!(identity(Some(&"x".repeat(300))).len(), 253);
    }
}
