//! Makes, repairs and removes an agent's objects, in a member or on the hub.
//!
//! What is there is compared with the whole rendered object and written only if it differs; an
//! object without our marks is a stranger's, and is neither changed nor removed. Nothing that the
//! other side answers is repeated: problems are a class, a status code and our own words.

pub mod rights;
pub mod token;

use serde_json::Value;
use tmc_api::agent::resource_of;
use tmc_api::drift::covers;
use tmc_api::hashes::base36_sha224;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::{meta, set_annotation};
use tmc_runtime::client::{DeleteParams, ListParams};
use tmc_runtime::{Error, ResourceClient};

/// Annotation of what is made here: a hash of the manifest.
const MANIFEST_ANNOTATION: &str = "tmc.kcp.io/manifest";
/// Field manager of what is made here.
const MANAGER: &str = "tmc";

/// Why something could not be made, read or removed. Printing it shows no byte of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An object of this name is somebody else's.
    #[error("{0} exists and was not made by this hub for this target; rename or delete it")]
    Foreign(String),
    /// An object is being deleted, and is made anew when it is gone.
    #[error("{0} is being deleted")]
    Going(String),
    /// The server refused.
    #[error("{verb} {what} was refused ({code}){}", remedy(*.code))]
    Refused {
        /// What was asked for.
        verb: &'static str,
        /// On which object.
        what: String,
        /// The status code.
        code: u16,
    },
    /// There was no (usable) answer.
    #[error("{verb} {what} was not answered")]
    Unanswered {
        /// What was asked for.
        verb: &'static str,
        /// On which object.
        what: String,
    },
}

fn remedy(code: u16) -> &'static str {
    match code {
        401 => ": the credential is not accepted",
        403 => ": the credential lacks the right to do that",
        _ => "",
    }
}

impl Problem {
    /// What a failed call is.
    pub fn of(verb: &'static str, what: &str, error: &Error) -> Self {
        let what = what.to_owned();
        match error.code() {
            Some(code) => Self::Refused { verb, what, code },
            None => Self::Unanswered { verb, what },
        }
    }

    /// Whether the server said so, rather than not answering: trying again at once is of no use.
    pub fn is_answer(&self) -> bool {
        !matches!(self, Self::Unanswered { .. })
    }
}

/// What to do about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is not there.
    Make,
    /// It is as it should be.
    Fine,
    /// It is ours and has changed.
    Repair,
    /// It is ours and being deleted.
    Going,
    /// It is somebody else's.
    Foreign,
}

/// Compares an object with what it should be. `owned` says whether one has our marks.
pub fn judge(desired: &Value, found: Option<&Value>, owned: impl Fn(&Value) -> bool) -> Judgement {
    match found {
        None => Judgement::Make,
        Some(found) if !owned(found) => Judgement::Foreign,
        Some(found) if !meta(found).deletion_timestamp().is_empty() => Judgement::Going,
        Some(found) if covers(found, desired) => Judgement::Fine,
        Some(_) => Judgement::Repair,
    }
}

/// A server on which objects are made, and whose they are.
pub struct Site<'a> {
    /// The server.
    pub client: kube::Client,
    /// Whether an object has our marks.
    pub owned: &'a (dyn Fn(&Value) -> bool + Sync),
    /// A namespace that may be somebody else's: the user named it. It is used and never changed.
    pub given_namespace: Option<&'a str>,
}

/// How an object is called in messages.
fn called(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("object");
    format!("{kind} \"{}\"", meta(object).name())
}

