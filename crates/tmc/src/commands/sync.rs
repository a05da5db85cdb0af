//! `tmc sync`: the agent of an External SyncTarget as YAML for its cluster.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_api::agent::workload::Workload;
use tmc_api::agent::{AgentId, hub, kubeconfig as minimal, member as in_member};
use tmc_api::time::Time;
use tmc_api::workload::{SyncTarget, SyncerConfig};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;

use super::member;
use crate::assembly::kubernetes::serving::{self, CA_NAME};
use crate::cli::{Global, Output, SyncArgs, Usage};
use crate::context::{Context, explain, wait_for};
use crate::kubeconfig;
use crate::output::{self, list, text};

/// Life of the token in the YAML; the syncer renews it long before.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// Renders the agent.
///
/// # Errors
/// When the SyncTarget is none of ours to render, the hub cannot be reached from other machines, or
/// the account or its token cannot be made.
pub async fn run(global: &Global, args: &SyncArgs) -> Result<String> {
    let Output::File(file) = &args.output else {
        bail!(Usage(
            "tmc sync writes YAML: -o takes a file, or - for standard output".to_owned()
        ));
    };
    let context = Context::load(global)?;
    let target = external_target(&context, &args.name).await?;
    let origin = origin(syncer_url(&target))?;
    if is_loopback(&origin) {
        bail!(beside_the_hub(&context, &target, &origin));
    }
    let agent = agent_of(&target);
    let access = access(&context, &target, args.hub_ca.as_deref()).await?;
    let typed: SyncTarget = serde_json::from_value(target.clone())
        .with_context(|| format!("SyncTarget {}", agent.target))?;
    let config = typed.spec.syncer_config.unwrap_or_default();
    let documents = documents(&Rendering {
        agent: &agent,
        config: &config,
        access: &access,
        image: &args.image,
        synced: &synced(&target),
    });
    let yaml = yaml(&documents)?;
    if file == Path::new("-") {
        return Ok(yaml);
    }
    // It holds a credential.
    kubeconfig::write_private(file, &yaml)?;
    output::step(
        "sync",
        format!(
            "written to {0}: kubectl --kubeconfig <the cluster's> apply -f {0}",
            file.display()
        ),
    );
    Ok(String::new())
}

/// Where the syncer of a SyncTarget finds its view; empty while the hub has not said so.
fn syncer_url(target: &Value) -> &str {
    text(target, "/status/virtualWorkspaces/0/syncerURL")
}

fn agent_of(target: &Value) -> AgentId {
    let found = meta(target);
    AgentId::new(found.cluster(), found.name(), found.uid())
}

/// How the agent of a SyncTarget reaches the hub, and as whom.
pub(super) struct Access {
    /// URL of its workspace, under the address of its view.
    pub(super) url: String,
    /// The authority behind that address, PEM.
    pub(super) ca: Vec<u8>,
    /// A token of its account.
    pub(super) token: String,
}

/// The access of the agent of an External SyncTarget; `hub_ca` is a file with the authority.
///
/// # Errors
/// When the authority is not known, or the account or its token cannot be made.
pub(super) async fn access(
    context: &Context,
    target: &Value,
    hub_ca: Option<&Path>,
) -> Result<Access> {
    let agent = agent_of(target);
    Ok(Access {
        url: format!("{}/clusters/{}", origin(syncer_url(target))?, agent.cluster),
        ca: authority(context, hub_ca).await?,
        token: account(context, &agent).await?,
    })
}

