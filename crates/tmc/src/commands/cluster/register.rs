//! `tmc cluster register`

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_api::keys::KUBECONFIG_SECRET_TYPE;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, PatchKind};

use crate::cli::{Format, Global, Mode, RegisterArgs, Usage};
use crate::commands::member::{self, NAMESPACE, SCHEDULING, WORKLOAD};
use crate::context::{Context, ensure, explain, wait_for};
use crate::{kubeconfig, output};

/// Runs the command.
///
/// # Errors
/// A sentence for the person who typed it.
pub(super) async fn run(context: &Context, global: &Global, args: &RegisterArgs) -> Result<String> {
    let labels = labels(&args.labels)?;
    let location = args.location.as_deref();
    let registered = match args.mode.unwrap_or_default() {
        Mode::External => {
            if args.member_kubeconfig.is_some() || args.raw || args.context.is_some() {
                let text = "--mode External gives the hub no credential: leave out \
                            --member-kubeconfig, --context and --raw";
                bail!(Usage(text.to_owned()));
            }
            external(context, &args.name, location, labels).await?
        }
        mode => {
            let Some(file) = &args.member_kubeconfig else {
                bail!(Usage(format!(
                    "--mode {} needs --member-kubeconfig FILE",
                    word(mode)
                )));
            };
            let text = if args.raw {
                upload(file, args.context.as_deref())?
            } else {
                super::account::kubeconfig(context, &args.name, file, args.context.as_deref())
                    .await?
            };
            let registration = Registration {
                name: &args.name,
                kubeconfig: &text,
                location,
                labels,
            };
            register_as(context, &registration, mode, Talk::Steps).await?
        }
    };
    registered.render(context, global)
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Hosted => "Hosted",
        Mode::Deployment => "Deployment",
        Mode::External => "External",
    }
}

/// The kubeconfig to upload: as it is, with `--context` made current.
fn upload(file: &std::path::Path, context: Option<&str>) -> Result<String> {
    let Some(wanted) = context else {
        return std::fs::read_to_string(file)
            .with_context(|| format!("cannot read --member-kubeconfig {}", file.display()));
    };
    let mut document = kubeconfig::read(file)?;
    if kubeconfig::context(&document, wanted).is_none() {
        bail!("--context {wanted}: {} has no such context", file.display());
    }
    document["current-context"] = wanted.into();
    serde_saphyr::to_string(&document).context("cannot be written as YAML")
}

fn labels(pairs: &[String]) -> Result<Value> {
    let mut labels = serde_json::Map::new();
    for pair in pairs.iter().filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Usage(format!("--labels {pair}: write key=value")))?;
        labels.insert(key.to_owned(), value.into());
    }
    Ok(Value::Object(labels))
}

/// A cluster to register.
pub struct Registration<'a> {
    /// Name of the Cluster.
    pub name: &'a str,
    /// Its kubeconfig.
    pub kubeconfig: &'a str,
    /// Location to make it part of.
    pub location: Option<&'a str>,
    /// Labels of its SyncTarget.
    pub labels: Value,
}

/// What a registration led to.
pub struct Registered {
    /// None in mode External.
    pub cluster: Option<Value>,
    /// The SyncTarget.
    pub target: Value,
    /// The Location that it is part of.
    pub location: Value,
}

impl Registered {
    fn render(&self, context: &Context, global: &Global) -> Result<String> {
        let objects: Vec<Value> = self
            .cluster
            .iter()
            .chain([&self.target, &self.location])
            .cloned()
            .collect();
        let headers = ["KIND", "NAME", "WHERE"];
        let text = output::objects(global.format(), &objects, &headers, |object| {
            let place = match meta(object).namespace() {
                "" => context.workspace.clone(),
                namespace => format!("{}, namespace {namespace}", context.workspace),
            };
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            vec![kind, meta(object).name().to_owned(), place]
        })?;
        if self.cluster.is_some() || global.format() != Format::Table {
            return Ok(text);
        }
        Ok(format!(
            "{text}\n\nrun its syncer in the cluster:\n  tmc --workspace {} sync {} | kubectl apply -f -",
            context.workspace,
            meta(&self.target).name()
        ))
    }
}

/// How much is said on stderr while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Each step.
    Steps,
    /// Nothing: the caller has a way of its own.
    Nothing,
}

impl Talk {
    fn step(self, text: impl std::fmt::Display) {
        if self == Self::Steps {
            output::step("hub", text);
        }
    }
}

/// Makes Secret, Cluster and Location; returns when SyncTarget and Location exist, in mode Hosted.
/// Says nothing meanwhile.
///
/// # Errors
/// When the hub refuses one of them, or the kubeconfig.
pub async fn register(context: &Context, registration: &Registration<'_>) -> Result<String> {
    let registered = register_as(context, registration, Mode::Hosted, Talk::Nothing).await?;
    Ok(format!(
        "cluster {} is registered in {} as SyncTarget {}",
        registration.name,
        context.workspace,
        meta(&registered.target).name()
    ))
}

