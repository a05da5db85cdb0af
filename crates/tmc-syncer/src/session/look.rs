//! Looking at the member again and again, for the reports.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tmc_runtime::client::Error;
use tmc_runtime::jitter::exponential;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Listener, Session};
use crate::report;
use crate::rights::Rights;

/// How soon the member is looked at again after a failure, or while it is not known yet what is kept
/// in it.
const REPORT_RETRY: Duration = Duration::from_secs(5);

impl<L: Listener> Session<L> {
    /// Looks at the member again and again.
    pub(super) async fn look(&self, reports: &watch::Sender<Option<Arc<Value>>>) -> Infallible {
        let mut uncounted = 0;
        let mut rights = Rights::default();
        loop {
            let wait = match self.observe(&mut rights).await {
                Ok(report) => {
                    reports.send_replace(Some(Arc::new(report)));
                    if self.listener.synced().is_some() {
                        self.report_every
                    } else {
                        uncounted += 1;
                        let first = REPORT_RETRY.min(self.report_every);
                        exponential(first, self.report_every, uncounted - 1)
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the member cannot be looked at");
                    REPORT_RETRY
                }
            };
            sleep(self.jitter.stretch(wait, 10)).await;
        }
    }

    /// A report of the member, and of what may not be done in it if it says so.
    async fn observe(&self, rights: &mut Rights) -> Result<Value, Error> {
        let mut report = report::observe(&self.downstream, &self.clock).await?;
        let synced = self.listener.syncs();
        let missing = rights.missing(&self.downstream, &self.target, synced);
        if let Some(missing) = missing.await {
            report["missingRights"] = json!(missing);
        }
        Ok(report)
    }

    /// A report with what is kept in the member by now.
    pub(super) fn counted(&self, report: &Value) -> Value {
        let mut report = report.clone();
        if let Some(synced) = self.listener.synced() {
            report["synced"] = json!(synced);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use tmc_api::syncer::{SessionConfig, SyncedReport};
    use tmc_apimachinery::{ClusterName, GroupVersionResource};
    use tmc_runtime::{Clock, Connection, Jitter};
    use tokio_util::sync::CancellationToken;
    use tower::BoxError;

    use super::*;
    use crate::mapping::Target;
    use crate::rights::ASK_EVERY;

    /// An agent that syncs what it says.
    struct Syncs(Arc<Mutex<Vec<&'static str>>>);

    impl Listener for Syncs {
        fn resources(&self, _: &[GroupVersionResource]) {}
        fn configure(&self, _: &SessionConfig) {}
        fn syncs(&self) -> Vec<GroupVersionResource> {
            let names = self.0.lock();
            let gvr = |name: &&str| GroupVersionResource::new("apps", "v1", name);
            names.iter().map(gvr).collect()
        }
        fn synced(&self) -> Option<SyncedReport> {
            Some(SyncedReport::default())
        }
    }

    /// A member: what it answers to a rules review, if anything, and how often it was asked.
    #[derive(Default)]
    struct Member {
        rules: Option<Value>,
        asked: u32,
    }

    /// What is to be seen of an agent from both sides.
    struct World {
        member: Arc<Mutex<Member>>,
        syncs: Arc<Mutex<Vec<&'static str>>>,
        reported: Arc<Mutex<Option<Value>>>,
        stop: CancellationToken,
    }

    impl World {
        fn start() -> Self {
            let world = Self {
                member: Arc::default(),
                syncs: Arc::default(),
                reported: Arc::default(),
                stop: CancellationToken::new(),
            };
            let session = Session {
                upstream: hub(Arc::clone(&world.reported)),
                downstream: member(Arc::clone(&world.member)),
                target: Target {
                    cluster: ClusterName::new("c"),
                    name: "t".into(),
                    uid: "u".into(),
                },
                identity: "a".into(),
                listener: Syncs(Arc::clone(&world.syncs)),
                clock: Clock::system(),
                jitter: Jitter::seeded(1),
                report_every: Duration::from_secs(60),
            };
            let stop = world.stop.clone();
            tokio::spawn(async move { session.run(&stop).await });
            world
        }

        /// How often the member is asked in this time, and what the last report says of rights.
        async fn after(&self, time: Duration) -> (u32, Value) {
            let before = self.member.lock().asked;
            sleep(time).await;
            let report = self.reported.lock();
            let report = report.as_ref().expect("a report");
            let rights = report["missingRights"].clone();
            (self.member.lock().asked - before, rights)
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    /// A hub in the same process that keeps the last report.
    fn hub(reported: Arc<Mutex<Option<Value>>>) -> Connection {
        Connection::in_process(tower::service_fn(move |request: Request<Body>| {
            let reported = Arc::clone(&reported);
            async move {
                let body = request.into_body().collect_bytes().await?;
                let beat: Value = serde_json::from_slice(&body).unwrap_or_default();
                if let Some(report) = beat.get("report") {
                    *reported.lock() = Some(report.clone());
                }
                let answer = json!({"nextInterval": "10s", "items": []}).to_string();
                Ok::<_, BoxError>(Response::new(Body::from(answer.into_bytes())))
            }
        }))
    }

    fn member(state: Arc<Mutex<Member>>) -> Connection {
        Connection::in_process(tower::service_fn(move |request: Request<Body>| {
            let review = request.uri().path().ends_with("/selfsubjectrulesreviews");
            let (code, answer) = if review {
                let mut member = state.lock();
                member.asked += 1;
                match &member.rules {
                    Some(rules) => (201, json!({"status": {"resourceRules": rules}})),
                    None => (404, json!({"kind": "Status", "code": 404})),
                }
            } else {
                (200, json!({}))
            };
            let body = Body::from(answer.to_string().into_bytes());
            async move { Ok::<_, BoxError>(Response::builder().status(code).body(body)?) }
        }))
    }

    fn everything_but(verb: &str) -> Value {
        let verbs = ["create", "delete", "get", "list", "patch", "watch"];
        let verbs: Vec<&str> = verbs.into_iter().filter(|v| *v != verb).collect();
        json!([{"verbs": verbs, "apiGroups": ["", "apps"], "resources": ["*"]}])
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_reports_the_rights_that_it_lacks_until_it_has_them() {
        let world = World::start();
        assert_eq!(
            world.after(minutes(3)).await,
            (0, json!(null)),
            "nobody knows what it is to sync"
        );
        world.member.lock().rules = Some(everything_but("delete"));
        *world.syncs.lock() = vec!["deployments"];
        let (asked, rights) = world.after(minutes(10)).await;
        assert_eq!(
            rights,
            json!(["delete namespaces", "delete deployments.apps"])
        );
        assert!((8..=11).contains(&asked), "with each report: {asked}");
        world.member.lock().rules = Some(everything_but("nothing"));
        assert_eq!(world.after(minutes(2)).await.1, json!([]));
        let (asked, rights) = world.after(6 * ASK_EVERY).await;
        assert_eq!(rights, json!([]));
        assert!((4..=6).contains(&asked), "now and then: {asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn other_resources_need_other_rights() {
        let world = World::start();
        world.member.lock().rules = Some(json!([
            {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["deployments"]},
            {"verbs": ["*"], "apiGroups": [""], "resources": ["namespaces"]},
        ]));
        *world.syncs.lock() = vec!["deployments"];
        assert_eq!(world.after(minutes(2)).await, (1, json!([])));
        *world.syncs.lock() = vec!["daemonsets", "deployments"];
        let (_, rights) = world.after(minutes(2)).await;
        assert_eq!(rights.as_array().map(Vec::len), Some(6), "{rights}");
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_member_that_does_not_say_it_nothing_is_reported_and_it_is_not_pressed() {
        let world = World::start();
        *world.syncs.lock() = vec!["deployments"];
        let (asked, rights) = world.after(6 * ASK_EVERY).await;
        assert_eq!(rights, json!(null));
        assert!((6..=10).contains(&asked), "{asked}");
        let (asked, _) = world.after(6 * ASK_EVERY).await;
        assert!((4..=6).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_did_not_say_it_once_is_soon_asked_again() {
        let world = World::start();
        *world.syncs.lock() = vec!["deployments"];
        let (asked, rights) = world.after(Duration::from_secs(30)).await;
        assert_eq!((asked, rights), (1, json!(null)));
        world.member.lock().rules = Some(everything_but("nothing"));
        assert_eq!(world.after(minutes(2)).await, (1, json!([])));
    }
}
