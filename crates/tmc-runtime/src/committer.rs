//! Writes the difference between two versions of an object as one merge patch with uid and
//! resourceVersion preconditions; the types keep main resource and status apart.
//!
//! A [`MainPatch`] cannot carry status and a [`StatusPatch`] can carry nothing else, so "spec and
//! status in one commit" has no form. A controller that has both to write commits one, and the
//! change event it causes brings it back for the other.

use serde::Serialize;
use serde_json::{Map, Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::patch::merge_diff;

use crate::client::{Error, ResourceClient};
use crate::connection::Hub;
use crate::informer::ClusterKey;

/// A merge patch of everything but status: metadata, spec, data.
#[derive(Clone, Debug, PartialEq)]
pub struct MainPatch(Value);

/// A merge patch of status only, for the status subresource.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusPatch(Value);

impl MainPatch {
    /// What turns `old` into `new`, status apart; `None` if nothing.
    ///
    /// # Errors
    /// If `old` lacks what the preconditions need, or identity differs: both are mistakes of the
    /// caller.
    pub fn between<T: Serialize>(old: &T, new: &T) -> Result<Option<Self>, Error> {
        let (mut old, mut new) = (encode(old)?, encode(new)?);
        check_identity(&old, &new)?;
        for object in [&mut old, &mut new] {
            if let Some(fields) = object.as_object_mut() {
                fields.remove("status");
            }
        }
        Ok(merge_diff(&old, &new).map(|patch| Self(with_preconditions(patch, &old))))
    }

    /// The patch, preconditions included.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}

impl StatusPatch {
    /// What turns the status of `old` into that of `new`; `None` if nothing.
    ///
    /// # Errors
    /// As [`MainPatch::between`].
    pub fn between<T: Serialize>(old: &T, new: &T) -> Result<Option<Self>, Error> {
        let (mut old, mut new) = (encode(old)?, encode(new)?);
        check_identity(&old, &new)?;
        let only = |object: &mut Value| {
            let status = object.get_mut("status").map(Value::take);
            let status = status.filter(|status| !status.is_null());
            let member = status.map(|status| ("status".to_owned(), status));
            Value::Object(member.into_iter().collect())
        };
        let patch = merge_diff(&only(&mut old), &only(&mut new));
        Ok(patch.map(|patch| Self(with_preconditions(patch, &old))))
    }

    /// The patch, preconditions included.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}

fn encode<T: Serialize>(object: &T) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|e| Error::Transport(format!("not JSON: {e}")))
}

fn check_identity(old: &Value, new: &Value) -> Result<(), Error> {
    let (a, b) = (meta(old), meta(new));
    if a.uid().is_empty() || a.resource_version().is_empty() {
        return Err(Error::Transport(
            "a commit needs uid and resourceVersion of the old object".into(),
        ));
    }
    if (a.uid(), a.name(), a.namespace()) != (b.uid(), b.name(), b.namespace()) {
        return Err(Error::Transport(
            "a commit must not change the identity of an object".into(),
        ));
    }
    Ok(())
}

fn with_preconditions(mut patch: Value, old: &Value) -> Value {
    let old = meta(old);
    if let Some(fields) = patch.as_object_mut() {
        let metadata = fields
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()));
        metadata["uid"] = json!(old.uid());
        metadata["resourceVersion"] = json!(old.resource_version());
    }
    patch
}

/// Writes objects of one resource on a hub.
#[derive(Clone)]
pub struct Committer {
    hub: Hub,
    gvr: GroupVersionResource,
}

impl Committer {
    /// A committer for a resource.
    pub fn new(hub: Hub, gvr: GroupVersionResource) -> Self {
        Self { hub, gvr }
    }

    /// Writes what differs outside status. Equal objects write nothing. Says whether it wrote.
    ///
    /// # Errors
    /// 409 if the object is no longer the `old` one; others as [`ResourceClient::patch`].
    pub async fn main<T: Serialize>(
        &self,
        key: &ClusterKey,
        old: &T,
        new: &T,
    ) -> Result<bool, Error> {
        match MainPatch::between(old, new)? {
            Some(patch) => self.patch(key, "", &patch.0).await,
            None => Ok(false),
        }
    }

