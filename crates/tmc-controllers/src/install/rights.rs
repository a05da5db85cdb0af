//! What an account lacks of the rights that it was just given, asked as that account.

use std::time::Duration;

use tmc_api::agent::rules::{Right, Rule};
use tmc_runtime::rights::review;

use super::Problem;

/// How often is asked while rights are missing that were just given: servers learn of new bindings
/// after a moment.
const ATTEMPTS: u32 = 5;
/// Pause before the next of them.
const PAUSE: Duration = Duration::from_millis(300);

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tmc_runtime::Connection;

    use super::*;

    /// A server that knows of the caller's right only when it was asked so often.
    fn server(asked: Arc<AtomicU32>, knows_after: u32) -> Connection {
        Connection::in_process(tower::service_fn(move |_: Request<Body>| {
            let mut status = json!({});
            if asked.fetch_add(1, Ordering::Relaxed) >= knows_after {
                status["resourceRules"] =
                    json!([{"verbs": ["*"], "apiGroups": ["apps"], "resources": ["deployments"]}]);
            }
            let body = Body::from(json!({"status": status}).to_string().into_bytes());
            async move { Ok::<_, std::io::Error>(Response::new(body)) }
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn rights_that_arrive_after_a_moment_are_waited_for_but_not_for_ever() {
        let wanted = [Rule::on("apps", &["deployments"], &["create"])];
        for (knows_after, asks, missing) in [(0, 1, 0), (2, 3, 0), (100, ATTEMPTS, 1)] {
            let asked = Arc::new(AtomicU32::new(0));
            let client = server(Arc::clone(&asked), knows_after).client("");
            let lacking = lacking(&client, "ns", &wanted).await.unwrap();
            assert_eq!(
                (asked.load(Ordering::Relaxed), lacking.len()),
                (asks, missing)
            );
        }
    }
}
