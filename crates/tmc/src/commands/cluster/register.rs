//! `tmc cluster register`

mod again;
mod locations;
mod waiting;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_api::keys::KUBECONFIG_SECRET_TYPE;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, Error, PatchKind};

use self::again::{Asked, relabel};
use self::locations::{ensure_location, told_locations};
use crate::cli::{Format, Global, Mode, RegisterArgs, Usage};
use crate::commands::member::{self, NAMESPACE, WORKLOAD};
use crate::commands::sync::{self, Where};
use crate::context::{Context, explain, wait_for};
use crate::{kubeconfig, output};

/// Runs the command.
///
/// # Errors
/// A sentence for the person who typed it.
pub(super) async fn run(context: &Context, global: &Global, args: &RegisterArgs) -> Result<String> {
    let labels = labels(&args.labels)?;
    let location = args.location.as_deref();
    if args.image.is_some() && args.mode != Some(Mode::Deployment) {
        let text = "--image names what the hub installs in the cluster: it needs --mode Deployment \
                    (in mode External it is a flag of tmc sync)";
        bail!(Usage(text.to_owned()));
    }
    let asked = Asked {
        mode: args.mode,
        image: args.image.as_deref(),
    };
    let registered = match args.mode.unwrap_or_default() {
        Mode::External => {
            if args.member_kubeconfig.is_some() || args.raw || args.context.is_some() {
                let text = "--mode External gives the hub no credential: leave out \
                            --member-kubeconfig, --context and --raw";
                bail!(Usage(text.to_owned()));
            }
            again::check(context, &args.name, asked).await?;
            external(context, &args.name, location, labels).await?
        }
        mode => {
            let Some(file) = &args.member_kubeconfig else {
                bail!(Usage(format!(
                    "--mode {} needs --member-kubeconfig FILE",
                    word(mode)
                )));
            };
            let syncer = again::check(context, &args.name, asked).await?;
            let mut registration = Registration {
                name: &args.name,
                kubeconfig: "",
                location,
                labels,
            };
            let text = if args.raw {
                upload(file, args.context.as_deref())?
            } else {
                // Before anything is made in the member that would be left there.
                rehearse(context, &registration, syncer).await?;
                super::account::kubeconfig(context, &args.name, file, args.context.as_deref())
                    .await?
            };
            registration.kubeconfig = &text;
            register_as(context, &registration, syncer, Talk::Steps).await?
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

/// Who runs the syncer of a cluster that is registered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Syncer<'a> {
    /// In which way.
    pub mode: Mode,
    /// Its container image in mode Deployment; that of the hub's release if none is named.
    pub image: Option<&'a str>,
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

impl Registration<'_> {
    fn secret_name(&self) -> String {
        format!("{}-kubeconfig", self.name)
    }

    fn secret(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": KUBECONFIG_SECRET_TYPE,
            "metadata": {"name": self.secret_name(), "namespace": NAMESPACE},
            "data": {"kubeconfig": STANDARD.encode(self.kubeconfig)},
        })
    }

    /// The labels that its SyncTarget is to have, that of its Location among them.
    fn all_labels(&self) -> Value {
        let mut labels = self.labels.clone();
        if let Some(location) = self.location {
            labels["location"] = location.into();
        }
        labels
    }

    fn cluster(&self, syncer: Syncer<'_>) -> Value {
        let mut config = json!({"mode": word(syncer.mode)});
        if let Some(image) = syncer.image {
            config["image"] = image.into();
        }
        json!({
            "apiVersion": format!("{WORKLOAD}/v1alpha1"), "kind": "Cluster",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {"kubeconfigSecretRef": {"name": self.secret_name(), "key": "kubeconfig"},
                     "labels": self.all_labels(), "syncTargetTemplate": {"syncerConfig": config}},
        })
    }
}

/// What a registration led to.
pub struct Registered {
    /// None in mode External.
    pub cluster: Option<Value>,
    /// The SyncTarget.
    pub target: Value,
    /// The Locations that it is part of.
    pub locations: Vec<Value>,
}

