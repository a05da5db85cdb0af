//! What an account may do, asked as that account.

use std::time::Duration;

use serde_json::{Value, json};
use tmc_api::agent::rules::{Right, Rule, missing};
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::{Error, ResourceClient};

use super::Problem;

/// How often is asked while rights are missing that were just given: servers learn of new bindings
/// after a moment.
const ATTEMPTS: u32 = 5;
/// Pause before the next of them.
const PAUSE: Duration = Duration::from_millis(300);
/// Most rights that a message names.
const NAMED: usize = 12;

fn reviews(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("authorization.k8s.io", "v1", resource)
}

/// The rights of `wanted` that the caller of `client` lacks in a namespace.
///
/// # Errors
/// When the server does not answer the review.
pub async fn lacking(
    client: &kube::Client,
    namespace: &str,
    wanted: &[Rule],
) -> Result<Vec<Right>, Problem> {
    let mut rights = Vec::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        rights = match review(client, namespace, wanted).await {
            Ok(rights) => rights,
            // A token can be newer than what the server knows of its account.
            Err(error) if error.code() == Some(401) && attempt + 1 < ATTEMPTS => continue,
            Err(error) => {
                let what = "the review of the syncer's own rules";
                return Err(Problem::of("asking for", what, &error));
            }
        };
        if rights.is_empty() {
            break;
        }
    }
    Ok(rights)
}

async fn review(
    client: &kube::Client,
    namespace: &str,
    wanted: &[Rule],
) -> Result<Vec<Right>, Error> {
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let rules = ResourceClient::new(client.clone(), reviews("selfsubjectrulesreviews"));
    let answer = rules.create("", &body).await?;
    let (granted, complete) = granted(&answer);
    let absent = missing(wanted, &granted);
    if complete {
        return Ok(absent);
    }
    // Some authorizers cannot list what they allow: then each right is asked for by itself.
    let access = ResourceClient::new(client.clone(), reviews("selfsubjectaccessreviews"));
    let mut lacking = Vec::new();
    for right in absent {
        let answer = access.create("", &question(&right)).await?;
        if answer["status"]["allowed"] != true {
            lacking.push(right);
        }
    }
    Ok(lacking)
}

/// The rules in the answer of a rules review, and whether these are all.
fn granted(answer: &Value) -> (Vec<Rule>, bool) {
    let status = &answer["status"];
    let lists = ["resourceRules", "nonResourceRules"];
    let rules = lists
        .iter()
        .flat_map(|list| status[*list].as_array().into_iter().flatten());
    let rules = rules.filter_map(|rule| serde_json::from_value(rule.clone()).ok());
    (rules.collect(), status["incomplete"] != true)
}

fn question(right: &Right) -> Value {
    let spec = match right {
        Right::Resource { verb, resource } => {
            let (name, sub) = resource
                .resource
                .split_once('/')
                .unwrap_or((&resource.resource, ""));
            json!({"resourceAttributes":
                {"verb": verb, "group": resource.group, "resource": name, "subresource": sub}})
        }
        Right::Path { verb, path } => {
            json!({"nonResourceAttributes": {"verb": verb, "path": path}})
        }
    };
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec,
    })
}

/// A sentence that names what is missing.
pub fn sentence(lacking: &[Right]) -> String {
    let names: Vec<String> = lacking.iter().take(NAMED).map(Right::to_string).collect();
    let more = match lacking.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("the syncer's account may not {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use tmc_runtime::Connection;

    use super::*;

    fn wanted() -> Vec<Rule> {
        vec![
            Rule::on("apps", &["deployments"], &["create", "delete"]),
            Rule::paths(["/version"], &["get"]),
        ]
    }

    /// A server that answers reviews: rules by the given list, access by `allowed`.
    fn server(answers: Vec<Value>, allowed: bool) -> (Connection, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, answers) = (Arc::clone(&asked), Arc::new(Mutex::new(answers)));
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path().rsplit('/').next().unwrap().to_owned();
            log.lock().push(path.clone());
            let status = if path == "selfsubjectrulesreviews" {
                let mut answers = answers.lock();
                if answers.len() > 1 {
                    answers.remove(0)
                } else {
                    answers[0].clone()
                }
            } else {
                json!({"allowed": allowed})
            };
            let body = Body::from(json!({"status": status}).to_string().into_bytes());
            async move { Ok::<_, std::io::Error>(Response::new(body)) }
        });
        (Connection::in_process(service), asked)
    }

    fn all() -> Value {
        json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["apps"], "resources": ["deployments"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/version", "/version/"]}],
        })
    }

    #[tokio::test(start_paused = true)]
    async fn rights_that_arrive_after_a_moment_are_waited_for() {
        let (server, asked) = server(vec![json!({}), json!({}), all()], false);
        assert_eq!(
            lacking(&server.client(""), "ns", &wanted()).await.unwrap(),
            []
        );
        assert_eq!(asked.lock().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn missing_rights_are_named() {
        let partly = json!({"resourceRules":
            [{"verbs": ["create"], "apiGroups": ["apps"], "resources": ["*"]}]});
        let (server, _) = server(vec![partly], true);
        let lacking = lacking(&server.client(""), "ns", &wanted()).await.unwrap();
        assert_eq!(
            sentence(&lacking),
            "the syncer's account may not delete deployments.apps, get /version"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_incomplete_answer_leaves_open_is_asked_one_by_one() {
        let (server, asked) = server(vec![json!({"incomplete": true})], true);
        assert_eq!(
            lacking(&server.client(""), "ns", &wanted()).await.unwrap(),
            []
        );
        assert_eq!(asked.lock().len(), 1 + 3);
    }

    #[test]
    fn a_long_list_is_cut() {
        let resources: Vec<String> = (0..30).map(|n| format!("r{n:02}")).collect();
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        let lacking = missing(&[Rule::on("g", &resources, &["get"])], &[]);
        let text = sentence(&lacking);
        assert!(text.ends_with("get r11.g and 18 more"), "{text}");
    }
}
