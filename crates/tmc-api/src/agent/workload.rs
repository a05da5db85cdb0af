//! The agent as a workload of its member: its credential for the hub and a Deployment, of whose pods
//! the holder of a Lease works while the others stand by.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::kubeconfig::{in_cluster, with_token};
use super::{AgentId, NAME_LABEL, SYNCER, election};
use crate::hashes::base36_sha224;
use crate::keys::AGENT_UID_LABEL;
use crate::workload::{ResourceRequirements, SyncerConfig};

/// Key of the Secret: kubeconfig of the hub.
pub const HUB_KEY: &str = "hub.kubeconfig";
/// Key of the Secret: kubeconfig of the member, as the pod's own account.
pub const MEMBER_KEY: &str = "member.kubeconfig";
/// Annotation of the pods: a hash of the Secret's content, so that a new credential is taken up.
pub const CREDENTIAL_ANNOTATION: &str = "tmc.kcp.io/credential";
/// Environment variable with the pod's name, by which its agent calls itself.
const POD_NAME: &str = "POD_NAME";
/// Where the Secret is mounted.
const CONFIG: &str = "/etc/tmc";
/// Where the pod finds the account's token and the member's CA.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Life of the pod's own token, which the kubelet renews.
const TOKEN_SECONDS: i64 = 3600;
/// An unprivileged user and group.
const NOBODY: i64 = 65532;

/// What the workload is rendered from.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// Whose agent.
    pub agent: &'a AgentId,
    /// Its namespace in the member.
    pub namespace: &'a str,
    /// URL of the SyncTarget's workspace on the hub (`https://…/clusters/<logical cluster>`).
    pub hub: &'a str,
    /// The hub's certificate authority, PEM.
    pub hub_ca: &'a [u8],
    /// A token of the agent's account on the hub.
    pub token: &'a str,
    /// What the SyncTarget says.
    pub config: &'a SyncerConfig,
    /// The image, where the SyncTarget says nothing.
    pub image: &'a str,
    /// Whether the agent keeps the token that it renews in the Secret: where the hub does not.
    pub keeps_token: bool,
}

