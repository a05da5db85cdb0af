//! `tmc doctor`: what is wrong with hub, clusters and placements, a line each, with the remedy.
//!
//! Reading is here; what it means is in `findings` and `tombstones`.

mod findings;
mod tombstones;

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http::header::DATE;
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use serde_json::{Value, json};
use tmc_api::keys::state_label;
use tmc_apimachinery::meta::meta;
use tmc_controllers::synctarget::tombstone::TOMBSTONE_LABEL;
use tmc_runtime::client::{Error, ListParams};

use self::findings::{Finding, Here, Mark};
use super::member::{SCHEDULING, WORKLOAD};
use crate::cli::{Format, Global};
use crate::context::{Context, Paths};
use crate::kubeconfig;
use crate::output::{self, list};

/// How long the hub may take to answer the first question.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of how many lost targets stuck objects are looked for.
const MAX_LOST: usize = 20;
/// How many objects of one resource are looked at for each.
const PAGE: u32 = 500;

/// Looks everything over; the findings as text, and whether nothing is wrong.
///
/// # Errors
/// When the findings cannot be printed: what is wrong is a finding, not an error.
pub async fn run(global: &Global) -> Result<(String, bool)> {
    let findings = examine(global).await;
    let well = findings.iter().all(|finding| finding.mark < Mark::Bad);
    Ok((render(global.format(), &findings)?, well))
}

async fn examine(global: &Global) -> Vec<Finding> {
    let mut findings = Vec::new();
    let context = match Context::load(global) {
        Ok(context) => context,
        Err(error) => {
            return vec![findings::no_kubeconfig(format!("{error:#}"))];
        }
    };
    let file = context.file.display();
    findings.push(Finding::well(
        "kubeconfig",
        format!("{file}, workspace {}", context.workspace),
    ));
    findings.extend(credential(&context, Timestamp::now()));
    match hub(&context).await {
        Ok(found) => findings.extend(found),
        Err(found) => {
            findings.push(*found);
            return findings;
        }
    }
    match fleet(&context).await {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::bad("hub", format!("{error:#}"), "try again")),
    }
    findings
}

/// The certificate or token in the kubeconfig, if it tells its end.
fn credential(context: &Context, now: Timestamp) -> Option<Finding> {
    let document = kubeconfig::read(&context.file).ok()?;
    let (from, to) = kubeconfig::validity(&document)?;
    Some(findings::own_credential(to, to.duration_since(from), now))
}

/// Whether the hub answers, which version it is, and what time it has.
async fn hub(context: &Context) -> Result<Vec<Finding>, Box<Finding>> {
    let remedy = findings::no_answer(context.workspaces);
    let bad = |text: String| Box::new(Finding::bad("hub", text, remedy));
    let shown = kubeconfig::read(&context.file)
        .and_then(|document| kubeconfig::current_server(&document))
        .unwrap_or_else(|_| "it".to_owned());
    let before = Timestamp::now();
    let answer = tokio::time::timeout(PATIENCE, version(context)).await;
    let after = Timestamp::now();
    let (version, date) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return Err(bad(format!(
                "{shown} does not answer: {}",
                output::cause(format!("{error:#}"))
            )));
        }
        Err(_) => {
            return Err(bad(format!(
                "{shown} does not answer within {} s",
                PATIENCE.as_secs()
            )));
        }
    };
    let took: SignedDuration = after.duration_since(before);
    let text = format!(
        "{shown} answers in {} ms, version {version}",
        took.as_millis()
    );
    let mut found = vec![Finding::well("hub", text)];
    found.extend(date.map(|date| findings::clock(date, before, after)));
    Ok(found)
}