impl Registered {
    fn render(&self, context: &Context, global: &Global) -> Result<String> {
        let objects: Vec<Value> = self
            .cluster
            .iter()
            .chain([&self.target])
            .chain(&self.locations)
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
        let file = context.file.display().to_string();
        let (place, line) = sync::how_to_start(&self.target, &context.flag(), &file);
        let place = match place {
            Where::Cluster => "in the cluster",
            Where::BesideHub => "beside the hub, which nothing else reaches",
        };
        Ok(format!("{text}\n\nrun its syncer {place}:\n  {line}"))
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
    let registered = register_as(context, registration, Syncer::default(), Talk::Nothing).await?;
    Ok(format!(
        "cluster {} is registered in {} as SyncTarget {}",
        registration.name,
        context.workspace,
        meta(&registered.target).name()
    ))
}

/// As [`register`], in a mode of the hub's own (not External); in mode Deployment returns when the
/// syncer is installed in the cluster.
///
/// # Errors
/// As there.
pub async fn register_as(
    context: &Context,
    registration: &Registration<'_>,
    syncer: Syncer<'_>,
    talk: Talk,
) -> Result<Registered> {
    let name = registration.name;
    let secret = put_secret(context, registration, talk).await?;
    let cluster = match put_cluster(context, registration, syncer, talk).await {
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
    let target = waiting::target(context, name, &cluster).await?;
    talk.step(format!("SyncTarget {}", meta(&target).name()));
    let locations = told_locations(context, registration.location, &target, talk).await?;
    let target = waiting::installation(context, name, target, talk).await?;
    Ok(Registered {
        cluster: Some(cluster),
        target,
        locations,
    })
}

/// Asks the hub whether it would take the Cluster and its Secret.
async fn rehearse(context: &Context, of: &Registration<'_>, syncer: Syncer<'_>) -> Result<()> {
    let taken = |answer: Result<(), Error>| match answer {
        Err(error) if !error.already_exists() => Err(explain(error, &context.workspace)),
        _ => Ok(()),
    };
    let clusters = member::clusters(context);
    taken(
        clusters
            .create_dry_run(NAMESPACE, &of.cluster(syncer))
            .await,
    )?;
    let secrets = context.resource("", "v1", "secrets");
    let secret = secrets.create_dry_run(NAMESPACE, &of.secret()).await;
    taken(secret.map(drop))
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
            relabel(
                &targets,
                context,
                old,
                &wanted["metadata"]["labels"],
                "metadata",
            )
            .await?
        }
        Err(error) => return Err(explain(error, here)),
    };
    if let Some(location) = location {
        ensure_location(context, location).await?;
    }
    let locations = told_locations(context, location, &target, Talk::Steps).await?;
    let target = looked_at(context, target).await;
    Ok(Registered {
        cluster: None,
        target,
        locations,
    })
}

/// A target as it is once the hub has said where its syncer finds it; as it was if that takes long.
async fn looked_at(context: &Context, target: Value) -> Value {
    let name = meta(&target).name().to_owned();
    let known = wait_for(10, || async {
        let now = member::targets(context).get("", &name).await?;
        let url = output::text(&now, "/status/virtualWorkspaces/0/syncerURL");
        Ok(if url.is_empty() {
            Err(String::new())
        } else {
            Ok(now)
        })
    });
    known.await.unwrap_or(target)
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
    let name = registration.secret_name();
    let secret = registration.secret();
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
    syncer: Syncer<'_>,
    talk: Talk,
) -> Result<Value> {
    let (name, here) = (registration.name, &context.workspace);
    let clusters = member::clusters(context);
    let cluster = registration.cluster(syncer);
    match clusters.create(NAMESPACE, &cluster).await {
        Ok(made) => {
            talk.step(format!("Cluster {name} in {here}, namespace {NAMESPACE}"));
            Ok(made)
        }
        Err(error) if error.already_exists() => {
            talk.step(format!("Cluster {name} is registered already"));
            let old = clusters
                .get(NAMESPACE, name)
                .await
                .map_err(|e| explain(e, here))?;
            relabel(&clusters, context, old, &registration.all_labels(), "spec").await
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
