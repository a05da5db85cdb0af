//! What holds for any content.

use proptest::prelude::*;
use tmc_apimachinery::schema::Schema;

use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![
            Just("Exists"),
            Just("Divided"),
            Just("a"),
            Just(""),
            Just("kcp.io/x"),
            Just("10s")
        ]
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 4, |inner| {
        let key = prop_oneof![
            Just("name"),
            Just("key"),
            Just("cells"),
            Just("taints"),
            Just("syncerConfig"),
            Just("labels"),
            Just("metadata"),
            Just("spec"),
            Just("annotations"),
            Just("finalizers"),
            Just("clusterRef"),
            Just("tolerations"),
            Just("division"),
            Just("weights"),
            Just("state.workload.kcp.io/K"),
            Just("kubeconfigSecretRef"),
            Just("type"),
            Just("mount"),
            Just("matchLabels"),
            Just("instanceSelector"),
            Just("conditions"),
            Just("status"),
        ]
        .prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

const KINDS: [(&str, &str, &str); 7] = [
    TARGET, CLUSTER, LOCATION, PLACEMENT, WORKSPACE, LOGICAL, CONFIG_MAP,
];

fn defaulted(kind: (&str, &str, &str), mut object: Value) -> Value {
    let gvk = GroupVersionKind::new(kind.0, "v1alpha1", kind.1);
    Guards::new(config()).default(Kind::of(&gvk), &mut object);
    object
}

proptest! {
    #[test]
    fn unknown_content_never_panics(
        spec in any_json(), metadata in any_json(), old in any_json(), kind in 0usize..7, who in 0usize..4,
    ) {
        let groups = [USER, MASTER, CONTROLLER, VIEW][who];
        let object = json!({"metadata": metadata, "spec": spec});
        for subresource in ["", "status"] {
            let create = Write::new(KINDS[kind], groups).on(subresource).by("agent");
            let _ = run(create.admit(object.clone()));
            let _ = run(create.admit(spec.clone()));
            let update = Write::new(KINDS[kind], groups).on(subresource).by("agent").over(old.clone());
            let _ = run(update.admit(object.clone()));
        }
    }

    #[test]
    fn defaulting_is_idempotent(spec in any_json(), kind in 0usize..7) {
        let object = json!({"metadata": {"name": "east", "uid": "u"}, "spec": spec});
        let once = defaulted(KINDS[kind], object);
        prop_assert_eq!(defaulted(KINDS[kind], once.clone()), once);
    }

    #[test]
    fn no_user_changes_what_is_reserved(
        old in prop::collection::btree_map("(state\\.workload\\.)?kcp\\.io/[a-c]|[a-c]", "[x-y]", 0..4),
        new in prop::collection::btree_map("(state\\.workload\\.)?kcp\\.io/[a-c]|[a-c]", "[x-y]", 0..4),
    ) {
        let object = |labels: &std::collections::BTreeMap<String, String>| {
            json!({"metadata": {"name": "east", "labels": labels}})
        };
        let write = Write::new(CONFIG_MAP, USER).over(object(&old));
        if let Ok(stored) = run(write.admit(object(&new))) {
            let reserved = |labels: &Value| -> Vec<(String, Value)> {
                let map = labels.as_object().cloned().unwrap_or_default();
                map.into_iter().filter(|(key, _)| keys::is_reserved(key)).collect()
            };
            prop_assert_eq!(reserved(&stored["metadata"]["labels"]), reserved(&json!(old)));
        }
    }
}

#[tokio::test]
async fn defaulted_objects_satisfy_their_schemas() {
    for (kind, object) in [
        (TARGET, named(json!({"cells": {"zone": "a"}}))),
        (
            CLUSTER,
            cluster(json!({"syncTargetTemplate": {"cells": [{"name": "a"}]}})),
        ),
        (LOCATION, named(json!({}))),
        (
            PLACEMENT,
            named(json!({"tolerations": [{"key": "a"}], "replicas": "Divided", "division": {}})),
        ),
        (WORKSPACE, named(json!({}))),
    ] {
        let mut object = Write::new(kind, USER).admit(object).await.unwrap();
        object["apiVersion"] = format!("{}/v1alpha1", kind.0).into();
        object["kind"] = kind.1.into();
        let crds = tmc_api::crd::crds();
        let crd = crds
            .iter()
            .find(|crd| crd["spec"]["names"]["kind"] == kind.1)
            .unwrap();
        let source = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let schema = Schema::compile(source).unwrap();
        assert_eq!(schema.prune(&mut object), Vec::<String>::new());
        assert!(
            schema.validate(&object).is_empty(),
            "{:?}",
            schema.validate(&object)
        );
        let stored = object.clone();
        schema.default(&mut object);
        let again = Write::new(kind, USER)
            .over(stored)
            .admit(object.clone())
            .await
            .unwrap();
        assert_eq!(again, object);
    }
}
