//! The built-in kinds against Kubernetes' own documents: `api/openapi-spec/v3` and `api/discovery`
//! of the Go module `k8s.io/kubernetes` 1.36.2.
//!
//! The module's directory comes from `TMC_K8S_MODULE`, else from `go` and `tests/testbin`. Without
//! it the schemas are compared with a digest that was taken when they agreed with the documents;
//! after a change of the schemas, run with the module and `TMC_UPDATE_DIGEST=1`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tmc_apimachinery::definition::Verbs;

const VERSION: &str = "1.36.2";

/// The directory of the Go module, if it is at hand.
fn module() -> Option<PathBuf> {
    let given = std::env::var_os("TMC_K8S_MODULE").map(PathBuf::from);
    let found = given.or_else(|| {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/testbin");
        let go = Command::new("go")
            .args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"])
            .current_dir(tests)
            .output()
            .ok()?;
        let path = String::from_utf8(go.stdout).ok()?;
        Some(PathBuf::from(path.trim()))
    });
    let found = found.filter(|path| path.join("api/openapi-spec/v3").is_dir());
    if found.is_none() {
        skipped();
    }
    found
}

/// Says that the documents are missing, also in the file in which `cargo xtask test` counts skips.
fn skipped() {
    let what = format!("the Go module k8s.io/kubernetes {VERSION} (TMC_K8S_MODULE)");
    eprintln!("skipped for want of {what}");
    let Some(file) = std::env::var_os("TMC_TEST_SKIP_FILE") else {
        return;
    };
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .unwrap();
    writeln!(
        file,
        "{what}\ttmc-builtins: comparison with Kubernetes' documents"
    )
    .unwrap();
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ours() -> BTreeMap<String, Value> {
    let components = tmc_builtins::components();
    components
        .names()
        .map(|name| (name.to_owned(), components.get(name).unwrap()))
        .collect()
}

/// The schemas of all documents by name.
fn theirs(module: &Path) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(module.join("api/openapi-spec/v3")).unwrap() {
        let document = read(&entry.unwrap().path());
        let schemas = document
            .pointer("/components/schemas")
            .and_then(Value::as_object);
        for (name, schema) in schemas.into_iter().flatten() {
            all.entry(name.clone()).or_insert_with(|| schema.clone());
        }
    }
    all
}

/// Takes away what this crate leaves out on purpose: defaults that name the zero value of a Go
/// field, and the wrapping of references that only carries them.
fn without_zero_defaults(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let zero = [json!({}), json!(""), json!(0), json!(false)];
            if members
                .get("default")
                .is_some_and(|default| zero.contains(default))
            {
                members.remove("default");
            }
            members.values_mut().for_each(without_zero_defaults);
            let wrapped = match members
                .get("allOf")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
            {
                Some([only]) if members.len() == 1 => Some(only.clone()),
                _ => None,
            };
            if let Some(reference) = wrapped {
                *schema = reference;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_zero_defaults),
        _ => {}
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.sort_by_key(Value::to_string);
    }
}

#[test]
fn schemas_are_those_of_kubernetes_but_for_zero_defaults() {
    let Some(module) = module() else { return };
    let theirs = theirs(&module);
    let mut wrong = Vec::new();
    for (name, mut schema) in ours() {
        let mut original = theirs
            .get(&name)
            .unwrap_or_else(|| panic!("{name}"))
            .clone();
        without_zero_defaults(&mut original);
        without_zero_defaults(&mut schema);
        // Every group has `DeleteOptions` as a kind of its own; here it is none.
        if name.ends_with(".DeleteOptions") {
            original
                .as_object_mut()
                .unwrap()
                .remove("x-kubernetes-group-version-kind");
        }
        if schema != original {
            wrong.push(format!("{name}:\n  ours {schema}\n  real {original}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Hashes a value; the order of members does not matter.
fn digest(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(members) => {
            hash.update(b"{");
            for (key, value) in members.iter().collect::<BTreeMap<_, _>>() {
                hash.update(Value::from(key.as_str()).to_string());
                digest(value, hash);
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            items.iter().for_each(|item| digest(item, hash));
            hash.update(b"]");
        }
        scalar => hash.update(scalar.to_string()),
    }
    hash.update(b",");
}

#[test]
fn schemas_are_those_that_were_compared_last() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/components.sha256");
    let mut hash = Sha256::new();
    for (name, schema) in ours() {
        hash.update(name);
        digest(&schema, &mut hash);
    }
    let digest: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if std::env::var_os("TMC_UPDATE_DIGEST").is_some() && module().is_some() {
        std::fs::write(&file, format!("{digest}\n")).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        digest,
        kept.trim(),
        "the schemas changed: compare them with Kubernetes' documents (TMC_K8S_MODULE) and set TMC_UPDATE_DIGEST=1"
    );
}

#[test]
fn every_component_compiles_and_refers_to_components_only() {
    assert_eq!(tmc_builtins::components().check(), []);
    assert!(ours().len() > 380, "{}", ours().len());
}

/// The verbs of a resource in a discovery document.
fn verbs(resource: &Value) -> BTreeSet<&str> {
    resource["verbs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect()
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn names_scope_verbs_and_subresources_are_those_of_discovery() {
    let Some(module) = module() else { return };
    for definition in tmc_builtins::definitions() {
        let gv = definition.gvk.group_version();
        let file = match gv.group.as_str() {
            "" => format!("api__{}.json", gv.version),
            group => format!("apis__{group}__{}.json", gv.version),
        };
        let document = read(&module.join("api/discovery").join(file));
        let resource = |name: &str| {
            let all = document["resources"].as_array().unwrap().iter();
            all.clone()
                .find(|r| r["name"] == name)
                .cloned()
                .unwrap_or(Value::Null)
        };
        let plural = &definition.plural;
        let main = resource(plural);
        assert_eq!(main["kind"], *definition.gvk.kind, "{plural}");
        assert_eq!(main["singularName"], *definition.singular, "{plural}");
        assert_eq!(main["namespaced"], definition.namespaced(), "{plural}");
        assert_eq!(
            texts(&main["shortNames"]),
            definition.short_names,
            "{plural}"
        );
        assert_eq!(
            texts(&main["categories"]),
            definition.categories,
            "{plural}"
        );
        let ours: BTreeSet<&str> = definition.verbs.names().into_iter().collect();
        assert_eq!(verbs(&main), ours, "{plural}");

        let has = |name: &str| !resource(&format!("{plural}/{name}")).is_null();
        assert_eq!(has("status"), definition.subresources.status, "{plural}");
        assert_eq!(
            has("scale"),
            definition.subresources.scale.is_some(),
            "{plural}"
        );
        for (name, (gvk, verbs_)) in &definition.subresources.other {
            let sub = resource(&format!("{plural}/{name}"));
            assert_eq!(sub["kind"], *gvk.kind, "{plural}/{name}");
            let ours: BTreeSet<&str> = verbs_.names().into_iter().collect();
            assert_eq!(verbs(&sub), ours, "{plural}/{name}");
        }
    }
}

#[test]
fn reviews_can_be_made_and_nothing_else() {
    let all = tmc_builtins::definitions();
    let reviews: Vec<_> = all.iter().filter(|d| d.verbs == Verbs::CREATE).collect();
    assert_eq!(reviews.len(), 6);
    assert!(
        reviews
            .iter()
            .all(|d| d.gvk.kind.ends_with("Review") && !d.strategic)
    );
}