impl Workload<'_> {
    /// The right to the Lease, Secret and Deployment, in the order to apply them.
    pub fn manifests(&self) -> Vec<Value> {
        let mut all = election::manifests(self.agent, self.namespace);
        let secret = self.secret();
        let deployment = self.deployment(&credential_hash(&secret));
        all.extend([secret, deployment]);
        all
    }

    fn secret(&self) -> Value {
        let encode = |config: &Value| STANDARD.encode(config.to_string());
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": self.agent.metadata(self.namespace, &self.agent.name()),
            "data": {
                HUB_KEY: encode(&with_token(self.hub, self.hub_ca, self.token)),
                MEMBER_KEY: encode(&in_cluster(ACCOUNT)),
            },
        })
    }

    fn deployment(&self, credential: &str) -> Value {
        let name = self.agent.name();
        let mut metadata = self.agent.metadata(self.namespace, &name);
        metadata["labels"]["app.kubernetes.io/component"] = "syncer".into();
        // Immutable in a Deployment: nothing that can change belongs here.
        let selector = json!({NAME_LABEL: SYNCER, AGENT_UID_LABEL: self.agent.uid});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": self.config.replicas.unwrap_or(1),
                // The Lease keeps replicas apart, but an older release may not know of it.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {
                        "labels": self.agent.labels(),
                        "annotations": {CREDENTIAL_ANNOTATION: credential},
                    },
                    "spec": self.pod(&name),
                },
            },
        })
    }

    fn pod(&self, name: &str) -> Value {
        json!({
            "serviceAccountName": name,
            // The one token it needs is mounted below, with a short life.
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self.container()],
            "volumes": [
                {"name": "config", "secret": {"secretName": name, "defaultMode": 0o440}},
                {"name": "account", "projected": {"defaultMode": 0o440, "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
                    {"configMap": {"name": "kube-root-ca.crt",
                                   "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                ]}},
            ],
        })
    }

    fn container(&self) -> Value {
        let image = self
            .config
            .image
            .as_deref()
            .filter(|image| !image.is_empty());
        let mut args = vec![
            "syncer".to_owned(),
            format!("--from-kubeconfig={CONFIG}/{HUB_KEY}"),
            format!("--to-kubeconfig={CONFIG}/{MEMBER_KEY}"),
            format!("--sync-target-name={}", self.agent.target),
            format!("--sync-target-uid={}", self.agent.uid),
            format!("--lease-namespace={}", self.namespace),
            format!("--identity=$({POD_NAME})"),
        ];
        if self.keeps_token {
            let name = self.agent.name();
            args.push(format!("--keep-token-in={}/{name}", self.namespace));
        }
        let mut container = json!({
            "name": "syncer",
            "image": image.unwrap_or(self.image),
            "args": args,
            "env": [{"name": POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "config", "mountPath": CONFIG, "readOnly": true},
                {"name": "account", "mountPath": ACCOUNT, "readOnly": true},
            ],
        });
        if let Some(resources) = self
            .config
            .resources
            .as_ref()
            .filter(|r| **r != ResourceRequirements::default())
        {
            container["resources"] = json!(resources);
        }
        container
    }
}

/// What tells one content of the Secret from another; opaque.
pub fn credential_hash(secret: &Value) -> String {
    base36_sha224(&secret["data"].to_string())[..16].to_owned()
}

/// The token in the hub's kubeconfig of a Secret made here.
pub fn hub_token(secret: &Value) -> Option<String> {
    let text = STANDARD.decode(secret["data"][HUB_KEY].as_str()?).ok()?;
    let config: Value = serde_json::from_slice(&text).ok()?;
    config["users"][0]["user"]["token"]
        .as_str()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::resource_of;

    /// Secret and Deployment.
    fn rendered(config: &SyncerConfig, token: &str) -> Vec<Value> {
        let agent = AgentId::new("c", "east", "u");
        Workload {
            agent: &agent,
            namespace: "home",
            hub: "https://hub:6443/clusters/c",
            hub_ca: b"PEM",
            token,
            config,
            image: "tmc:1",
            keeps_token: false,
        }
        .manifests()
        .split_off(2)
    }

    #[test]
    fn a_plain_workload_runs_one_unprivileged_replica_of_the_hubs_image() {
        let all = rendered(&SyncerConfig::default(), "t");
        assert!(
            all.iter()
                .all(|m| AgentId::new("c", "east", "u").owns(m) && resource_of(m).is_some())
        );
        let spec = &all[1]["spec"];
        assert_eq!(
            (&spec["replicas"], &spec["strategy"]["type"]),
            (&json!(1), &json!("Recreate"))
        );
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "tmc:1");
        assert_eq!(
            container["securityContext"]["allowPrivilegeEscalation"],
            false
        );
        assert_eq!(
            container["securityContext"]["capabilities"],
            json!({"drop": ["ALL"]})
        );
        assert_eq!(container.get("resources"), None);
        let labels = spec["template"]["metadata"]["labels"].as_object().unwrap();
        let selector = spec["selector"]["matchLabels"].as_object().unwrap();
        assert!(
            selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        );
    }

    #[test]
    fn an_agent_that_keeps_its_token_is_told_where() {
        let agent = AgentId::new("c", "east", "u");
        let config = SyncerConfig::default();
        let workload = Workload {
            agent: &agent,
            namespace: "home",
            hub: "https://hub",
            hub_ca: b"PEM",
            token: "t",
            config: &config,
            image: "tmc:1",
            keeps_token: true,
        };
        let all = workload.manifests();
        let args = &all[3]["spec"]["template"]["spec"]["containers"][0]["args"];
        let last = args.as_array().unwrap().last().unwrap();
        assert_eq!(*last, format!("--keep-token-in=home/{}", agent.name()));
    }

    #[test]
    fn its_replicas_stand_for_a_lease_under_their_pods_names_and_are_ready_all_the_same() {
        let config = SyncerConfig {
            replicas: Some(2),
            ..SyncerConfig::default()
        };
        for config in [SyncerConfig::default(), config] {
            let deployment = rendered(&config, "t").swap_remove(1);
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            let args = container["args"].as_array().unwrap();
            for arg in ["--lease-namespace=home", "--identity=$(POD_NAME)"] {
                assert!(args.contains(&json!(arg)), "{args:?}");
            }
            assert_eq!(
                container["env"],
                json!([{"name": "POD_NAME",
                        "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])
            );
            // A probe of who works would keep those that stand by from ever being ready.
            for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
                assert_eq!(container.get(probe), None);
            }
        }
    }

    #[test]
    fn what_the_target_says_is_rendered() {
        let config: SyncerConfig = serde_json::from_value(json!({
            "image": "mine:2", "replicas": 3, "resources": {"limits": {"cpu": "1"}},
        }))
        .unwrap();
        let spec = &rendered(&config, "t")[1]["spec"];
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!(spec["replicas"], 3);
        assert_eq!(container["image"], "mine:2");
        assert_eq!(container["resources"], json!({"limits": {"cpu": "1"}}));
    }

    #[test]
    fn the_token_is_in_the_secret_alone_and_a_new_one_makes_new_pods() {
        let (old, new) = (
            rendered(&SyncerConfig::default(), "canary-1"),
            rendered(&SyncerConfig::default(), "canary-2"),
        );
        assert_eq!(hub_token(&old[0]).as_deref(), Some("canary-1"));
        assert!(!old[1].to_string().contains("canary"));
        assert_ne!(
            old[1]["spec"]["template"]["metadata"],
            new[1]["spec"]["template"]["metadata"]
        );
        assert_eq!(
            old,
            rendered(&SyncerConfig::default(), "canary-1"),
            "rendering is deterministic"
        );
        assert_eq!(hub_token(&json!({})), None);
    }
}
