//! `tmc explain KIND/NAME`: why an object runs where it does, or why not.
//!
//! Reading is here; the reasons are pure functions of what was read, in `steps`.

mod picked;
mod placing;
mod status;
mod step;
mod steps;
mod syncing;
mod times;
mod world;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_api::time::Time;
use tmc_runtime::client::{Error, ListParams, get_path};

use self::step::{Moment, Step};
use self::steps::Explanation;
use self::world::{Kind, Seen, World};
use super::member::{SCHEDULING, WORKLOAD};
use crate::cli::{ExplainArgs, Format, Global, Usage};
use crate::context::{Context, explain as in_words};
use crate::kubeconfig;
use crate::output::{self, list, text};

/// Explains an object.
///
/// # Errors
/// When there is no such kind or object, or it may not be read.
pub async fn run(global: &Global, args: &ExplainArgs) -> Result<String> {
    let Some((kind, name)) = args
        .object
        .split_once('/')
        .filter(|(_, name)| !name.is_empty())
    else {
        let text = format!("{}: write KIND/NAME, like deployment/web", args.object);
        bail!(Usage(text));
    };
    let context = Context::load(global)?;
    let kind = resolve(&context, kind).await?;
    if kind.group == SCHEDULING || kind.group == WORKLOAD {
        bail!(
            "a {} is not placed, it places: see tmc get placements and tmc cluster describe",
            kind.kind
        );
    }
    let namespace = match &args.namespace {
        Some(namespace) => namespace.clone(),
        None => kubeconfig::namespace(&kubeconfig::read(&context.file)?),
    };
    let world = read(&context, kind, name, &namespace).await?;
    let explanation = steps::explain(&world);
    if world.object.is_none() {
        let why = explanation.steps.first().map_or("", |step| &step.text);
        bail!("{why}\n{}", explanation.conclusion);
    }
    render(global.format(), &world, &explanation)
}

/// Reads what an explanation needs; what may not be read is hidden, not an error.
async fn read(context: &Context, kind: Kind, name: &str, namespace: &str) -> Result<World> {
    let here = &context.workspace;
    let namespace = if kind.namespaced { namespace } else { "" };
    let client = context.objects(&kind.group, &kind.version, &kind.resource);
    let object = optional(client.get(namespace, name).await).map_err(|e| in_words(e, here))?;
    let home = if kind.namespaced {
        let namespaces = context.objects("", "v1", "namespaces");
        optional(namespaces.get("", namespace).await).map_err(|e| in_words(e, here))?
    } else {
        object.clone()
    };
    let placements = seen(context, here, SCHEDULING, "placements").await?;
    let mut world = World {
        workspace: here.clone(),
        flags: context.flags(),
        kind,
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        object,
        home,
        placements,
        targets: BTreeMap::new(),
        now: Timestamp::now(),
    };
    let placements = world.placements.items().iter();
    let providers: BTreeSet<String> = placements
        .map(|placement| placing::provider_of(&world, placement).to_owned())
        .collect();
    for provider in providers {
        let targets = seen(context, &provider, WORKLOAD, "synctargets").await?;
        world.targets.insert(provider, targets);
    }
    Ok(world)
}

