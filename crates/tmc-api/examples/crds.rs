//! Prints every CustomResourceDefinition as one list, for `kubectl apply -f -`.

fn main() {
    let list =
        serde_json::json!({"apiVersion": "v1", "kind": "List", "items": tmc_api::crd::crds()});
    println!("{list:#}");
}
