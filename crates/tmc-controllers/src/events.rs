//! Events: what a person should know of a transition, said once.

use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_api::hashes::base36_sha224;
use tmc_api::time::Time;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::{ClusterKey, Error, Hub, ResourceClient};

/// Where Events about cluster-scoped objects are made.
const DEFAULT_NAMESPACE: &str = "default";
/// Characters of an object's name in that of an Event. Names of Events may be as long as those of the
/// objects they are about, and the Event's has a hash behind it.
const LONGEST_NAME: usize = 200;

/// An object that an Event is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// Its group and version as in `apiVersion`.
    pub(crate) api_version: &'a str,
    /// Its kind.
    pub(crate) kind: &'a str,
    /// Which one.
    pub(crate) key: &'a ClusterKey,
    /// Its uid.
    pub(crate) uid: &'a str,
}

/// An Event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    /// What it is about.
    pub(crate) subject: Subject<'a>,
    /// Something is not as it should be.
    pub(crate) warning: bool,
    /// One word.
    pub(crate) reason: &'a str,
    /// What a person should know; never a secret.
    pub(crate) message: &'a str,
    /// The same mark, object and reason make the same Event: said again, nothing happens.
    pub(crate) mark: &'a str,
}

impl Event<'_> {
    /// Makes it, unless it is there. Also `Ok` when the hub will never have it (its namespace or
    /// workspace is on its way out): that is logged.
    ///
    /// # Errors
    /// When the same may be taken later.
    pub(crate) async fn create(&self, hub: &Hub, at: Timestamp) -> Result<(), Error> {
        let (key, events) = (
            self.subject.key,
            GroupVersionResource::new("", "v1", "events"),
        );
        let client = ResourceClient::new(hub.cluster(&key.cluster), events);
        match client.create(namespace(key), &self.manifest(at)).await {
            Err(error) if error.already_exists() => Ok(()),
            // Where nothing can be made any more nobody reads it either.
            Err(error) if matches!(error.code(), Some(403 | 404)) => {
                tracing::debug!(%key, reason = self.reason, %error, "an Event was not made");
                Ok(())
            }
            Err(error) if is_settled(&error) => {
                tracing::warn!(%key, reason = self.reason, %error, "an Event is refused");
                Ok(())
            }
            created => created.map(|_| ()),
        }
    }

    pub(crate) fn manifest(&self, at: Timestamp) -> Value {
        let Subject {
            api_version,
            kind,
            key,
            uid,
        } = self.subject;
        let hash = base36_sha224(&format!("{}/{uid}/{}", self.reason, self.mark));
        let name: String = key.name.chars().take(LONGEST_NAME).collect();
        let mut involved = json!({
            "apiVersion": api_version, "kind": kind, "name": key.name, "uid": uid,
        });
        if !key.namespace.is_empty() {
            involved["namespace"] = key.namespace.as_str().into();
        }
        let at = Time::new(at).to_string();
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {
                "name": format!("{}.{}", name.trim_end_matches(['.', '-']), &hash[..12]),
                "namespace": namespace(key),
            },
            "involvedObject": involved,
            "type": if self.warning { "Warning" } else { "Normal" },
            "reason": self.reason,
            "message": self.message,
            "source": {"component": "tmc"},
            "reportingComponent": "tmc", "reportingInstance": "tmc",
            "firstTimestamp": at, "lastTimestamp": at, "count": 1,
        })
    }
}

/// A warning about one of our own objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News<'a> {
    /// Kind of the object, of `workload.kcp.io/v1alpha1`.
    pub(crate) kind: &'static str,
    /// Which one.
    pub(crate) key: &'a ClusterKey,
    /// Its uid.
    pub(crate) uid: &'a str,
    /// One word.
    pub(crate) reason: &'static str,
    /// What a person should know; never a secret.
    pub(crate) message: String,
    /// As [`Event::mark`].
    pub(crate) about: &'a str,
}

impl News<'_> {
    fn event(&self) -> Event<'_> {
        Event {
            subject: Subject {
                api_version: "workload.kcp.io/v1alpha1",
                kind: self.kind,
                key: self.key,
                uid: self.uid,
            },
            warning: true,
            reason: self.reason,
            message: &self.message,
            mark: self.about,
        }
    }
}

/// Makes the Event, once; says whether that is settled: it is there, or the hub will not have it. That
/// it could not be made is logged, and holds nothing up unless the caller wants that.
pub(crate) async fn tell(hub: &Hub, news: &News<'_>, at: Timestamp) -> bool {
    let told = news.event().create(hub, at).await;
    if let Err(error) = &told {
        tracing::warn!(key = %news.key, reason = news.reason, %error, "an Event was not made");
    }
    told.is_ok()
}

/// Whether asking again would be answered in the same way.
fn is_settled(error: &Error) -> bool {
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
            reason: "ExpiringSoon",
            message: "soon".into(),
            about,
        };
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let name = |about| news(about).event().manifest(now)["metadata"]["name"].clone();
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
        let event = news("a").event().manifest(now);
        assert_eq!(event["involvedObject"]["namespace"], "default");
        assert_eq!(event["involvedObject"]["kind"], "Cluster");
    }

    #[test]
    fn an_event_about_a_cluster_scoped_object_is_in_the_default_namespace() {
        let key = ClusterKey::new(&ClusterName::new("c"), "", "east");
        assert_eq!(namespace(&key), "default");
    }

    #[test]
    fn a_long_name_is_cut_to_one_that_is_valid() {
        let long = format!("{}.{}", "a".repeat(199), "b".repeat(50));
        let key = ClusterKey::new(&ClusterName::new("c"), "", &long);
        let news = News {
            kind: "Cluster",
            key: &key,
            uid: "u",
            reason: "ExpiringSoon",
            message: "soon".into(),
            about: "a",
        };
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let event = news.event().manifest(now);
        let name = event["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with(&format!("{}.", "a".repeat(199))), "{name}");
        assert_eq!(name.len(), 199 + 1 + 12, "no dot beside the dot: {name}");
    }
}
