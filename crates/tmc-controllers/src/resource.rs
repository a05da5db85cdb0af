//! Objects: each follows the state of its namespace.

pub mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_api::hashes::base36_sha224;
use tmc_api::keys::MESSAGE_ANNOTATION;
use tmc_api::time::Time;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::client::Error;
use tmc_runtime::controller::{Flow, Outcome};
use tmc_runtime::{ClusterKey, ResourceClient};

use crate::context::{Context, ObjectKey};
use crate::coordination::shares;
use crate::slim::Slim;
use crate::stores::index;
use crate::synctarget::removal::{Fate, fate};

/// How long an object may be without a placement before its user is told: often the placement is
/// just being made.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(ctx: Arc<Context>, object_key: ObjectKey) -> Outcome {
    let key = &object_key.key;
    let Some(resource) = ctx.stores.resources.get(object_key.resource) else {
        return Ok(Flow::Done);
    };
    let Some(object) = resource.store.get(key) else {
        return Ok(Flow::Done);
    };
    let namespace_key = ClusterKey::new(&key.cluster, "", &key.namespace);
    // Its namespace will bring it back here when it is known.
    let Some(namespace) = ctx.stores.namespaces.get(&namespace_key) else {
        return Ok(Flow::Done);
    };
    let (group, plural) = (&*resource.gvr.group, &*resource.gvr.resource);
    let referenced = (group, plural) == ("", "secrets")
        && !ctx
            .stores
            .clusters
            .keys_by_index(index::REFERENCE, &key.to_string())
            .is_empty();
    let excluded = reconcile::is_excluded(group, plural, &object, referenced);
    let now = Time::new(ctx.now()).to_string();
    // Copies that are to stay are not asked for while their agent could still remove them.
    if object
        .states()
        .any(|(target, _)| fate(&ctx, target) == Fate::Held)
    {
        return Ok(Flow::Done);
    }
    let exists = |target: &str| fate(&ctx, target) == Fate::Kept;
    let mut new = reconcile::reconcile(&object, &namespace, excluded, exists, &now);
    shares::apply(&ctx, &resource.gvr, key, &namespace, &mut new);
    ctx.committer(resource.gvr.clone())
        .main(key, &*object, &new)
        .await?;
    if let Some(said) = object.metadata.annotations.get(MESSAGE_ANNOTATION) {
        tell(&ctx, &resource.gvr, key, &News::refused(&object, said)).await?;
    }
    if !reconcile::is_homeless(group, plural, &object, &namespace) {
        return Ok(Flow::Done);
    }
    let age = age(&object, ctx.now());
    if age < PATIENCE {
        return Ok(Flow::RequeueAfter(PATIENCE - age));
    }
    tell(&ctx, &resource.gvr, key, &News::homeless(&object)).await?;
    Ok(Flow::Done)
}

/// What a user should know about an object.
struct News<'a> {
    object: &'a Slim,
    reason: &'static str,
    message: &'a str,
    /// The same thing said of the same object makes the same Event.
    about: String,
}

impl<'a> News<'a> {
    /// It goes nowhere; said once an object.
    fn homeless(object: &'a Slim) -> Self {
        Self {
            object,
            reason: "NoPlacement",
            message: "no Placement selects this namespace, so nothing runs; make one: tmc bind compute",
            about: "no-placement".into(),
        }
    }

    /// Its targets cannot have it as it is; said once a text, whatever times and numbers are in it: a
    /// member that has a new one in each answer makes no new Event of each.
    fn refused(object: &'a Slim, said: &'a str) -> Self {
        let words = said.split_whitespace();
        let lasting = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        Self {
            object,
            reason: "RefusedByMember",
            message: said,
            about: format!("refused/{}", lasting.collect::<Vec<_>>().join(" ")),
        }
    }
}

fn age(object: &Slim, now: Timestamp) -> Duration {
    let made = object
        .metadata
        .creation_timestamp
        .as_deref()
        .and_then(|text| text.parse().ok());
    made.map_or(Duration::MAX, |made: Timestamp| {
        Duration::try_from(made.duration_until(now)).unwrap_or_default()
    })
}

