//! Objects as an agent keeps them: compact JSON, read when they are worked on. As trees of values
//! they would take five times the room, twice, for as long as they exist.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object in compact JSON.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Packed(Box<[u8]>);

impl Packed {
    /// Packs an object.
    pub(crate) fn new(object: &Value) -> Self {
        Self(object.to_string().into_bytes().into())
    }

    /// The object, to work with.
    pub(crate) fn read(&self) -> Value {
        // What was written by `new` can be read.
        serde_json::from_slice(&self.0).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|object| Self::new(&object))
    }
}

impl std::fmt::Debug for Packed {
    /// Never the content: it may be a Secret's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} bytes)", self.0.len())
    }
}

/// An object of which only the existence matters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Present {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_comes_back_as_it_was_and_its_debug_form_tells_nothing() {
        let object =
            json!({"metadata": {"name": "é"}, "data": {"k": "c2VjcmV0"}, "n": [1.5, -2, null]});
        let packed: Packed = serde_json::from_value(object.clone()).expect("packed");
        assert_eq!(packed.read(), object);
        assert!(!format!("{packed:?}").contains("c2Vj"));
        let present: Present = serde_json::from_value(object).expect("present");
        assert_eq!(std::mem::size_of_val(&present), 0);
    }

    /// What 2,650 Deployments of both sides take, as the store keeps them: far below the syncer's
    /// budget of 25 MB, of which it has 12 when it is idle.
    #[test]
    fn a_whole_cluster_fits_into_the_budget() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "deployment-0001", "namespace": "kcp-0123456789ab", "uid":
                "00000000-0000-0000-0000-000000000000", "resourceVersion": "1234567", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"internal.workload.kcp.io/cluster": "cKK89Yvux7z7kBVBj3oVPIY9VBlLrL97v8mjtz"},
                "annotations": {"internal.workload.kcp.io/applied": "3.0123456789abcdef"}},
            "spec": {"replicas": 3, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                    "containers": [{"name": "web", "image": "registry.example/web:1.2.3",
                        "imagePullPolicy": "IfNotPresent", "resources": {},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File"}],
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                    "schedulerName": "default-scheduler", "securityContext": {},
                    "terminationGracePeriodSeconds": 30}}},
            "status": {"observedGeneration": 3, "replicas": 3, "readyReplicas": 3,
                "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
                    "message": "Deployment has minimum availability.",
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "lastUpdateTime": "2026-01-01T00:00:00Z"}]},
        });
        let both_sides = 2 * 2_650 * Packed::new(&object).0.len();
        assert!(both_sides < 10 * 1024 * 1024, "{both_sides} bytes");
    }
}
