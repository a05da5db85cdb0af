//! Objects: each follows the state of its namespace.

pub mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tmc_api::keys::MESSAGE_ANNOTATION;
use tmc_api::synced;
use tmc_api::time::Time;
use tmc_runtime::ClusterKey;
use tmc_runtime::controller::{Flow, Outcome};

use crate::context::{Context, ObjectKey};
use crate::coordination::shares;
use crate::events::{Event, Subject};
use crate::slim::Slim;
use crate::stores::index;
use crate::synctarget::removal::{Fate, fate};
use reconcile::Standing;

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
    let standing = |target: &str| match fate(&ctx, target) {
        Fate::Kept => Standing::Here,
        Fate::Leaving => Standing::Leaving,
        Fate::Held | Fate::Gone => Standing::Gone,
    };
    let mut new = reconcile::reconcile(&object, &namespace, excluded, standing, &now);
    shares::apply(&ctx, &resource.gvr, key, &namespace, &mut new);
    ctx.committer(resource.gvr.clone())
        .main(key, &*object, &new)
        .await?;
    let api_version = resource.gvr.group_version().to_string();
    let subject = Subject {
        api_version: &api_version,
        kind: kind_of(&resource.gvr.resource),
        key,
        uid: &object.metadata.uid,
    };
    if let Some(said) = object.metadata.annotations.get(MESSAGE_ANNOTATION) {
        let lasting = lasting_words(said);
        let told = refused(subject, said, &lasting);
        told.create(&ctx.hub, ctx.now()).await?;
    }
    if !reconcile::is_homeless(group, plural, &object, &namespace) {
        return Ok(Flow::Done);
    }
    let age = age(&object, ctx.now());
    if age < PATIENCE {
        return Ok(Flow::RequeueAfter(PATIENCE - age));
    }
    homeless(subject).create(&ctx.hub, ctx.now()).await?;
    Ok(Flow::Done)
}

/// An object goes nowhere; said once an object.
fn homeless(subject: Subject<'_>) -> Event<'_> {
    Event {
        subject,
        warning: true,
        reason: "NoPlacement",
        message: "no Placement selects this namespace, so nothing runs; make one: tmc bind compute",
        mark: "",
    }
}

/// Its targets cannot have an object as it is; said once for all texts with the same lasting words.
fn refused<'a>(subject: Subject<'a>, said: &'a str, lasting: &'a str) -> Event<'a> {
    Event {
        subject,
        warning: true,
        reason: synced::REFUSED,
        message: said,
        mark: lasting,
    }
}

/// A text without times and numbers: a member that has a new one in each answer makes no new Event of
/// each.
fn lasting_words(said: &str) -> String {
    let words = said.split_whitespace();
    let lasting = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    lasting.collect::<Vec<_>>().join(" ")
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
    use tmc_apimachinery::ClusterName;

    use super::*;

    fn about<'a>(key: &'a ClusterKey, uid: &'a str) -> Subject<'a> {
        Subject {
            api_version: "apps/v1",
            kind: kind_of("deployments"),
            key,
            uid,
        }
    }

    #[test]
    fn the_event_names_object_and_remedy_and_has_one_name_an_object() {
        let key = ClusterKey::new(&ClusterName::new("c"), "ns", "web");
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let first = homeless(about(&key, "u")).manifest(now);
        assert_eq!(first["involvedObject"]["apiVersion"], "apps/v1");
        assert_eq!(first["involvedObject"]["kind"], "Deployment");
        assert_eq!(first["metadata"]["namespace"], "ns");
        let message = first["message"].as_str().unwrap();
        assert!(message.contains("tmc bind compute"), "{message}");
        let name = first["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("web.") && name.len() == 16, "{name}");
        let other = homeless(about(&key, "v")).manifest(now);
        assert_ne!(other["metadata"]["name"], first["metadata"]["name"]);
    }

    #[test]
    fn a_refusal_is_told_again_when_its_words_change_and_not_when_its_numbers_do() {
        let key = ClusterKey::new(&ClusterName::new("c"), "ns", "web");
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let name = |said| {
            let told = refused(about(&key, "u"), said, &lasting_words(said)).manifest(now);
            assert_eq!(told["reason"], "RefusedByMember");
            told["metadata"]["name"].clone()
        };
        assert_eq!(name("no, request 1a2"), name("no, request 3b4"));
        assert_ne!(name("no, request 1a2"), name("not now, request 1a2"));
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