/// Makes the Event, unless it is there.
async fn tell(
    ctx: &Context,
    gvr: &GroupVersionResource,
    key: &ClusterKey,
    news: &News<'_>,
) -> Result<(), Error> {
    let events = GroupVersionResource::new("", "v1", "events");
    let client = ResourceClient::new(ctx.hub.cluster(&key.cluster), events);
    match client
        .create(&key.namespace, &event(gvr, news, ctx.now()))
        .await
    {
        // Where nothing can be made any more nobody reads it either.
        Err(error) if matches!(error.code(), Some(403 | 404)) => {
            tracing::debug!(%key, reason = news.reason, %error, "an Event was not made");
            Ok(())
        }
        Err(error) if !error.already_exists() => Err(error),
        _ => Ok(()),
    }
}

/// The Event; its name is the same for the same object, so that it is made once.
fn event(gvr: &GroupVersionResource, news: &News<'_>, now: Timestamp) -> Value {
    let meta = &news.object.metadata;
    let hash = base36_sha224(&format!("{}/{}", news.about, meta.uid));
    // Names of Events may be as long as those of the objects they are about.
    let name: String = meta.name.chars().take(200).collect();
    let now = Time::new(now).to_string();
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": format!("{}.{}", name.trim_end_matches(['.', '-']), &hash[..12]),
            "namespace": meta.namespace,
        },
        "involvedObject": {
            "apiVersion": gvr.group_version().to_string(),
            "kind": kind_of(&gvr.resource),
            "namespace": meta.namespace, "name": meta.name, "uid": meta.uid,
        },
        "type": "Warning",
        "reason": news.reason,
        "message": news.message,
        "source": {"component": "tmc"},
        "reportingComponent": "tmc", "reportingInstance": "tmc",
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    })
}

/// The kinds of what is synced without being asked for.
fn kind_of(resource: &str) -> &str {
    match resource {
        "deployments" => "Deployment",
        "statefulsets" => "StatefulSet",
        "daemonsets" => "DaemonSet",
        "replicasets" => "ReplicaSet",
        "jobs" => "Job",
        "cronjobs" => "CronJob",
        "services" => "Service",
        "ingresses" => "Ingress",
        "configmaps" => "ConfigMap",
        "secrets" => "Secret",
        "serviceaccounts" => "ServiceAccount",
        "persistentvolumeclaims" => "PersistentVolumeClaim",
        // People find the Event by the object's name and uid.
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_names_object_and_remedy_and_has_one_name_an_object() {
        let mut object = Slim::default();
        object.metadata.name = "web".into();
        object.metadata.namespace = "ns".into();
        object.metadata.uid = "u".into();
        let gvr = GroupVersionResource::new("apps", "v1", "deployments");
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let first = event(&gvr, &News::homeless(&object), now);
        assert_eq!(first["involvedObject"]["apiVersion"], "apps/v1");
        assert_eq!(first["involvedObject"]["kind"], "Deployment");
        assert!(
            first["message"]
                .as_str()
                .unwrap()
                .contains("tmc bind compute")
        );
        let name = first["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("web.") && name.len() == 16, "{name}");
        let refused = event(&gvr, &News::refused(&object, "no"), now);
        assert_eq!(refused["reason"], "RefusedByMember");
        assert_ne!(refused["metadata"]["name"], first["metadata"]["name"]);
        let told =
            |said| event(&gvr, &News::refused(&object, said), now)["metadata"]["name"].clone();
        assert_eq!(told("no, request 1a2"), told("no, request 3b4"));
        assert_ne!(told("no, request 1a2"), told("not now, request 1a2"));
        object.metadata.uid = "v".into();
        let other = event(&gvr, &News::homeless(&object), now);
        assert_ne!(other["metadata"]["name"], first["metadata"]["name"]);
    }

    #[test]
    fn an_object_from_the_future_has_no_age() {
        let mut object = Slim::default();
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        object.metadata.creation_timestamp = Some("2030-01-01T00:01:00Z".into());
        assert_eq!(age(&object, now), Duration::ZERO);
        object.metadata.creation_timestamp = Some("2029-12-31T23:59:50Z".into());
        assert_eq!(age(&object, now), Duration::from_secs(10));
    }
}