/// An External SyncTarget, as soon as the hub has looked at it.
///
/// # Errors
/// When there is none of this name, or it is not External.
pub(super) async fn external_target(context: &Context, name: &str) -> Result<Value> {
    let found = member::find(context, name).await?;
    let target = found.target(context)?;
    let mode = text(target, "/spec/syncerConfig/mode");
    if mode != "External" {
        bail!(
            "the syncer of {} is {mode}: the hub runs or installs it itself; tmc sync is for targets \
             made with: tmc cluster register NAME --mode External",
            meta(target).name()
        );
    }
    let client = member::targets(context);
    let name = meta(target).name().to_owned();
    wait_for(30, || async {
        let target = client
            .get("", &name)
            .await
            .map_err(|e| explain(e, &context.workspace))?;
        let known =
            !list(&target, "/status/syncedResources").is_empty() && !syncer_url(&target).is_empty();
        Ok(if known {
            Ok(target)
        } else {
            Err(format!("the hub has not looked at SyncTarget {name} yet"))
        })
    })
    .await
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Result<String> {
    let uri: http::Uri = url
        .parse()
        .with_context(|| format!("the hub's URL {url}"))?;
    let authority = uri
        .authority()
        .with_context(|| format!("the hub's URL {url} has no host"))?;
    Ok(format!("https://{authority}"))
}

/// Whether a URL leads nowhere but to the machine that uses it.
fn is_loopback(origin: &str) -> bool {
    let uri = origin.parse::<http::Uri>().unwrap_or_default();
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Why nothing is rendered, and what works all the same.
fn beside_the_hub(context: &Context, target: &Value, origin: &str) -> String {
    let (what, start) = if context.workspaces {
        ("the hub is", "it with --external-url URL")
    } else {
        (
            "the hub's virtual workspaces are",
            "tmc controllers with --virtual-workspace-url URL",
        )
    };
    format!(
        "{what} at {origin}, which no other machine and no pod reaches: start {start}, or run this \
         syncer beside the hub:\n  {}",
        beside(target, &context.file.display().to_string())
    )
}

/// The command that runs a syncer beside the hub.
fn beside(target: &Value, hub: &str) -> String {
    format!(
        "tmc syncer --from-kubeconfig {hub} --to-kubeconfig <the cluster's> --sync-target-name {} \
         --sync-target-uid {}",
        meta(target).name(),
        meta(target).uid()
    )
}

/// Where the syncer of an External target is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In its cluster.
    Cluster,
    /// On the hub's machine: nothing else reaches the hub.
    BesideHub,
}

/// How the syncer of an External target is started: `flag` leads to its workspace, `hub` is the
/// hub's kubeconfig.
pub(crate) fn how_to_start(target: &Value, flag: &str, hub: &str) -> (Where, String) {
    let origin = origin(syncer_url(target));
    if origin.is_ok_and(|origin| is_loopback(&origin)) {
        return (Where::BesideHub, beside(target, hub));
    }
    let name = meta(target).name();
    let line = format!("tmc {flag}sync {name} | kubectl --kubeconfig <the cluster's> apply -f -");
    (Where::Cluster, line)
}

/// The remedy for an External target whose syncer was never started.
pub(crate) fn start_remedy(target: &Value, flag: &str) -> String {
    let (place, line) = how_to_start(target, flag, "<the hub's>");
    match place {
        Where::Cluster => format!("start its syncer in the cluster: {line}"),
        Where::BesideHub => format!("start its syncer beside the hub: {line}"),
    }
}

/// A token of the agent's account, which the hub makes for the SyncTarget.
async fn account(context: &Context, agent: &AgentId) -> Result<String> {
    let here = &context.workspace;
    let (name, accounts) = (agent.name(), context.resource("", "v1", "serviceaccounts"));
    wait_for(30, || async {
        match accounts.get(hub::NAMESPACE, &name).await {
            Ok(found) if agent.owns(&found) => Ok(Ok(())),
            Ok(_) => bail!(
                "ServiceAccount {name} in {here}, namespace {}, is not the agent's: remove it first",
                hub::NAMESPACE
            ),
            Err(error) if error.is_not_found() => {
                let target = &agent.target;
                Ok(Err(format!("the hub has not made the account of SyncTarget {target} yet")))
            }
            Err(error) => Err(explain(error, here)),
        }
    })
    .await?;
    output::step(
        "sync",
        format!("account {name} in {here}, namespace {}", hub::NAMESPACE),
    );
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_SECONDS},
    });
    let answer = accounts
        .create_subresource(hub::NAMESPACE, &name, "token", &request)
        .await
        .map_err(|e| explain(e, here))?;
    let token = text(&answer, "/status/token").to_owned();
    if token.is_empty() {
        bail!("the hub gave no token for {name}");
    }
    let ends = minimal::claims(&token).and_then(|c| jiff::Timestamp::from_second(c.expires).ok());
    if let Some(ends) = ends {
        let ends = Time::new(ends);
        output::step("sync", format!("token until {ends}; the syncer renews it"));
    }
    Ok(token)
}

