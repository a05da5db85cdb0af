//! Objects on several targets, and objects whose target is lost.
//!
//! Who owns which key of an object:
//!
//! | key | written by |
//! |---|---|
//! | `state.…/K`, `deletion.internal.…/K`, finalizers of vanished targets | [`crate::resource`] |
//! | our operation in `experimental.spec-diff.…/K` | [`shares`], in the same write as the labels |
//! | every other operation in it | the user |
//! | finalizer `…/syncer-K`, a new report in `diff.syncer.…/K` | the virtual workspace, for K |
//! | `/status` and `"##promoted##"` while K is alone and heard | the virtual workspace; here only back from un-promoted |
//! | `/status` of an object on several targets, or whose only target is lost | here |
//! | un-promoting, reports of targets that are gone | either, to the same value |
//!
//! No loop follows from it. What is written here never changes what a target sees: the view shows a
//! target its own report, whether that is promoted or not. A report of a target causes at most one
//! write here, and the writes here cause none elsewhere: the status of an object is no fact for any
//! controller, and a report that was rewritten to what it meant before is, read again, as it should
//! be.
//!
//! Whether a target is lost is its condition HeartbeatHealthy, which after a restart of the hub
//! stays True for a fresh grace period: a restart loses nobody.

pub mod aggregate;
pub mod conditions;
pub mod division;
pub mod kinds;
pub mod reconcile;
pub mod shares;
pub mod spec_diff;

use std::sync::Arc;

use serde_json::Value;
use tmc_api::scheduling::Placement;
use tmc_api::synced::Listed;
use tmc_api::workload::{SyncTarget, condition};
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::PatchKind;
use tmc_runtime::controller::{Flow, Outcome};
use tmc_runtime::informer::Change;
use tmc_runtime::{ClusterKey, Error, MainPatch, ResourceClient, StatusPatch};

use crate::context::{Context, ObjectKey};
use crate::namespace::reconcile::Namespace;
use crate::slim::Slim;
use crate::stores::index;
use reconcile::{Kind, Loss, Write};

/// Brings status and reports of one object in order. The object is read only if its labels and
/// annotations say that something may be due.
pub(crate) async fn run(ctx: Arc<Context>, object_key: ObjectKey) -> Outcome {
    let key = &object_key.key;
    let Some(resource) = ctx.stores.resources.get(object_key.resource) else {
        return Ok(Flow::Done);
    };
    let Some(known) = resource.store.get(key) else {
        return Ok(Flow::Done);
    };
    if !is_due(&ctx, &known) {
        return Ok(Flow::Done);
    }
    let client = ctx.committer(resource.gvr.clone()).client(key);
    let object = match client.get(&key.namespace, &key.name).await {
        Err(error) if error.is_not_found() => return Ok(Flow::Done),
        object => object?,
    };
    let resource = resource.gvr.group_resource();
    let kind = Kind {
        resource: &resource,
        listed: kinds::conditions(&resource),
    };
    match write(&ctx, &client, &object, kind).await {
        // Of a kind that is strict about its conditions ours may be one too many: the status is not
        // held up for that.
        Err(error) if error.code() == Some(422) && kind.listed != Listed::No => {
            let listed = Listed::No;
            write(&ctx, &client, &object, Kind { listed, ..kind }).await?;
        }
        written => written?,
    }
    Ok(Flow::Done)
}

/// Writes what is due.
async fn write(
    ctx: &Context,
    client: &ResourceClient,
    object: &Value,
    kind: Kind<'_>,
) -> Result<(), Error> {
    let lost = |target: &str| loss(ctx, target);
    let (namespace, name) = (meta(object).namespace(), meta(object).name());
    // Each write holds on to the version that the one before it produced: whoever writes in between
    // makes it a conflict, and everything is decided anew.
    let mut version = meta(object).resource_version().to_owned();
    for write in reconcile::writes(&kind, object, lost, ctx.now()) {
        let Some((part, mut patch)) = patch(object, &write)? else {
            continue;
        };
        patch["metadata"]["resourceVersion"] = version.into();
        let written = client
            .patch(namespace, name, part, PatchKind::Merge, &patch)
            .await?;
        version = meta(&written).resource_version().to_owned();
    }
    Ok(())
}

/// The subresource and the patch of a write.
fn patch(object: &Value, write: &Write) -> Result<Option<(&'static str, Value)>, Error> {
    Ok(match write {
        Write::Main(new) => {
            MainPatch::between(object, new)?.map(|patch| ("", patch.as_value().clone()))
        }
        Write::Status(new) => {
            StatusPatch::between(object, new)?.map(|patch| ("status", patch.as_value().clone()))
        }
    })
}

fn is_due(ctx: &Context, object: &Slim) -> bool {
    let (labels, annotations) = (&object.metadata.labels, &object.metadata.annotations);
    reconcile::is_due(labels, annotations, |target| loss(ctx, target))
}

/// Whether a target is lost. One that does not exist is not: its marks go by themselves.
fn loss(ctx: &Context, target_key: &str) -> Option<Loss> {
    let found = ctx.stores.sync_targets.by_index(index::TARGET, target_key);
    found.first().and_then(|(_, target)| loss_of(target))
}