fn optional(answer: Result<Value, Error>) -> Result<Option<Value>, Error> {
    match answer {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}

async fn seen(context: &Context, workspace: &str, group: &str, resource: &str) -> Result<Seen> {
    let client = context.objects_in(workspace, group, "v1alpha1", resource);
    match client.list("", &ListParams::default()).await {
        Ok(found) => Ok(Seen::All(list(&found, "/items").to_vec())),
        Err(error) if matches!(error.code(), Some(403 | 404)) => Ok(Seen::Hidden),
        Err(error) => Err(in_words(error, workspace)),
    }
}

/// The kind that a person means: by kind, plural, singular or short name, with or without group.
async fn resolve(context: &Context, typed: &str) -> Result<Kind> {
    let client = context
        .connection
        .client(&context.prefix(&context.workspace));
    let fetch = async |path: String| -> Result<Value> {
        let body = get_path(&client, &path)
            .await
            .map_err(|e| in_words(e, &context.workspace))?;
        serde_json::from_slice(&body).with_context(|| format!("{path} is no discovery document"))
    };
    let core = fetch("/api/v1".into()).await?;
    if let Some(kind) = named(&core, typed) {
        return Ok(kind);
    }
    let groups = fetch("/apis".into()).await?;
    for group in list(&groups, "/groups") {
        let name = text(group, "/name");
        if typed
            .split_once('.')
            .is_some_and(|(_, wanted)| wanted != name)
        {
            continue;
        }
        let preferred = text(group, "/preferredVersion/groupVersion");
        // A group that cannot be read does not keep the others from being found.
        let Ok(resources) = fetch(format!("/apis/{preferred}")).await else {
            continue;
        };
        if let Some(kind) = named(&resources, typed) {
            return Ok(kind);
        }
    }
    Err(anyhow!(
        "workspace {} has no kind called {typed}; see what there is: kubectl api-resources",
        context.workspace
    ))
}

/// The resource of a discovery document that is called so.
fn named(resources: &Value, typed: &str) -> Option<Kind> {
    let (group, version) = text(resources, "/groupVersion")
        .rsplit_once('/')
        .unwrap_or(("", "v1"));
    let typed = typed.to_lowercase();
    let (short, wanted_group) = typed.split_once('.').unwrap_or((&typed, group));
    if wanted_group != group || short.is_empty() {
        return None;
    }
    let called = |resource: &&Value| {
        let names = ["/name", "/singularName", "/kind"].map(|p| text(resource, p).to_lowercase());
        let is_short = list(resource, "/shortNames")
            .iter()
            .any(|name| name == short);
        !text(resource, "/name").contains('/')
            && (is_short || names.iter().any(|name| name == short))
    };
    let found = list(resources, "/resources").iter().find(called)?;
    Some(Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: text(found, "/name").to_owned(),
        kind: text(found, "/kind").to_owned(),
        namespaced: found["namespaced"] == true,
    })
}

fn render(format: Format, world: &World, explanation: &Explanation) -> Result<String> {
    match format {
        Format::Table => Ok(table(world, explanation)),
        Format::Json => Ok(serde_json::to_string_pretty(&document(world, explanation))?),
        Format::Yaml => serde_saphyr::to_string(&document(world, explanation))
            .context("cannot be written as YAML"),
        Format::Name => Ok(format!("{}/{}", world.kind.kind.to_lowercase(), world.name)),
    }
}

fn table(world: &World, explanation: &Explanation) -> String {
    let row = |step: &Step| {
        let since = step.moment.map(|moment| moment.age(world.now));
        vec![
            step.mark.sign().to_owned(),
            step.name.to_owned(),
            step.target.clone(),
            since.unwrap_or_default(),
            step.reason.clone(),
            step.text.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = explanation.steps.iter().map(row).collect();
    format!(
        "{} of workspace {}\n\n{}\n\n{}",
        world.subject(),
        world.workspace,
        output::table(&["", "STEP", "TARGET", "SINCE", "REASON", "WHAT"], &rows),
        explanation.conclusion
    )
}

fn document(world: &World, explanation: &Explanation) -> Value {
    let step = |step: &Step| {
        let mut out = json!({
            "step": step.name, "state": step.mark.word(), "reason": step.reason,
            "message": step.text,
        });
        for (key, text) in [("syncTarget", &step.target), ("advice", &step.advice)] {
            if !text.is_empty() {
                out[key] = text.as_str().into();
            }
        }
        if let Some((key, at)) = step.moment.map(Moment::member) {
            out[key] = Time::new(at).to_string().into();
        }
        out
    };
    json!({
        "workspace": world.workspace, "kind": world.kind.kind, "name": world.name,
        "namespace": world.namespace,
        "steps": explanation.steps.iter().map(step).collect::<Vec<_>>(),
        "conclusion": explanation.conclusion,
    })
}