impl Site<'_> {
    fn resource(&self, gvr: GroupVersionResource) -> ResourceClient {
        ResourceClient::new(self.client.clone(), gvr)
    }

    /// Makes sure of all manifests, in their order. Says whether anything was written.
    ///
    /// # Errors
    /// The first problem; what stands before it is in place.
    pub async fn ensure_all(&self, manifests: &[Value]) -> Result<bool, Problem> {
        let mut wrote = false;
        for manifest in manifests {
            wrote |= self.ensure(manifest).await?;
        }
        Ok(wrote)
    }

    async fn ensure(&self, manifest: &Value) -> Result<bool, Problem> {
        let what = called(manifest);
        let Some(gvr) = resource_of(manifest) else {
            return Err(Problem::Foreign(what));
        };
        let desired = &marked(manifest);
        let (namespace, name) = (meta(desired).namespace(), meta(desired).name());
        let is_namespace = gvr.resource == "namespaces";
        let client = self.resource(gvr);
        let found = match client.get(namespace, name).await {
            Ok(found) => Some(found),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(Problem::of("reading", &what, &error)),
        };
        match judge(desired, found.as_ref(), self.owned) {
            Judgement::Fine => Ok(false),
            Judgement::Foreign if is_namespace && self.given_namespace == Some(name) => Ok(false),
            Judgement::Foreign => Err(Problem::Foreign(what)),
            Judgement::Going => Err(Problem::Going(what)),
            Judgement::Make | Judgement::Repair => {
                Writer {
                    client: &client,
                    owned: self.owned,
                    what: &what,
                }
                .write(desired)
                .await?;
                Ok(true)
            }
        }
    }

    /// Removes everything of these kinds that a selector finds and that has our marks, in the order
    /// of the kinds, each by its uid. `keep` spares objects. Gives what it removed.
    ///
    /// # Errors
    /// The first problem. A kind that the server does not have is none.
    pub async fn remove(
        &self,
        kinds: &[GroupVersionResource],
        selector: &str,
        keep: impl Fn(&GroupVersionResource) -> bool,
    ) -> Result<Vec<String>, Problem> {
        let mut removed = Vec::new();
        for gvr in kinds.iter().filter(|gvr| !keep(gvr)) {
            let client = self.resource(gvr.clone());
            let params = ListParams {
                labels: selector.to_owned(),
                ..ListParams::default()
            };
            let list = match client.list("", &params).await {
                Ok(list) => list,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(Problem::of("listing", &gvr.resource, &error)),
            };
            let found = list["items"].as_array().into_iter().flatten();
            for object in found.filter(|object| (self.owned)(object)) {
                let name = format!("{}/{}", gvr.resource, meta(object).name());
                delete(&client, object, &name).await?;
                removed.push(name);
            }
        }
        Ok(removed)
    }
}

/// The manifest with a hash of itself: a part that it no longer has is seen, although everything that
/// it still has is there.
fn marked(manifest: &Value) -> Value {
    let mut marked = manifest.clone();
    let hash = base36_sha224(&manifest.to_string());
    set_annotation(&mut marked, MANIFEST_ANNOTATION, &hash[..16]);
    marked
}

/// Writes one object of which a look said that it is absent or ours. Before anything is replaced or
/// deleted as a whole, that is looked at again: a stranger may have been faster.
struct Writer<'a> {
    client: &'a ResourceClient,
    owned: &'a (dyn Fn(&Value) -> bool + Sync),
    what: &'a str,
}