/// A target that was never heard cannot be lost.
fn loss_of(target: &SyncTarget) -> Option<Loss> {
    let since = target.status.as_ref()?.last_syncer_heartbeat_time;
    let silent = tmc_api::conditions::is_false(target.conditions(), condition::HEARTBEAT_HEALTHY);
    (silent && since.is_some()).then_some(Loss { since })
}

/// An object changed.
pub(crate) fn object_changed(ctx: &Context, object: &ObjectKey, new: &Slim) {
    if is_due(ctx, new) {
        ctx.queues.coordination.add(object.clone());
    }
}

/// A target changed: its loss and its return matter to what it has, its labels to what is divided by
/// them.
pub(crate) fn target_changed(ctx: &Context, target_key: &str, change: &Change<'_, SyncTarget>) {
    let was_lost = match change {
        Change::Applied { old: Some(old), .. } => loss_of(old).is_some(),
        _ => false,
    };
    let is_lost = matches!(change, Change::Applied { new, .. } if loss_of(new).is_some());
    if was_lost != is_lost {
        for object in ctx.objects_by_index(index::TARGET, target_key) {
            ctx.queues.coordination.add(object);
        }
    }
    let labels = |target: &SyncTarget| target.metadata.labels.clone();
    let relabelled = match change {
        Change::Applied {
            old: Some(old),
            new,
        } => labels(old) != labels(new),
        _ => true,
    };
    if relabelled {
        let users = ctx.stores.placements.by_index(index::TARGET, target_key);
        for (key, placement) in users.iter().filter(|(_, p)| shares::is_divided(p)) {
            enqueue_selected(ctx, key, &[placement]);
        }
    }
}

/// A Placement changed: what is divided among its targets, or no longer is, has to be looked at.
pub(crate) fn placement_changed(ctx: &Context, key: &ClusterKey, change: &Change<'_, Placement>) {
    let facts = |placement: &Placement| {
        let spec = &placement.spec;
        let status = placement.status.as_ref();
        (
            placement.metadata.deletion_timestamp.is_some(),
            spec.namespace_selector.clone(),
            (spec.replicas, spec.division.clone()),
            status.map(|status| status.sync_targets.clone()),
        )
    };
    let differs = match change {
        Change::Applied {
            old: Some(old),
            new,
        } => facts(old) != facts(new),
        _ => true,
    };
    let versions: Vec<&Placement> = change
        .before()
        .into_iter()
        .chain([change.latest()])
        .map(|placement| &**placement)
        .collect();
    // One that does not divide matters to one that does if both picked the same target.
    let divides = |cluster: &str| {
        let placements = &ctx.stores.placements;
        placements.count_by_index(index::DIVIDED, cluster) > 0
    };
    let matters = versions
        .iter()
        .any(|placement| shares::is_divided(placement));
    if differs && (matters || divides(key.cluster.as_str())) {
        enqueue_selected(ctx, key, &versions);
    }
}

/// Enqueues the Deployments in the namespaces that one of these versions of a Placement selects.
fn enqueue_selected(ctx: &Context, placement: &ClusterKey, versions: &[&Placement]) {
    let cluster = placement.cluster.as_str();
    for (namespace, object) in ctx.stores.namespaces.by_index(index::CLUSTER, cluster) {
        let labels = object.metadata.labels.clone().unwrap_or_default();
        let selects = |p: &&Placement| p.spec.selects_namespace(&labels).unwrap_or(false);
        if versions.iter().any(selects) {
            enqueue_divisible(ctx, &namespace);
        }
    }
}

/// A namespace changed: other Placements may select it now.
pub(crate) fn namespace_changed(ctx: &Context, key: &ClusterKey, change: &Change<'_, Namespace>) {
    let labels = |namespace: &Namespace| namespace.metadata.labels.clone();
    if let Change::Applied {
        old: Some(old),
        new,
    } = change
        && labels(old) != labels(new)
    {
        enqueue_divisible(ctx, key);
    }
}

/// Enqueues the Deployments of a namespace where their replicas are divided.
fn enqueue_divisible(ctx: &Context, namespace: &ClusterKey) {
    let value = format!("{}/{}", namespace.cluster, namespace.name);
    for object in ctx.objects_by_index(index::NAMESPACE, &value) {
        let resource = ctx.stores.resources.get(object.resource);
        if resource.is_some_and(|resource| shares::is_divisible(&resource.gvr)) {
            ctx.queues.objects.add(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::heard("True", json!("2030-01-01T00:00:00Z"), false)]
    #[case::silent("False", json!("2030-01-01T00:00:00Z"), true)]
    #[case::unknown("Unknown", json!("2030-01-01T00:00:00Z"), false)]
    #[case::never_heard("False", json!(null), false)]
    fn a_target_is_lost_once_it_was_heard_and_is_not_any_more(
        #[case] healthy: &str,
        #[case] last: Value,
        #[case] expected: bool,
    ) {
        let target = serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "t"}, "spec": {},
            "status": {"lastSyncerHeartbeatTime": last,
                "conditions": [{"type": "HeartbeatHealthy", "status": healthy}]},
        }));
        let lost = loss_of(&target.unwrap());
        assert_eq!(lost.is_some(), expected);
        assert_eq!(
            json!(lost.and_then(|lost| lost.since)),
            if expected { last } else { json!(null) }
        );
    }
}
