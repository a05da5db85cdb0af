//! What the caller of a connection may do, asked as that caller.

use serde_json::{Value, json};
use tmc_api::agent::rules::{Right, Rule, missing};
use tmc_apimachinery::GroupVersionResource;

use crate::client::{Error, ResourceClient};

/// The rights of `wanted` that the caller of `client` lacks in a namespace, sorted. The namespace need
/// not exist.
///
/// # Errors
/// When the server does not answer the review.
pub async fn review(
    client: &kube::Client,
    namespace: &str,
    wanted: &[Rule],
) -> Result<Vec<Right>, Error> {
    let spec = json!({"namespace": namespace});
    let status = ask(client, "SelfSubjectRulesReview", spec).await?;
    let absent = missing(wanted, &granted(&status));
    if status["incomplete"] != true {
        return Ok(absent);
    }
    // Some authorizers cannot list what they allow: then each right is asked for by itself.
    let mut lacking = Vec::new();
    for right in absent {
        let status = ask(client, "SelfSubjectAccessReview", question(&right)).await?;
        if status["allowed"] != true {
            lacking.push(right);
        }
    }
    Ok(lacking)
}

/// The status of a review. A server that only gives the question back has not answered it.
async fn ask(client: &kube::Client, kind: &str, spec: Value) -> Result<Value, Error> {
    let plural = format!("{}s", kind.to_ascii_lowercase());
    let gvr = GroupVersionResource::new("authorization.k8s.io", "v1", &plural);
    let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let reviews = ResourceClient::new(client.clone(), gvr);
    let mut answer = reviews.create("", &body).await?;
    match answer.get_mut("status").map(Value::take) {
        Some(status) if status.is_object() => Ok(status),
        _ => Err(Error::Transport(format!("the answer to a {kind} is none"))),
    }
}

/// The rules in the answer of a rules review.
fn granted(status: &Value) -> Vec<Rule> {
    let lists = ["resourceRules", "nonResourceRules"];
    let rules = lists
        .iter()
        .flat_map(|list| status[*list].as_array().into_iter().flatten());
    rules
        .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
        .collect()
}

/// What is asked about one right.
fn question(right: &Right) -> Value {
    match right {
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
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;

    use super::*;
    use crate::Connection;

    fn wanted() -> Vec<Rule> {
        vec![
            Rule::on("apps", &["deployments"], &["create", "delete"]),
            Rule::paths(["/version"], &["get"]),
        ]
    }

    /// A server that answers a rules review so, and allows what is asked for by itself or not.
    fn server(rules: Value, allowed: bool) -> (Connection, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path().rsplit('/').next().unwrap().to_owned();
            let answer = if path == "selfsubjectrulesreviews" {
                rules.clone()
            } else {
                json!({"status": {"allowed": allowed}})
            };
            log.lock().push(path);
            let body = Body::from(answer.to_string().into_bytes());
            async move { Ok::<_, std::io::Error>(Response::new(body)) }
        });
        (Connection::in_process(service), asked)
    }

    async fn lacking(server: &Connection) -> Result<Vec<String>, Error> {
        let lacking = review(&server.client(""), "ns", &wanted()).await?;
        Ok(lacking.iter().map(Right::to_string).collect())
    }

    #[tokio::test]
    async fn what_a_complete_answer_does_not_give_is_missing() {
        let rules = json!({"status": {"resourceRules":
            [{"verbs": ["create"], "apiGroups": ["apps"], "resources": ["*"]}]}});
        let (server, asked) = server(rules, true);
        assert_eq!(
            lacking(&server).await.unwrap(),
            ["delete deployments.apps", "get /version"]
        );
        assert_eq!(asked.lock().len(), 1);
    }

    #[tokio::test]
    async fn what_an_incomplete_answer_leaves_open_is_asked_one_by_one() {
        let incomplete = json!({"status": {"incomplete": true}});
        let (generous, asked) = server(incomplete.clone(), true);
        assert_eq!(lacking(&generous).await.unwrap(), Vec::<String>::new());
        assert_eq!(asked.lock().len(), 1 + 3);
        let (strict, _) = server(incomplete, false);
        assert_eq!(lacking(&strict).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_question_that_comes_back_without_an_answer_says_nothing() {
        for odd in [
            json!({"spec": {"namespace": "ns"}}),
            json!({"status": "Success"}),
            json!([]),
        ] {
            let (server, _) = server(odd.clone(), true);
            assert!(lacking(&server).await.is_err(), "{odd}");
        }
    }
}
