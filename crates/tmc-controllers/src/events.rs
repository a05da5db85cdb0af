//! Events about our own objects: what a person should know of a transition, said once.

use serde_json::{Value, json};
use tmc_api::hashes::base36_sha224;
use tmc_api::time::Time;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::{ClusterKey, Error, ResourceClient};

use crate::context::Context;

/// Where Events about cluster-scoped objects are made.
const DEFAULT_NAMESPACE: &str = "default";

/// Something to say about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News<'a> {
    /// Kind of the object, of `workload.kcp.io/v1alpha1`.
    pub(crate) kind: &'static str,
    /// Which one.
    pub(crate) key: &'a ClusterKey,
    /// Its uid.
    pub(crate) uid: &'a str,
    /// `Normal` or `Warning`.
    pub(crate) r#type: &'static str,
    /// One word.
    pub(crate) reason: &'static str,
    /// What a person should know; never a secret.
    pub(crate) message: String,
    /// The same text, object and reason make the same Event: said again, nothing happens.
    pub(crate) about: &'a str,
}

/// Makes the Event, once; says whether that is settled: it is there, or the hub will not have it (its
/// namespace or workspace is on its way out). That it could not be made is logged, and holds nothing
/// up unless the caller wants that.
pub(crate) async fn tell(ctx: &Context, news: &News<'_>) -> bool {
    let events = GroupVersionResource::new("", "v1", "events");
    let client = ResourceClient::new(ctx.hub.cluster(&news.key.cluster), events);
    let event = event(news, Time::new(ctx.now()));
    let namespace = namespace(news.key).to_owned();
    match client.create(&namespace, &event).await {
        Err(error) if !error.already_exists() => {
            tracing::warn!(key = %news.key, reason = news.reason, %error, "an Event was not made");
            is_settled(&error)
        }
        _ => true,
    }
}

/// Whether asking again for an Event would be answered in the same way.
pub(crate) fn is_settled(error: &Error) -> bool {
    let code = error.code().unwrap_or(500);
    code < 500 && code != 429
}

fn namespace(key: &ClusterKey) -> &str {
    if key.namespace.is_empty() {
        DEFAULT_NAMESPACE
    } else {
        &key.namespace
    }
}

fn event(news: &News<'_>, now: Time) -> Value {
    let text = format!("{}/{}/{}", news.reason, news.uid, news.about);
    let name: String = news.key.name.chars().take(200).collect();
    let mut involved = json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": news.kind,
        "name": news.key.name, "uid": news.uid,
    });
    if !news.key.namespace.is_empty() {
        involved["namespace"] = news.key.namespace.as_str().into();
    }
    let now = now.to_string();
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": format!("{name}.{}", &base36_sha224(&text)[..16]),
            "namespace": namespace(news.key),
        },
        "involvedObject": involved,
        "type": news.r#type, "reason": news.reason, "message": news.message,
        "source": {"component": "tmc"},
        "reportingComponent": "tmc", "reportingInstance": "tmc",
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    })
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;

    use super::*;

    #[test]
    fn the_same_news_has_the_same_name_and_other_news_another() {
        let key = ClusterKey::new(&ClusterName::new("c"), "default", "east");
        let news = |about: &'static str| News {
            kind: "Cluster",
            key: &key,
            uid: "u",
            r#type: "Warning",
            reason: "ExpiringSoon",
            message: "soon".into(),
            about,
        };
        let now = Time::new("2030-01-01T00:00:00Z".parse().unwrap());
        let name = |about| event(&news(about), now)["metadata"]["name"].clone();
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
        let event = event(&news("a"), now);
        assert_eq!(event["involvedObject"]["namespace"], "default");
        assert_eq!(event["involvedObject"]["kind"], "Cluster");
    }

    #[test]
    fn an_event_about_a_cluster_scoped_object_is_in_the_default_namespace() {
        let key = ClusterKey::new(&ClusterName::new("c"), "", "east");
        assert_eq!(namespace(&key), "default");
    }
}