/// The authority behind the address of views: as given, else that of the hub whose address it is, or
/// the one that is published where views have an address of their own.
async fn authority(context: &Context, given: Option<&Path>) -> Result<Vec<u8>> {
    if let Some(file) = given {
        return std::fs::read(file).with_context(|| format!("--hub-ca {}", file.display()));
    }
    if context.workspaces {
        return authority_of(&context.file);
    }
    let published = serving::published(&context.hub()).await?;
    if published.is_empty() {
        bail!(
            "the hub has no ConfigMap {CA_NAME} in namespace {0} with the CA of its virtual workspaces: \
             start tmc controllers with --serve-virtual-workspaces, or name the CA with --hub-ca FILE",
            crate::assembly::kubernetes::NAMESPACE
        );
    }
    Ok(published.into_bytes())
}

/// The authority in the current context of a kubeconfig.
fn authority_of(file: &Path) -> Result<Vec<u8>> {
    let document = kubeconfig::read(file)?;
    let chosen = kubeconfig::context(&document, &kubeconfig::current_context(&document)?);
    let cluster = kubeconfig::cluster_of(
        &document,
        &chosen.context("the current context is missing")?,
    )?;
    let data = text(&cluster, "/certificate-authority-data");
    if !data.is_empty() {
        return STANDARD.decode(data.trim()).map_err(|_| {
            anyhow!(
                "{}: certificate-authority-data is not base64",
                file.display()
            )
        });
    }
    match text(&cluster, "/certificate-authority") {
        "" => bail!(
            "{} does not tell the hub's CA: add certificate-authority-data",
            file.display()
        ),
        relative => {
            let path = file.parent().unwrap_or(Path::new(".")).join(relative);
            std::fs::read(&path)
                .with_context(|| format!("certificate-authority {}", path.display()))
        }
    }
}

/// What a SyncTarget syncs.
fn synced(target: &Value) -> Vec<GroupVersionResource> {
    let resources = list(target, "/status/syncedResources").iter();
    resources
        .filter_map(|resource| {
            let version = text(resource, "/versions/0");
            let (group, resource) = (text(resource, "/group"), text(resource, "/resource"));
            (!version.is_empty()).then(|| GroupVersionResource::new(group, version, resource))
        })
        .collect()
}

/// What the YAML is made of.
struct Rendering<'a> {
    agent: &'a AgentId,
    config: &'a SyncerConfig,
    access: &'a Access,
    image: &'a str,
    synced: &'a [GroupVersionResource],
}

/// The objects in the order to apply them.
fn documents(of: &Rendering<'_>) -> Vec<Value> {
    let namespace = of.agent.namespace(Some(of.config));
    let mut all = in_member::manifests(of.agent, &namespace, of.synced);
    let workload = Workload {
        agent: of.agent,
        namespace: &namespace,
        hub: &of.access.url,
        hub_ca: &of.access.ca,
        token: &of.access.token,
        config: of.config,
        image: of.image,
        keeps_token: true,
    };
    all.extend(workload.manifests());
    all
}