/// The version of the hub and the time in its answer.
async fn version(context: &Context) -> Result<(String, Option<Timestamp>)> {
    let client = context
        .connection
        .client(&context.prefix(&context.workspace));
    let request = http::Request::get("/version").body(Body::empty())?;
    let response = client.send(request).await?;
    let (status, date) = (response.status(), response.headers().get(DATE).cloned());
    let bytes = response.into_body().collect_bytes().await?;
    if !status.is_success() {
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = answer["message"].as_str().unwrap_or("no reason given");
        return Err(anyhow!("{status}: {message}"));
    }
    let answer: Value = serde_json::from_slice(&bytes).context("its version is no JSON")?;
    let version = answer["gitVersion"]
        .as_str()
        .unwrap_or("unknown")
        .to_owned();
    let date = date.and_then(|text| text.to_str().ok().and_then(http_date));
    Ok((version, date))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|zoned| zoned.timestamp())
}

/// Where lists are read: in every workspace if that is allowed, else in one.
struct Scope<'a> {
    context: &'a Context,
    /// `*` or the workspace.
    workspace: &'a str,
    paths: &'a Paths,
}

impl Scope<'_> {
    async fn list(
        &self,
        (group, version, resource): (&str, &str, &str),
        params: &ListParams,
    ) -> Result<Vec<Value>, Error> {
        let client = self
            .context
            .objects_in(self.workspace, group, version, resource);
        let found = client.list("", params).await?;
        let mut items = list(&found, "/items").to_vec();
        self.paths.note(&mut items);
        Ok(items)
    }

    /// A list that may not be read is empty, and said to be.
    async fn readable(
        &self,
        resource: (&str, &str, &str),
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<Value>> {
        self.selected(resource, &ListParams::default(), findings)
            .await
    }

    /// As [`Scope::readable`], of what parameters select.
    async fn selected(
        &self,
        resource: (&str, &str, &str),
        params: &ListParams,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<Value>> {
        match self.list(resource, params).await {
            Ok(found) => Ok(found),
            Err(error) if error.code() == Some(403) => {
                findings.push(if self.context.workspaces {
                    findings::forbidden(resource.2, self.workspace)
                } else {
                    findings::forbidden_on_bare(resource.2)
                });
                Ok(Vec::new())
            }
            Err(error) if error.is_not_found() => {
                let text = format!("does not serve {}.{}", resource.2, resource.0);
                let remedy = "install its definitions: tmc controllers --install-crds";
                findings.push(Finding::bad("hub", text, remedy));
                Ok(Vec::new())
            }
            Err(error) => Err(anyhow!("{}: {error}", resource.2)),
        }
    }
}

/// SyncTargets, Clusters, Locations, Placements, what their loss holds up, and what was left of them.
async fn fleet(context: &Context) -> Result<Vec<Finding>> {
    let here = &Here {
        workspace: context.workspace.clone(),
        flags: context.flags(),
    };
    let mut found = Vec::new();
    let paths = &Paths::read(context).await;
    let everywhere = Scope {
        context,
        workspace: "*",
        paths,
    };
    let targets = (WORKLOAD, "v1alpha1", "synctargets");
    if !context.workspaces {
        found.extend(workload_controllers(&everywhere).await);
    }
    let scope = match everywhere
        .list(
            targets,
            &ListParams {
                limit: 1,
                ..ListParams::default()
            },
        )
        .await
    {
        Ok(_) => {
            found.push(findings::all_seen(context.workspaces));
            everywhere
        }
        Err(error) if matches!(error.code(), Some(403 | 404)) && !context.workspaces => everywhere,
        Err(error) if matches!(error.code(), Some(403 | 404)) => {
            found.push(findings::not_all_seen(&here.workspace));
            Scope {
                context,
                workspace: &context.workspace,
                paths,
            }
        }
        Err(error) => return Err(anyhow!("synctargets: {error}")),
    };
    let now = Timestamp::now();
    let targets = scope.readable(targets, &mut found).await?;
    found.extend(findings::targets(&targets, here, now));
    let clusters = scope
        .readable((WORKLOAD, "v1alpha1", "clusters"), &mut found)
        .await?;
    found.extend(findings::clusters(&clusters, here, now));
    let locations = scope
        .readable((SCHEDULING, "v1alpha1", "locations"), &mut found)
        .await?;
    found.extend(findings::locations(&locations, here));
    let placements = scope
        .readable((SCHEDULING, "v1alpha1", "placements"), &mut found)
        .await?;
    found.extend(findings::placements(&placements, here));
    found.extend(stuck(&scope, &targets, here).await);
    let params = ListParams {
        labels: format!("{TOMBSTONE_LABEL}=true"),
        ..ListParams::default()
    };
    let tombstones = scope
        .selected(("", "v1", "configmaps"), &params, &mut found)
        .await?;
    found.extend(tombstones::tombstones(&tombstones, here, now));
    Ok(found)
}

/// Whether a bare Kubernetes hub runs what is only to be run by clusters.
async fn workload_controllers(hub: &Scope<'_>) -> Option<Finding> {
    let params = ListParams {
        limit: PAGE,
        ..ListParams::default()
    };
    let deployments = hub
        .list(("apps", "v1", "deployments"), &params)
        .await
        .unwrap_or_default();
    let replica_sets = hub
        .list(("apps", "v1", "replicasets"), &params)
        .await
        .unwrap_or_default();
    findings::workload_controllers(&deployments, &replica_sets)
}

/// Objects whose deletion waits for a lost target.
async fn stuck(scope: &Scope<'_>, targets: &[Value], here: &Here) -> Vec<Finding> {
    let lost = findings::lost(targets);
    let mut objects = Vec::new();
    for (key, target) in lost.iter().take(MAX_LOST) {
        let params = ListParams {
            labels: state_label(key),
            limit: PAGE,
            ..ListParams::default()
        };
        for (group, version, resource) in findings::resources_of(target) {
            // What may not be read cannot be looked into; that is said already.
            let found = scope.list((&group, &version, &resource), &params).await;
            let deleting = found
                .unwrap_or_default()
                .into_iter()
                .filter(|o| meta(o).is_being_deleted());
            objects.extend(deleting.map(|object| (resource.clone(), object)));
        }
    }
    findings::stuck(&objects, &lost, here)
}

fn render(format: Format, findings: &[Finding]) -> Result<String> {
    let document = || {
        let items = findings.iter().map(|f| {
            json!({"state": f.mark.word(), "about": f.about, "message": f.text, "remedy": f.remedy})
        });
        json!({"findings": items.collect::<Vec<_>>()})
    };
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(&document())?,
        Format::Yaml => {
            serde_saphyr::to_string(&document()).context("cannot be written as YAML")?
        }
        Format::Name => {
            let bad = findings.iter().filter(|f| f.mark == Mark::Bad);
            bad.map(|f| f.about.replacen(' ', "/", 1))
                .collect::<Vec<_>>()
                .join("\n")
        }
        Format::Table => {
            let line = |f: &Finding| {
                let remedy = if f.remedy.is_empty() {
                    String::new()
                } else {
                    format!(" → {}", f.remedy)
                };
                vec![
                    f.mark.sign().to_owned(),
                    f.about.clone(),
                    format!("{}{remedy}", f.text),
                ]
            };
            let rows: Vec<_> = findings.iter().map(line).collect();
            let lines = output::table(&["", "", ""], &rows);
            let lines = lines.trim_start_matches('\n');
            format!("{lines}\n\n{}", summary(findings))
        }
    })
}

fn summary(findings: &[Finding]) -> String {
    let count = |mark| findings.iter().filter(|f| f.mark == mark).count();
    match (count(Mark::Bad), count(Mark::Note)) {
        (0, 0) => "All is well.".to_owned(),
        (0, _) => "Nothing is wrong; lines with ! are worth knowing.".to_owned(),
        (1, _) => "1 thing is wrong.".to_owned(),
        (bad, _) => format!("{bad} things are wrong."),
    }
}
