//! What a removal leaves in its member, recorded where it outlives the SyncTarget, its Cluster and
//! every Event: a ConfigMap in the target's workspace, one for each target, for whoever cleans up.
//!
//! It is made before anything is given up, and by nobody but the controllers: its label is a reserved
//! one. It stays until somebody deletes it, and never leaves the hub.

use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_api::agent::hub::NAMESPACE;
use tmc_api::hashes::{base36_sha224, sync_target_key};
use tmc_api::time::Time;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::ListParams;
use tmc_runtime::{Error, Hub, ResourceClient};

use super::removal::order::Copies;
use crate::heartbeat::TargetId;

/// Label of every tombstone, with the value `true`.
pub const TOMBSTONE_LABEL: &str = "tmc.kcp.io/tombstone";

/// Why something stays behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The target was removed by force: nobody waited for its agent.
    ForcedRemoval,
    /// What was made for its agent could not be removed.
    LeftBehind,
}

impl Reason {
    /// In one word, for Events as well.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ForcedRemoval => "ForcedRemoval",
            Self::LeftBehind => "LeftBehind",
        }
    }
}

/// The record of one removal.
#[derive(Clone, Debug)]
pub(crate) struct Tombstone<'a> {
    /// Whose.
    pub(crate) id: &'a TargetId,
    /// The name of its Cluster, if it has one.
    pub(crate) cluster: Option<&'a str>,
    /// Why.
    pub(crate) reason: Reason,
    /// The objects that were given up.
    pub(crate) objects: Copies,
    /// What is left, and how to find it in the member; never a secret.
    pub(crate) message: &'a str,
}

impl Tombstone<'_> {
    /// Its name, unless somebody has taken that: of each target another.
    pub(crate) fn name(&self) -> String {
        format!("tombstone-{}", self.id.uid)
    }

    /// Makes it, once: the first of a target stands. Also `Ok` where nothing can be made any more
    /// because the workspace goes, and the record would go with it: that is logged.
    ///
    /// # Errors
    /// When it is not there: nothing may be given up yet.
    pub(crate) async fn raise(&self, hub: &Hub, at: Timestamp) -> Result<(), Error> {
        let config_maps = GroupVersionResource::new("", "v1", "configmaps");
        let client = ResourceClient::new(hub.cluster(&self.id.cluster), config_maps);
        let mut record = self.manifest(at);
        let mut made = client.create(NAMESPACE, &record).await;
        if made.as_ref().is_err_and(Error::already_exists) {
            if self.stands(&client).await? {
                return Ok(());
            }
            // Whoever took the name must not keep the removal from being recorded; the next attempt,
            // should this one fail, has another one.
            let suffix = base36_sha224(&format!("{}\n{}", self.id.uid, at.as_nanosecond()));
            record["metadata"]["name"] = format!("{}-{}", self.name(), &suffix[..8]).into();
            made = client.create(NAMESPACE, &record).await;
        }
        match made {
            Err(error) if is_moot(&error) => {
                tracing::warn!(target = ?self.id, %error, "no tombstone where all goes");
                Ok(())
            }
            made => made.map(|_| ()),
        }
    }

    /// Whether there is a record of the target, under whatever name: its label is reserved, names are not.
    async fn stands(&self, client: &ResourceClient) -> Result<bool, Error> {
        let marked = ListParams {
            labels: format!("{TOMBSTONE_LABEL}=true"),
            ..ListParams::default()
        };
        let list = client.list(NAMESPACE, &marked).await?;
        let records = list["items"].as_array().into_iter().flatten();
        let mut lasting = records.filter(|record| !meta(record).is_being_deleted());
        Ok(lasting.any(|record| record["data"]["uid"] == self.id.uid))
    }

    fn manifest(&self, at: Timestamp) -> Value {
        let id = self.id;
        let objects = match self.objects {
            Copies::Unknown => "unknown".to_owned(),
            Copies::Some(count) => count.to_string(),
            Copies::None => "0".to_owned(),
        };
        let mut data = json!({
            "syncTarget": id.name, "uid": id.uid,
            "key": sync_target_key(id.cluster.as_str(), &id.name),
            "reason": self.reason.as_str(), "message": self.message,
            "objects": objects, "at": Time::new(at).to_string(),
        });
        if let Some(cluster) = self.cluster {
            data["cluster"] = cluster.into();
        }
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": self.name(), "namespace": NAMESPACE,
                "labels": {TOMBSTONE_LABEL: "true"},
            },
            "data": data,
        })
    }
}

/// Whether the workspace (or all that is in its namespace) is on its way out. A missing right is
/// another thing, for which one waits.
fn is_moot(error: &Error) -> bool {
    // Kubernetes and the embedded hub say it in the same words; only the one has a cause beside them.
    let goes = |error: &Error| error.to_string().contains("being terminated");
    error.is_not_found() || (error.code() == Some(403) && goes(error))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tmc_apimachinery::{ApiError, ClusterName, Reason as Class};

    use super::*;

    #[test]
    fn it_says_in_strings_what_was_removed_and_what_is_left() {
        let id = TargetId::new(&ClusterName::new("c"), "east", "u-1");
        let mut tombstone = Tombstone {
            id: &id,
            cluster: Some("east"),
            reason: Reason::ForcedRemoval,
            objects: Copies::Some(3),
            message: "m",
        };
        let at = "2030-01-01T00:00:00Z".parse().unwrap();
        let manifest = tombstone.manifest(at);
        assert_eq!(manifest["metadata"]["name"], "tombstone-u-1");
        assert_eq!(manifest["metadata"]["namespace"], "default");
        assert_eq!(manifest["metadata"]["labels"][TOMBSTONE_LABEL], "true");
        let expected = json!({
            "syncTarget": "east", "uid": "u-1", "key": sync_target_key("c", "east"),
            "cluster": "east", "reason": "ForcedRemoval", "message": "m", "objects": "3",
            "at": Time::new(at).to_string(),
        });
        assert_eq!(manifest["data"], expected);
        tombstone.cluster = None;
        tombstone.objects = Copies::Unknown;
        let data = tombstone.manifest(at)["data"].take();
        assert_eq!(data["objects"], "unknown");
        assert!(data.as_object().unwrap().values().all(Value::is_string));
    }

    #[rstest]
    #[case::no_namespace(Class::NotFound, "namespaces \"default\" not found", true)]
    #[case::the_workspace_goes(Class::Forbidden, "the workspace is being terminated", true)]
    #[case::the_namespace_goes(
        Class::Forbidden,
        "unable to create new content in namespace default because it is being terminated",
        true
    )]
    #[case::no_right(Class::Forbidden, "user may not create configmaps", false)]
    #[case::invalid(Class::Invalid, "being terminated", false)]
    #[case::busy(Class::TooManyRequests, "later", false)]
    fn only_where_all_goes_the_record_may_be_missing(
        #[case] class: Class,
        #[case] says: &str,
        #[case] expected: bool,
    ) {
        let error = Error::Api(ApiError::new(class, says));
        assert_eq!(is_moot(&error), expected);
    }
}