fn yaml(documents: &[Value]) -> Result<String> {
    let texts = documents
        .iter()
        .map(serde_saphyr::to_string)
        .collect::<Result<Vec<_>, _>>();
    Ok(texts.context("cannot be written as YAML")?.join("---\n"))
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use rstest::rstest;
    use tmc_runtime::Connection;

    use super::*;

    #[rstest]
    #[case("https://127.0.0.1:6443", true)]
    #[case("https://127.8.9.1", true)]
    #[case("https://[::1]:6443", true)]
    #[case("https://[::ffff:127.0.0.1]:6443", true)]
    #[case("https://LocalHost:6443", true)]
    #[case("https://10.0.0.1:6443", false)]
    #[case("https://hub.example.org", false)]
    #[case("https://localhost.example.org", false)]
    fn a_loopback_hub_is_recognised(#[case] url: &str, #[case] expected: bool) {
        assert_eq!(is_loopback(url), expected);
    }

    #[test]
    fn a_syncer_is_started_beside_a_hub_that_nothing_else_reaches() {
        let of = |url: &str| {
            json!({"metadata": {"name": "edge", "uid": "u"},
                "status": {"virtualWorkspaces": [{"syncerURL": url}]}})
        };
        let far = start_remedy(&of("https://hub.example.org/services"), "--workspace w ");
        let line = "tmc --workspace w sync edge | kubectl --kubeconfig <the cluster's> apply -f -";
        assert!(far.ends_with(line), "{far}");
        let (place, line) = how_to_start(&of("https://127.0.0.1:6443/services"), "", "f");
        assert_eq!(place, Where::BesideHub);
        assert!(
            line.starts_with("tmc syncer --from-kubeconfig f "),
            "{line}"
        );
        assert!(line.ends_with("--sync-target-name edge --sync-target-uid u"));
    }

    #[tokio::test]
    async fn the_authority_of_views_with_an_address_of_their_own_is_the_published_one() {
        let context = |published: bool| {
            let service = tower::service_fn(move |request: http::Request<Body>| async move {
                let path = "/api/v1/namespaces/kcp-system/configmaps/tmc-virtual-workspaces-ca";
                assert_eq!(request.uri().path(), path);
                let (code, body) = if published {
                    (200, json!({"data": {"ca.crt": "PEM"}}))
                } else {
                    (
                        404,
                        json!({"kind": "Status", "code": 404, "reason": "NotFound"}),
                    )
                };
                let mut answer = http::Response::new(Body::from(body.to_string().into_bytes()));
                *answer.status_mut() = http::StatusCode::from_u16(code).expect("a code");
                Ok::<_, kube::Error>(answer)
            });
            Context::bare(Connection::in_process(service), "unused".into())
        };
        let found = authority(&context(true), None).await;
        assert_eq!(found.expect("published"), b"PEM");
        let missing = authority(&context(false), None).await.unwrap_err();
        assert!(missing.to_string().contains("--hub-ca"), "{missing}");
    }

    #[tokio::test]
    async fn what_is_in_the_way_of_a_syncer_elsewhere_is_a_flag_of_what_serves_views() {
        let connection =
            Connection::in_process(tower::service_fn(|_: http::Request<Body>| async move {
                Ok::<_, kube::Error>(http::Response::new(Body::empty()))
            }));
        let mut context = Context::bare(connection, "f".into());
        let target = json!({"metadata": {"name": "edge", "uid": "u"}});
        let said = beside_the_hub(&context, &target, "https://127.0.0.1:6444");
        assert!(
            said.contains("start tmc controllers with --virtual-workspace-url"),
            "{said}"
        );
        context.workspaces = true;
        let said = beside_the_hub(&context, &target, "https://127.0.0.1:6443");
        assert!(said.contains("start it with --external-url"), "{said}");
    }

    #[test]
    fn the_origin_is_what_comes_before_the_path() {
        let url = "https://hub.example.org:6443/services/syncer/c/east/u";
        assert_eq!(origin(url).expect("a URL"), "https://hub.example.org:6443");
        assert!(origin("").is_err());
    }

    #[test]
    fn the_yaml_holds_the_objects_in_order_and_is_the_same_for_the_same_target() {
        let agent = AgentId::new("c", "east", "u");
        let rendering = Rendering {
            agent: &agent,
            config: &SyncerConfig::default(),
            access: &Access {
                url: "https://hub.example.org/clusters/c".to_owned(),
                ca: b"PEM".to_vec(),
                token: "t0ken".to_owned(),
            },
            image: "registry.example.org/tmc:1",
            synced: &[GroupVersionResource::new("apps", "v1", "deployments")],
        };
        let text = yaml(&documents(&rendering)).expect("YAML");
        assert_eq!(text, yaml(&documents(&rendering)).expect("YAML"));
        let kinds: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("kind: "))
            .collect();
        assert_eq!(
            kinds,
            [
                "Namespace",
                "ServiceAccount",
                "ClusterRole",
                "ClusterRoleBinding",
                "Role",
                "RoleBinding",
                "Secret",
                "Deployment"
            ]
        );
        assert!(
            text.contains("registry.example.org/tmc:1") && !text.contains("t0ken"),
            "{text}"
        );
    }

    #[test]
    fn what_is_synced_is_taken_from_the_target() {
        let target = json!({"status": {"syncedResources": [
            {"group": "apps", "resource": "deployments", "versions": ["v1", "v1beta1"]},
            {"resource": "services", "versions": ["v1"]},
            {"resource": "broken", "versions": []},
        ]}});
        let expected = [
            GroupVersionResource::new("apps", "v1", "deployments"),
            GroupVersionResource::new("", "v1", "services"),
        ];
        assert_eq!(synced(&target), expected);
    }
}
