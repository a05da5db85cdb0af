//! Who somebody is and what they may do, asked of a Kubernetes API server: TokenReview and
//! SubjectAccessReview, with short caches.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::{Decision, UserInfo};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::{Hub, ResourceClient};
use tmc_server::surface::TokenAuthenticator;
use tmc_virtual::syncer::{GROUP_HOSTED, SyncAccess, TargetId};
use tokio::sync::Semaphore;

use super::cache::{Cache, question};

/// How long a yes holds: the longest that a revoked token or role goes on being good.
const YES: Duration = Duration::from_secs(10);
/// How long a no holds.
const NO: Duration = Duration::from_secs(5);
/// Most answers kept.
const MOST: usize = 10_000;
/// Longest token that is looked at.
const LONGEST_TOKEN: usize = 16 * 1024;
/// Most questions to the hub at once: strangers with made-up tokens must not flood it.
const AT_ONCE: usize = 32;

fn reviews(hub: &Hub, group: &str, resource: &str) -> ResourceClient {
    let gvr = GroupVersionResource::new(group, "v1", resource);
    ResourceClient::new(hub.cluster(&ClusterName::new(ClusterName::ROOT)), gvr)
}

/// Turns bearer tokens into the users that the hub knows by them.
pub struct TokenReviews {
    client: ResourceClient,
    known: Cache<Option<UserInfo>>,
    places: Semaphore,
}

impl TokenReviews {
    /// Asks this hub. The tokens must be for the hub itself (its own audience): an agent uses one
    /// token for the hub and for its view.
    pub fn new(hub: &Hub) -> Self {
        Self {
            client: reviews(hub, "authentication.k8s.io", "tokenreviews"),
            known: Cache::new(MOST),
            places: Semaphore::new(AT_ONCE),
        }
    }

    async fn ask(&self, token: &str) -> Result<Option<UserInfo>> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token},
        });
        let _place = self.places.acquire().await;
        let answer = self.client.create("", &review).await.map_err(|error| {
            tracing::warn!(%error, "the hub does not review tokens");
            // Neither yes nor no: the caller should come again.
            ApiError::unavailable("the hub cannot say now whose token this is", 1)
        })?;
        Ok(user_of(&answer))
    }
}

/// The user of an answered TokenReview.
fn user_of(review: &Value) -> Option<UserInfo> {
    let status = &review["status"];
    if status["authenticated"] != true {
        return None;
    }
    let mut user: UserInfo = serde_json::from_value(status["user"].clone()).ok()?;
    // An identity of this process alone: whatever the hub calls its users, none of them has it.
    user.groups.retain(|group| group != GROUP_HOSTED);
    Some(user).filter(|user| !user.name.is_empty())
}

#[async_trait]
impl TokenAuthenticator for TokenReviews {
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>> {
        if token.len() > LONGEST_TOKEN {
            return Ok(None);
        }
        let asked = question(token.as_bytes());
        if let Some(known) = self.known.get(&asked) {
            return Ok(known);
        }
        let user = self.ask(token).await?;
        let time = if user.is_some() { YES } else { NO };
        self.known.put(asked, user.clone(), time);
        Ok(user)
    }
}

/// Asks the hub whether somebody may sync a target.
pub struct AccessReviews {
    client: ResourceClient,
    known: Cache<Decision>,
}

impl AccessReviews {
    /// Asks this hub.
    pub fn new(hub: &Hub) -> Self {
        Self {
            client: reviews(hub, "authorization.k8s.io", "subjectaccessreviews"),
            known: Cache::new(MOST),
        }
    }
}

/// The question of a SubjectAccessReview.
fn access(user: &UserInfo, target: &TargetId) -> Value {
    json!({
        "user": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
        "resourceAttributes": {
            "group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets",
            "verb": "sync", "name": target.name,
        },
    })
}

/// The answer of a SubjectAccessReview.
fn decision(review: &Value) -> Decision {
    let status = &review["status"];
    let reason = || status["reason"].as_str().unwrap_or_default().to_owned();
    match (status["allowed"] == true, status["denied"] == true) {
        (_, true) => Decision::Deny(reason()),
        (true, false) => Decision::Allow,
        (false, false) => Decision::NoOpinion(reason()),
    }
}