/// As [`register`], in a mode of the hub's own (not External).
///
/// # Errors
/// As there.
pub async fn register_as(
    context: &Context,
    registration: &Registration<'_>,
    mode: Mode,
    talk: Talk,
) -> Result<Registered> {
    let name = registration.name;
    let secret = put_secret(context, registration, talk).await?;
    let cluster = match put_cluster(context, registration, mode, talk).await {
        Ok(cluster) => cluster,
        Err(error) => {
            forget(context, &secret).await;
            return Err(error);
        }
    };
    own_secret(context, &secret, &cluster).await?;
    if let Some(location) = registration.location {
        ensure_location(context, location).await?;
    }
    let target = wait_for_target(context, name, &cluster).await?;
    talk.step(format!("SyncTarget {}", meta(&target).name()));
    let location = wait_for_location(context, registration.location.unwrap_or("default")).await?;
    talk.step(format!("Location {}", meta(&location).name()));
    Ok(Registered {
        cluster: Some(cluster),
        target,
        location,
    })
}

/// Makes a SyncTarget that somebody else runs the syncer of.
async fn external(
    context: &Context,
    name: &str,
    location: Option<&str>,
    mut labels: Value,
) -> Result<Registered> {
    let here = &context.workspace;
    if let Some(location) = location {
        labels["location"] = location.into();
    }
    let wanted = json!({
        "apiVersion": format!("{WORKLOAD}/v1alpha1"), "kind": "SyncTarget",
        "metadata": {"name": name, "labels": labels},
        "spec": {"syncerConfig": {"mode": "External"}},
    });
    let targets = member::targets(context);
    let target = match targets.create("", &wanted).await {
        Ok(target) => {
            output::step("hub", format!("SyncTarget {name} in {here}, mode External"));
            target
        }
        Err(error) if error.already_exists() => {
            let old = targets.get("", name).await.map_err(|e| explain(e, here))?;
            if old["spec"]["syncerConfig"]["mode"] != "External" {
                bail!("SyncTarget {name} exists and is not External: choose another name");
            }
            output::step("hub", format!("SyncTarget {name} is registered already"));
            old
        }
        Err(error) => return Err(explain(error, here)),
    };
    if let Some(location) = location {
        ensure_location(context, location).await?;
    }
    let location = wait_for_location(context, location.unwrap_or("default")).await?;
    output::step("hub", format!("Location {}", meta(&location).name()));
    Ok(Registered {
        cluster: None,
        target,
        location,
    })
}

/// What the hub answered to the Secret.
struct PutSecret {
    object: Value,
    /// Made just now: nobody else knows of it.
    new: bool,
}

async fn put_secret(
    context: &Context,
    registration: &Registration<'_>,
    talk: Talk,
) -> Result<PutSecret> {
    let here = &context.workspace;
    let name = format!("{}-kubeconfig", registration.name);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": KUBECONFIG_SECRET_TYPE,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {"kubeconfig": STANDARD.encode(registration.kubeconfig)},
    });
    let secrets = context.resource("", "v1", "secrets");
    match secrets.create(NAMESPACE, &secret).await {
        Ok(object) => {
            talk.step(format!("Secret {name} in {here}, namespace {NAMESPACE}"));
            return Ok(PutSecret { object, new: true });
        }
        Err(error) if error.already_exists() => {}
        Err(error) => return Err(explain(error, here)),
    }
    let old = secrets
        .get(NAMESPACE, &name)
        .await
        .map_err(|e| explain(e, here))?;
    if old["type"] != KUBECONFIG_SECRET_TYPE {
        bail!(
            "Secret {name} in namespace {NAMESPACE} of {here} exists and holds something else: \
             remove it, or register under another name"
        );
    }
    let fresh = json!({"data": secret["data"]});
    let object = secrets
        .patch(NAMESPACE, &name, "", PatchKind::Merge, &fresh)
        .await
        .map_err(|e| explain(e, here))?;
    let changed = if old["data"] == secret["data"] {
        "unchanged"
    } else {
        "renewed"
    };
    talk.step(format!(
        "Secret {name} in {here}, namespace {NAMESPACE}: {changed}"
    ));
    Ok(PutSecret { object, new: false })
}

/// Takes a Secret back whose Cluster could not be made.
async fn forget(context: &Context, secret: &PutSecret) {
    if !secret.new {
        return;
    }
    let exactly = DeleteParams {
        uid: Some(meta(&secret.object).uid().to_owned()),
        ..DeleteParams::default()
    };
    let secrets = context.resource("", "v1", "secrets");
    // The error that led here is the one to tell.
    let _ = secrets
        .delete(NAMESPACE, meta(&secret.object).name(), &exactly)
        .await;
}

