//! Members: each a small API server of its own that judges tokens, answers discovery, and says what
//! an account may do by the bindings that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_controllers::clock::Clock;
use tmc_controllers::connector::SimulatedMembers;
use tmc_runtime::{Connection, Credential};
use tokio::time::Instant;

use crate::hub::FakeHub;

/// The logical cluster under which a member keeps its objects.
pub(crate) const HOME: &str = "member";

pub(crate) struct Members {
    clock: Clock,
    by_host: Mutex<BTreeMap<String, FakeHub>>,
    /// Hosts that swallow what they are sent.
    silent: Mutex<BTreeSet<String>>,
    /// Hosts that answer with an error whatever they are asked.
    broken: Mutex<BTreeSet<String>>,
    /// Hosts that take this long for each answer.
    slow: Mutex<BTreeMap<String, Duration>>,
    /// What was asked of whom, and when.
    asked: Mutex<Vec<(String, String, Instant)>>,
    /// Hosts whose registered credential may write nothing.
    read_only: Mutex<BTreeSet<String>>,
    /// Groups of which no member gives any right to the syncer, whatever its rules say.
    withheld: Mutex<BTreeSet<String>>,
}

/// As whom a member is spoken to.
#[derive(Clone)]
enum Caller {
    Administrator,
    Account(String),
}

impl Members {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            by_host: Mutex::default(),
            silent: Mutex::default(),
            broken: Mutex::default(),
            slow: Mutex::default(),
            asked: Mutex::default(),
            read_only: Mutex::default(),
            withheld: Mutex::default(),
        }
    }

    /// The objects of a member.
    pub(crate) fn of(&self, name: &str) -> FakeHub {
        let mut all = self.by_host.lock();
        let hub = all.entry(name.to_owned()).or_insert_with(|| {
            let hub = FakeHub::new();
            hub.set_clock(&self.clock);
            hub.take_apply();
            hub
        });
        hub.clone()
    }

    pub(crate) fn silence(&self, name: &str, silent: bool) {
        let mut all = self.silent.lock();
        if silent {
            all.insert(name.to_owned());
        } else {
            all.remove(name);
        }
    }

    pub(crate) fn break_down(&self, name: &str) {
        self.broken.lock().insert(name.to_owned());
    }

    /// From now on each answer of a member takes this long.
    pub(crate) fn slow_down(&self, name: &str, by: Duration) {
        self.slow.lock().insert(name.to_owned(), by);
    }

    /// When a path of a member was asked for; any path if it is empty.
    pub(crate) fn asked(&self, name: &str, path: &str) -> Vec<Instant> {
        let asked = self.asked.lock();
        let about = asked
            .iter()
            .filter(|(host, what, _)| host == name && (path.is_empty() || what == path));
        about.map(|(_, _, at)| *at).collect()
    }

    pub(crate) fn withhold(&self, group: &str) {
        self.withheld.lock().insert(group.to_owned());
    }

    pub(crate) fn make_read_only(&self, name: &str) {
        self.read_only.lock().insert(name.to_owned());
    }
}

pub(crate) struct Reached(pub(crate) std::sync::Arc<Members>);

impl SimulatedMembers for Reached {
    fn connect(&self, host: &str, credential: &Credential) -> Option<Connection> {
        let name = host.strip_suffix(".sim.tmc.internal")?.to_owned();
        let caller = match credential {
            Credential::Token(token) if token == "right" || token.starts_with("right.") => {
                Caller::Administrator
            }
            Credential::Token(token) => Caller::Account(token.clone()),
            Credential::Certificate { .. } => Caller::Administrator,
            _ => return None,
        };
        let members = std::sync::Arc::clone(&self.0);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (members, name, caller) = (members.clone(), name.clone(), caller.clone());
            async move {
                let path = request.uri().path().to_owned();
                let asked = (name.clone(), path, Instant::now());
                members.asked.lock().push(asked);
                if members.broken.lock().contains(&name) {
                    return Ok(answer(500, &json!({"kind": "Status", "code": 500})));
                }
                if members.silent.lock().contains(&name) {
                    std::future::pending::<()>().await;
                }
                let slow = members.slow.lock().get(&name).copied();
                if let Some(by) = slow {
                    tokio::time::sleep(by).await;
                }
                let registered = matches!(caller, Caller::Administrator);
                let writes = request.method() != http::Method::GET;
                if registered && writes && members.read_only.lock().contains(&name) {
                    return Ok(answer(403, &json!({"kind": "Status", "code": 403})));
                }
                serve(&members, &members.of(&name), &caller, request).await
            }
        });
        Some(Connection::in_process(service))
    }
}

fn answer(code: u16, body: &Value) -> http::Response<Body> {
    let body = Body::from(body.to_string().into_bytes());
    http::Response::builder().status(code).body(body).unwrap()
}

async fn serve(
    members: &Members,
    hub: &FakeHub,
    caller: &Caller,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, kube::Error> {
    let account = match caller {
        Caller::Administrator => None,
        Caller::Account(token) => match hub.account_of(token) {
            Some(account) => Some(account),
            None => return Ok(answer(401, &json!({"kind": "Status", "code": 401}))),
        },
    };
    let path = request.uri().path().to_owned();
    let found = match &*path {
        "/version" => json!({"gitVersion": "v1.36.0"}),
        "/api" => json!({"versions": ["v1"]}),
        "/apis" => json!({"groups": [{"name": "apps", "versions": [{"version": "v1"}],
                                     "preferredVersion": {"version": "v1"}}]}),
        "/apis/apps/v1" => {
            json!({"resources": [{"name": "deployments"}, {"name": "deployments/status"}]})
        }
        path if path.ends_with("/selfsubjectrulesreviews") => match account {
            Some(account) => json!({"status": rules_of(members, hub, &account)}),
            None => panic!("the syncer's rules are asked for as the syncer"),
        },
        _ => return pass_on(hub, request).await,
    };
    Ok(answer(200, &found))
}

async fn pass_on(
    hub: &FakeHub,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, kube::Error> {
    let client = hub.hub().connection.client(&format!("/clusters/{HOME}"));
    client.send(request).await
}

/// The rules of the ClusterRoles that are bound to an account.
fn rules_of(members: &Members, hub: &FakeHub, account: &(String, String)) -> Value {
    let mut rules = Vec::new();
    let bindings = hub.all(HOME, "clusterrolebindings/rbac.authorization.k8s.io");
    for binding in bindings {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let bound = subjects
            .into_iter()
            .any(|s| s["namespace"] == *account.0 && s["name"] == *account.1);
        if !bound {
            continue;
        }
        let roles = hub.all(HOME, "clusterroles/rbac.authorization.k8s.io");
        let role = roles
            .iter()
            .find(|role| binding["roleRef"]["name"] == meta(role).name());
        rules.extend(
            role.and_then(|r| r["rules"].as_array().cloned())
                .into_iter()
                .flatten(),
        );
    }
    let withheld = members.withheld.lock();
    let kept = |rule: &Value| !withheld.contains(rule["apiGroups"][0].as_str().unwrap_or_default());
    let mut rules: Vec<Value> = rules;
    rules.retain(kept);
    let paths: Vec<&Value> = rules
        .iter()
        .filter(|r| r.get("nonResourceURLs").is_some())
        .collect();
    json!({"resourceRules": rules, "nonResourceRules": paths, "incomplete": false})
}
