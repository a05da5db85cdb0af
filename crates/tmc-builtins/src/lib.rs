//! What Kubernetes' built-in kinds are: names and verbs, schemas, defaults, validation and printer
//! columns, as data and pure functions.
//!
//! The facts are those of Kubernetes 1.36. Names, schemas and their merge facts are held by tests
//! to the discovery and OpenAPI documents of the Go module `k8s.io/kubernetes`, where it is at hand.

mod columns;
mod defaults;
mod facts;
mod kinds;
mod omit;
mod quantities;
mod report;
mod schemas;
mod validation;

use std::sync::{Arc, OnceLock};

use serde_json::json;
use tmc_apimachinery::GroupVersionKind;
use tmc_apimachinery::definition::{ResourceDefinition, ScalePaths, Subresources};
use tmc_apimachinery::schema::Schema;

use kinds::Kind;

pub use defaults::default;
pub use schemas::components;
pub use validation::validate;

/// Every built-in resource of the groups that an application uses, in no particular order.
///
/// Made once in a process and shared: further calls, by however many hubs, cost a list of pointers.
/// The schemas are kept as text and compiled when first used (see
/// [`Definitions`](tmc_apimachinery::schema::Definitions)).
pub fn definitions() -> Vec<Arc<ResourceDefinition>> {
    shared().to_vec()
}

fn shared() -> &'static [Arc<ResourceDefinition>] {
    static SHARED: OnceLock<Vec<Arc<ResourceDefinition>>> = OnceLock::new();
    SHARED.get_or_init(|| {
        kinds::KINDS
            .iter()
            .map(|kind| Arc::new(define(kind)))
            .collect()
    })
}

fn define(kind: &Kind) -> ResourceDefinition {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    ResourceDefinition {
        gvk: GroupVersionKind::new(kind.group, kind.version, kind.kind),
        plural: kind.plural.to_owned(),
        singular: kind.kind.to_lowercase(),
        list_kind: format!("{}List", kind.kind),
        short_names: owned(kind.short_names),
        categories: owned(kind.categories),
        scope: kind.scope,
        verbs: kind.verbs,
        subresources: subresources(kind),
        schema: Some(Arc::new(schema(kind))),
        columns: columns::columns(kind),
        strategic: kind.stored(),
        selectable_fields: owned(kind.selectable),
        name_rule: kind.name_rule,
        generation: kind.generation,
        custom: false,
        immutable_fields: owned(kind.immutable),
        storage_version: kind.version.to_owned(),
    }
}

fn schema(kind: &Kind) -> Schema {
    let source = json!({"$ref": format!("#/components/schemas/{}", kind.component())});
    Schema::compile_with(&source, components().clone())
        .expect("the component of every row is generated, as a test shows")
}

fn subresources(kind: &Kind) -> Subresources {
    let gvk =
        |(group, version, name): (&str, &str, &str)| GroupVersionKind::new(group, version, name);
    Subresources {
        status: kind.status,
        scale: kind.scale_selector.map(|selector| ScalePaths {
            spec_replicas: "spec.replicas".to_owned(),
            status_replicas: "status.replicas".to_owned(),
            selector: Some(selector.to_owned()),
        }),
        other: kind
            .other
            .iter()
            .map(|(name, of, verbs)| ((*name).to_owned(), (gvk(*of), *verbs)))
            .collect(),
    }
}