#[async_trait]
impl SyncAccess for AccessReviews {
    async fn may_sync(&self, user: &UserInfo, target: &TargetId) -> Decision {
        let spec = access(user, target);
        let asked = question(spec.to_string().as_bytes());
        if let Some(known) = self.known.get(&asked) {
            return known;
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec,
        });
        match self.client.create("", &review).await {
            Ok(answer) => {
                let decision = decision(&answer);
                let time = if decision == Decision::Allow { YES } else { NO };
                self.known.put(asked, decision.clone(), time);
                decision
            }
            Err(error) => {
                tracing::warn!(%error, "the hub does not review access");
                Decision::NoOpinion("the hub cannot say now whether this is permitted".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use tmc_runtime::Connection;

    use super::*;

    /// A hub that answers reviews with a status, or not at all, and keeps what it was asked.
    fn hub(answer: Arc<Mutex<Option<Value>>>) -> (Hub, Arc<Mutex<Vec<Value>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (answer, log) = (answer.clone(), log.clone());
            async move {
                let body = request.into_body().collect_bytes().await?;
                log.lock()
                    .push(serde_json::from_slice(&body).unwrap_or_default());
                let status = answer.lock().clone();
                let code = if status.is_some() { 201 } else { 500 };
                let body = json!({"status": status}).to_string();
                let mut response = Response::new(Body::from(body.into_bytes()));
                *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
                Ok::<_, kube::Error>(response)
            }
        });
        let hub = Hub {
            connection: Connection::in_process(service),
            workspaces: false,
        };
        (hub, asked)
    }

    fn target(uid: &str) -> TargetId {
        TargetId {
            cluster: ClusterName::new("root"),
            name: "east".into(),
            uid: uid.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_asked_about_once_in_a_while_and_errors_are_not_remembered() {
        let answer = Arc::new(Mutex::new(None));
        let (hub, asked) = hub(answer.clone());
        let reviews = TokenReviews::new(&hub);
        let error = reviews.authenticate("t").await.expect_err("no answer");
        assert_eq!(error.code, 503);
        let user = json!({"username": "ann", "groups": ["dev", GROUP_HOSTED]});
        *answer.lock() = Some(json!({"authenticated": true, "user": user}));
        let found = reviews.authenticate("t").await.expect("answered");
        let found = found.expect("known");
        assert_eq!(
            (&*found.name, &*found.groups),
            ("ann", &["dev".to_owned()][..])
        );
        *answer.lock() = Some(json!({"authenticated": false}));
        assert!(reviews.authenticate("t").await.expect("cached").is_some());
        tokio::time::advance(YES).await;
        assert!(reviews.authenticate("t").await.expect("asked").is_none());
        assert_eq!(asked.lock().len(), 3);
        assert_eq!(asked.lock()[1]["spec"], json!({"token": "t"}));
    }

    #[tokio::test]
    async fn what_is_too_long_for_a_token_is_nobodys_and_is_not_asked_about() {
        let (hub, asked) = hub(Arc::default());
        let long = "x".repeat(LONGEST_TOKEN + 1);
        let found = TokenReviews::new(&hub).authenticate(&long).await;
        assert_eq!(found.expect("answered"), None);
        assert!(asked.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn permission_is_asked_of_the_hub_and_remembered_shortly() {
        let answer = Arc::new(Mutex::new(Some(json!({"allowed": true}))));
        let (hub, asked) = hub(answer.clone());
        let access = AccessReviews::new(&hub);
        let ann = UserInfo::new("ann", &["dev"]);
        assert_eq!(access.may_sync(&ann, &target("u")).await, Decision::Allow);
        *answer.lock() = Some(json!({"allowed": false, "reason": "no"}));
        assert_eq!(access.may_sync(&ann, &target("u")).await, Decision::Allow);
        let bob = UserInfo::new("bob", &["dev"]);
        let no = Decision::NoOpinion("no".into());
        assert_eq!(access.may_sync(&bob, &target("u")).await, no);
        tokio::time::advance(YES).await;
        assert_eq!(access.may_sync(&ann, &target("u")).await, no);
        *answer.lock() = None;
        tokio::time::advance(NO).await;
        let silent = access.may_sync(&ann, &target("u")).await;
        assert!(matches!(silent, Decision::NoOpinion(_)), "{silent:?}");
        *answer.lock() = Some(json!({"allowed": true}));
        assert_eq!(access.may_sync(&ann, &target("u")).await, Decision::Allow);
        let spec = &asked.lock()[0]["spec"];
        assert_eq!(spec["resourceAttributes"]["verb"], "sync");
        assert_eq!(spec["groups"], json!(["dev", "system:authenticated"]));
    }

    #[test]
    fn a_denial_goes_before_a_permission() {
        let both = json!({"status": {"allowed": true, "denied": true, "reason": "r"}});
        assert_eq!(decision(&both), Decision::Deny("r".into()));
        assert_eq!(decision(&json!({})), Decision::NoOpinion(String::new()));
    }
}
