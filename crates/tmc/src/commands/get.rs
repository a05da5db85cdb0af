//! `tmc get …`

use std::collections::HashMap;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::ListParams;

use super::freshness::Beats;
use super::member::{self, SCHEDULING};
use crate::cli::{GetCommand, Global};
use crate::context::{Context, explain};
use crate::output::{self, cell, list, text};

/// Runs a get command.
///
/// # Errors
/// A sentence for the person who typed it.
pub async fn run(global: &Global, command: &GetCommand) -> Result<String> {
    let context = Context::load(global)?;
    match command {
        GetCommand::Targets => targets(&context, global).await,
        GetCommand::Placements => placements(&context, global).await,
    }
}

async fn targets(context: &Context, global: &Global) -> Result<String> {
    let found = member::targets(context)
        .list("", &ListParams::default())
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    member::note_none(context, global.format(), list(&found, "/items"));
    let (beats, now) = (Beats::read(context).await, Timestamp::now());
    let headers = [
        "NAME",
        "MODE",
        "PHASE",
        "READY",
        "SCHEDULABLE",
        "LAST SEEN",
        "RESOURCES",
        "AGE",
    ];
    output::objects(
        global.format(),
        list(&found, "/items"),
        &headers,
        |target| {
            vec![
                meta(target).name().to_owned(),
                cell(target, "/spec/syncerConfig/mode"),
                cell(target, "/status/phase"),
                output::condition(target, "Ready").to_owned(),
                schedulable(target, now).to_owned(),
                beats.last_seen(target, now),
                accepted(target).to_string(),
                output::age(target),
            ]
        },
    )
}

/// How many resources a target syncs.
fn accepted(target: &Value) -> usize {
    let synced = list(target, "/status/syncedResources");
    synced.iter().filter(|r| r["state"] == "Accepted").count()
}

/// Whether new workload may come to a target, in a word.
pub(super) fn schedulable(target: &Value, now: Timestamp) -> &'static str {
    let draining = output::time(target, "/spec/evictAfter").is_some_and(|at| at <= now);
    match (draining, target["spec"]["unschedulable"] == true) {
        (true, _) => "draining",
        (false, true) => "cordoned",
        (false, false) => "yes",
    }
}

async fn placements(context: &Context, global: &Global) -> Result<String> {
    let found = context
        .resource(SCHEDULING, "v1alpha1", "placements")
        .list("", &ListParams::default())
        .await
        .map_err(|e| explain(e, &context.workspace))?;
    let headers = ["NAME", "PHASE", "LOCATION", "TARGETS", "REASON", "AGE"];
    output::objects(
        global.format(),
        list(&found, "/items"),
        &headers,
        placement_row,
    )
}

fn placement_row(placement: &Value) -> Vec<String> {
    let location = match text(placement, "/status/selectedLocation/locationName") {
        "" => "-".to_owned(),
        name => format!(
            "{}/{name}",
            text(placement, "/status/selectedLocation/path")
        ),
    };
    vec![
        meta(placement).name().to_owned(),
        cell(placement, "/status/phase"),
        location,
        target_names(placement),
        reason(placement),
        output::age(placement),
    ]
}

/// The first targets by name, and how many more there are.
fn target_names(placement: &Value) -> String {
    const SHOWN: usize = 3;
    let picked = list(placement, "/status/syncTargets");
    let mut names: Vec<&str> = picked.iter().map(|t| text(t, "/name")).collect();
    names.sort_unstable();
    let total = placement
        .pointer("/status/decisionSet/count")
        .and_then(Value::as_u64)
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(names.len());
    let mut shown = names
        .iter()
        .take(SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join(",");
    let more = total.saturating_sub(names.len().min(SHOWN));
    match (shown.is_empty(), more) {
        (true, 0) => return "-".to_owned(),
        (true, more) => shown = format!("{more} targets"),
        (false, 0) => {}
        (false, more) => shown.push_str(&format!(" and {more} more")),
    }
    shown
}

/// Why a Placement is not as it should be, by the first condition that is not True.
fn reason(placement: &Value) -> String {
    let conditions = list(placement, "/status/conditions");
    if conditions.is_empty() {
        return "NotYetLookedAt".to_owned();
    }
    // Scheduled tells more than the summary does.
    let by_kind: HashMap<&str, &Value> = conditions.iter().map(|c| (text(c, "/type"), c)).collect();
    let ordered = ["Scheduled", "Ready"]
        .into_iter()
        .filter_map(|kind| by_kind.get(kind).copied());
    let bad = ordered.chain(conditions).find(|c| c["status"] != "True");
    bad.map_or_else(|| "-".to_owned(), |c| cell(c, "/reason"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cordoned_and_draining_are_told_apart() {
        let now = "2030-01-01T00:10:00Z".parse().expect("a time");
        assert_eq!(schedulable(&json!({"spec": {}}), now), "yes");
        let cordoned =
            json!({"spec": {"unschedulable": true, "evictAfter": "2031-01-01T00:00:00Z"}});
        assert_eq!(schedulable(&cordoned, now), "cordoned");
        let draining =
            json!({"spec": {"unschedulable": true, "evictAfter": "2030-01-01T00:00:00Z"}});
        assert_eq!(schedulable(&draining, now), "draining");
    }

    #[test]
    fn a_placement_shows_its_first_targets_and_the_reason_that_tells_most() {
        let picked: Vec<Value> = ["d", "b", "a", "c", "e"]
            .iter()
            .map(|n| json!({"name": n}))
            .collect();
        let placement = json!({"metadata": {"name": "p"}, "status": {
        "phase": "Unbound", "syncTargets": picked,
        "selectedLocation": {"path": "root:compute", "locationName": "eu"},
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "LocationInvalid"},
            {"type": "Scheduled", "status": "False", "reason": "NoValidTarget"},
        ]}});
        let row = placement_row(&placement);
        assert_eq!(
            row[..5],
            [
                "p",
                "Unbound",
                "root:compute/eu",
                "a,b,c and 2 more",
                "NoValidTarget"
            ]
        );
        let row = placement_row(&json!({"metadata": {"name": "new"}}));
        assert_eq!(row[..5], ["new", "-", "-", "-", "NotYetLookedAt"]);
    }
}