impl Writer<'_> {
    fn problem(&self, verb: &'static str) -> impl Fn(Error) -> Problem {
        move |error| Problem::of(verb, self.what, &error)
    }

    /// Applies an object; what applying cannot change back is replaced, what cannot be replaced is
    /// made anew. A server that cannot apply has the whole object put.
    async fn write(&self, desired: &Value) -> Result<(), Problem> {
        let (namespace, name) = (meta(desired).namespace(), meta(desired).name());
        let applied = match self.client.apply(namespace, name, MANAGER, desired).await {
            Ok(applied) => applied,
            Err(error) if error.code() == Some(415) => return self.put(desired).await,
            // A part that can never change (roleRef, selector) is another one.
            Err(error) if error.code() == Some(422) => return self.make_anew(desired).await,
            Err(error) => return Err(self.problem("applying")(error)),
        };
        if covers(&applied, desired) {
            return Ok(());
        }
        // Others added to a list of which they now own items.
        let mut whole = desired.clone();
        whole["metadata"]["resourceVersion"] = meta(&applied).resource_version().into();
        let replaced = self.client.replace(namespace, name, "", &whole).await;
        replaced.map(drop).map_err(self.problem("replacing"))
    }

    /// Reads what stands in an object's place and is ours.
    async fn ours(&self, desired: &Value) -> Result<Option<Value>, Problem> {
        let (namespace, name) = (meta(desired).namespace(), meta(desired).name());
        match self.client.get(namespace, name).await {
            Ok(found) if (self.owned)(&found) => Ok(Some(found)),
            Ok(_) => Err(Problem::Foreign(self.what.to_owned())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.problem("reading")(error)),
        }
    }

    async fn put(&self, desired: &Value) -> Result<(), Problem> {
        let (namespace, name) = (meta(desired).namespace(), meta(desired).name());
        let result = match self.ours(desired).await? {
            Some(found) => {
                let mut whole = desired.clone();
                whole["metadata"]["resourceVersion"] = meta(&found).resource_version().into();
                self.client.replace(namespace, name, "", &whole).await
            }
            None => self.client.create(namespace, desired).await,
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(422) => self.make_anew(desired).await,
            Err(error) => Err(self.problem("writing")(error)),
        }
    }

    async fn make_anew(&self, desired: &Value) -> Result<(), Problem> {
        if let Some(found) = self.ours(desired).await? {
            delete(self.client, &found, self.what).await?;
        }
        let made = self.client.create(meta(desired).namespace(), desired).await;
        made.map(drop).map_err(self.problem("creating"))
    }
}

async fn delete(client: &ResourceClient, object: &Value, what: &str) -> Result<(), Problem> {
    let only = DeleteParams {
        uid: Some(meta(object).uid().to_owned()),
        propagation: Some("Background"),
        ..DeleteParams::default()
    };
    let (namespace, name) = (meta(object).namespace(), meta(object).name());
    match client.delete(namespace, name, &only).await {
        Err(error) if !error.is_not_found() => Err(Problem::of("deleting", what, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned(object: &Value) -> bool {
        object["metadata"]["labels"]["mine"] == "yes"
    }

    #[test]
    fn an_object_is_made_repaired_awaited_or_left_alone() {
        let desired = json!({"metadata": {"labels": {"mine": "yes"}}, "spec": {"a": 1}});
        let judge = |found: Option<Value>| super::judge(&desired, found.as_ref(), owned);
        assert_eq!(judge(None), Judgement::Make);
        let mut found = desired.clone();
        found["spec"]["b"] = 2.into();
        assert_eq!(judge(Some(found.clone())), Judgement::Fine);
        found["spec"]["a"] = 2.into();
        assert_eq!(judge(Some(found.clone())), Judgement::Repair);
        found["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
        assert_eq!(judge(Some(found.clone())), Judgement::Going);
        found["metadata"]["labels"] = json!({});
        assert_eq!(judge(Some(found)), Judgement::Foreign);
    }

    #[test]
    fn a_part_that_the_manifest_no_longer_has_is_drift() {
        let with = json!({"metadata": {"labels": {"mine": "yes"}}, "spec": {"a": 1, "limit": 2}});
        let without = json!({"metadata": {"labels": {"mine": "yes"}}, "spec": {"a": 1}});
        let found = marked(&with);
        assert_eq!(
            super::judge(&marked(&with), Some(&found), owned),
            Judgement::Fine
        );
        assert_eq!(
            super::judge(&marked(&without), Some(&found), owned),
            Judgement::Repair
        );
    }

    #[test]
    fn a_problem_repeats_nothing_that_the_other_side_said() {
        let error =
            tmc_apimachinery::ApiError::new(tmc_apimachinery::Reason::Forbidden, "hunter2").into();
        let problem = Problem::of("applying", "ClusterRole \"x\"", &error);
        assert_eq!(
            problem.to_string(),
            "applying ClusterRole \"x\" was refused (403): the credential lacks the right to do that"
        );
        let silent = Problem::of("reading", "x", &Error::Transport("hunter2".into()));
        assert_eq!(silent.to_string(), "reading x was not answered");
        assert!(problem.is_answer() && !silent.is_answer());
    }
}
