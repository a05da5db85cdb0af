//! Workspace: validation and immutability.

use super::*;

#[tokio::test]
async fn every_validation_of_a_workspace_names_its_field() {
    let with_name = |name: &str| json!({"metadata": {"name": name}});
    let mount = json!({"ref": {"apiVersion": "v1", "kind": "X", "name": "x"}});
    expect_faults(
        WORKSPACE,
        vec![
            (named(json!({"mount": mount})), "spec.mount"),
            (named(json!({"type": {"name": "-a"}})), "spec.type.name"),
            (named(json!({"type": {"name": ""}})), "spec.type.name"),
            (named(json!({"type": {"name": "1a"}})), "spec.type.name"),
            (
                named(json!({"type": {"name": "x".repeat(64)}})),
                "spec.type.name",
            ),
            (
                named(json!({"type": {"name": "a", "path": "a:"}})),
                "spec.type.path",
            ),
            (
                named(json!({"location": {"selector": {"matchLabels": {"": "x"}}}})),
                "spec.location.selector.matchLabels",
            ),
            (with_name("a:b"), "metadata.name"),
            (with_name("a.b"), "metadata.name"),
            (with_name("A"), "metadata.name"),
        ],
    )
    .await;
    expect_fine(
        WORKSPACE,
        vec![
            with_name("shop"),
            named(json!({"type": {"name": "team", "path": "root"}})),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_a_workspace_was_given_cannot_change() {
    let old = named(json!({"type": {"name": "team"}, "cluster": "2abc", "URL": "https://hub/a"}));
    let change = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        new
    };
    for (new, field) in [
        (change("/spec/type", json!({"name": "other"})), "spec.type"),
        (change("/spec/type", json!(null)), "spec.type"),
        (change("/spec/cluster", json!("2xyz")), "spec.cluster"),
        (change("/spec/cluster", json!(null)), "spec.cluster"),
        (change("/spec/URL", json!("https://evil")), "spec.URL"),
        (change("/spec/URL", json!(null)), "spec.URL"),
    ] {
        for groups in [USER, MASTER] {
            let found = Write::new(WORKSPACE, groups)
                .over(old.clone())
                .faults(new.clone())
                .await;
            assert!(found.iter().any(|f| f == field), "{field}: {found:?}");
        }
    }
    let moved = change("/spec/URL", json!("https://hub/b"));
    Write::new(WORKSPACE, CONTROLLER)
        .over(old.clone())
        .admit(moved)
        .await
        .unwrap();
    let write = Write::new(WORKSPACE, CONTROLLER).over(old.clone());
    assert_eq!(
        write.faults(change("/spec/cluster", json!("2xyz"))).await,
        ["spec.cluster"]
    );
    let fresh = Write::new(WORKSPACE, CONTROLLER).over(named(json!({})));
    fresh
        .admit(named(json!({"cluster": "2abc", "URL": "https://hub/a"})))
        .await
        .unwrap();
    let fresh = Write::new(WORKSPACE, USER).over(named(json!({})));
    fresh.faults(named(json!({"cluster": "2abc"}))).await;
}