async fn put_cluster(
    context: &Context,
    registration: &Registration<'_>,
    mode: Mode,
    talk: Talk,
) -> Result<Value> {
    let (name, here) = (registration.name, &context.workspace);
    let mut labels = registration.labels.clone();
    if let Some(location) = registration.location {
        labels["location"] = location.into();
    }
    let cluster = json!({
        "apiVersion": format!("{WORKLOAD}/v1alpha1"), "kind": "Cluster",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"kubeconfigSecretRef": {"name": format!("{name}-kubeconfig"), "key": "kubeconfig"},
                 "labels": labels, "syncTargetTemplate": {"syncerConfig": {"mode": word(mode)}}},
    });
    let clusters = member::clusters(context);
    match clusters.create(NAMESPACE, &cluster).await {
        Ok(made) => {
            talk.step(format!("Cluster {name} in {here}, namespace {NAMESPACE}"));
            Ok(made)
        }
        Err(error) if error.already_exists() => {
            talk.step(format!("Cluster {name} is registered already"));
            clusters
                .get(NAMESPACE, name)
                .await
                .map_err(|e| explain(e, here))
        }
        Err(error) => Err(explain(error, here)),
    }
}

/// Lets the Secret go with its Cluster.
async fn own_secret(context: &Context, secret: &PutSecret, cluster: &Value) -> Result<()> {
    let owner = json!([{
        "apiVersion": format!("{WORKLOAD}/v1alpha1"), "kind": "Cluster",
        "name": meta(cluster).name(), "uid": meta(cluster).uid(),
    }]);
    if secret.object["metadata"]["ownerReferences"] == owner {
        return Ok(());
    }
    let patch = json!({"metadata": {"ownerReferences": owner}});
    context
        .resource("", "v1", "secrets")
        .patch(
            NAMESPACE,
            meta(&secret.object).name(),
            "",
            PatchKind::Merge,
            &patch,
        )
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    Ok(())
}

/// Waits until the Cluster has led to a SyncTarget. A kubeconfig that the hub refuses ends it; that
/// an earlier one was refused does not.
async fn wait_for_target(context: &Context, name: &str, before: &Value) -> Result<Value> {
    let here = &context.workspace;
    let old = output::find_condition(before, "CredentialsValid").cloned();
    let started = tokio::time::Instant::now();
    let found = wait_for(30, || async {
        let found = member::clusters(context)
            .get(NAMESPACE, name)
            .await
            .map_err(|e| explain(e, here))?;
        let now = output::find_condition(&found, "CredentialsValid");
        let news = now != old.as_ref() || started.elapsed().as_secs() >= 3;
        if output::condition(&found, "CredentialsValid") == "False" && news {
            bail!(
                "the kubeconfig is refused: {}",
                output::why(&found, "CredentialsValid")
            );
        }
        let target = output::text(&found, "/status/syncTargetRef/name").to_owned();
        Ok(if target.is_empty() {
            let why = output::why(&found, "Connected");
            Err(format!("cluster {name} has no SyncTarget yet ({why})"))
        } else {
            Ok(target)
        })
    })
    .await?;
    member::targets(context)
        .get("", &found)
        .await
        .map_err(|e| explain(e, here))
}

async fn ensure_location(context: &Context, name: &str) -> Result<()> {
    let location = json!({
        "apiVersion": format!("{SCHEDULING}/v1alpha1"), "kind": "Location",
        "metadata": {"name": name, "labels": {"location": name}},
        "spec": {
            "resource": {"group": WORKLOAD, "version": "v1alpha1", "resource": "synctargets"},
            "instanceSelector": {"matchLabels": {"location": name}},
        },
    });
    let locations = context.resource(SCHEDULING, "v1alpha1", "locations");
    ensure(&locations, "", &location)
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    Ok(())
}

async fn wait_for_location(context: &Context, name: &str) -> Result<Value> {
    let locations = context.resource(SCHEDULING, "v1alpha1", "locations");
    let found = wait_for(30, || async {
        match locations.get("", name).await {
            Ok(location) => Ok(Ok(location)),
            Err(error) if error.is_not_found() => {
                Ok(Err(format!("there is no Location {name} yet")))
            }
            Err(error) => Err(explain(error, &context.workspace)),
        }
    })
    .await
    .map_err(|error| anyhow!("{error}"))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        let pairs = ["a=b".to_owned(), "c=".to_owned()];
        assert_eq!(labels(&pairs).expect("labels"), json!({"a": "b", "c": ""}));
        let error = labels(&["a".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("key=value"));
        assert!(error.is::<Usage>(), "a mistake of typing exits with 2");
    }
}