    /// Writes what differs in status. Equal statuses write nothing. Says whether it wrote.
    ///
    /// # Errors
    /// As [`Committer::main`].
    pub async fn status<T: Serialize>(
        &self,
        key: &ClusterKey,
        old: &T,
        new: &T,
    ) -> Result<bool, Error> {
        match StatusPatch::between(old, new)? {
            Some(patch) => self.patch(key, "status", &patch.0).await,
            None => Ok(false),
        }
    }

    async fn patch(&self, key: &ClusterKey, part: &str, patch: &Value) -> Result<bool, Error> {
        let client = self.client(key);
        client.merge(&key.namespace, &key.name, part, patch).await?;
        Ok(true)
    }

    /// A plain client of the resource in the key's logical cluster.
    pub fn client(&self, key: &ClusterKey) -> ResourceClient {
        ResourceClient::new(self.hub.cluster(&key.cluster), self.gvr.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Value {
        json!({
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "5", "labels": {"x": "1"}},
            "spec": {"size": 1},
            "status": {"phase": "Old"},
        })
    }

    #[test]
    fn equal_objects_need_no_patch() {
        assert_eq!(MainPatch::between(&object(), &object()).unwrap(), None);
        assert_eq!(StatusPatch::between(&object(), &object()).unwrap(), None);
    }

    #[test]
    fn a_main_patch_never_carries_status_and_a_status_patch_nothing_else() {
        let mut new = object();
        new["metadata"]["labels"] = json!({"y": "2"});
        new["spec"]["size"] = json!(2);
        new["status"] = json!({"phase": "New"});
        let main = MainPatch::between(&object(), &new).unwrap().unwrap();
        assert_eq!(
            *main.as_value(),
            json!({
                "metadata": {"uid": "u", "resourceVersion": "5", "labels": {"x": null, "y": "2"}},
                "spec": {"size": 2},
            })
        );
        let status = StatusPatch::between(&object(), &new).unwrap().unwrap();
        assert_eq!(
            *status.as_value(),
            json!({
                "metadata": {"uid": "u", "resourceVersion": "5"},
                "status": {"phase": "New"},
            })
        );
    }

    #[test]
    fn an_object_without_version_or_of_another_identity_is_refused() {
        let mut old = object();
        old["metadata"]["resourceVersion"] = json!("");
        assert!(MainPatch::between(&old, &object()).is_err());
        let mut new = object();
        new["metadata"]["uid"] = json!("other");
        assert!(StatusPatch::between(&object(), &new).is_err());
    }

    #[tokio::test]
    async fn a_commit_patches_the_part_it_is_about_and_a_no_op_sends_nothing() {
        use http::{Request, Response};
        use kube::client::Body;
        let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            sender
                .send(format!("{} {}", request.method(), request.uri()))
                .unwrap();
            async { Ok::<_, tower::BoxError>(Response::new(Body::from(b"{}".to_vec()))) }
        });
        let connection = crate::Connection::in_process(service);
        let hub = Hub {
            connection,
            workspaces: true,
        };
        let committer = Committer::new(hub, GroupVersionResource::new("x", "v1", "widgets"));
        let key = ClusterKey::new(&tmc_apimachinery::ClusterName::new("c1"), "", "a");
        let mut new = object();
        new["spec"]["size"] = json!(2);
        assert!(committer.main(&key, &object(), &new).await.unwrap());
        assert!(!committer.status(&key, &object(), &new).await.unwrap());
        new["status"]["phase"] = json!("New");
        assert!(committer.status(&key, &object(), &new).await.unwrap());
        let mut lines = Vec::new();
        while let Ok(line) = sent.try_recv() {
            lines.push(line);
        }
        let base = "PATCH /clusters/c1/apis/x/v1/widgets/a";
        assert_eq!(lines, [base.to_owned(), format!("{base}/status")]);
    }
}
