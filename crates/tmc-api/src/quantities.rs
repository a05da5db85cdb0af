//! Amounts of resources: the exact quantity and lists of them.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, json_schema};

pub use tmc_apimachinery::quantity::Quantity;

/// Amounts by resource name (`cpu`, `memory`, `pods`, `example.com/gpu`, …).
pub type ResourceList = BTreeMap<String, Quantity>;

/// Schema of a quantity as Kubernetes' own CRDs state it: integer or string, exact pattern.
pub(crate) fn quantity_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        "x-kubernetes-int-or-string": true,
    })
}

/// Schema of a [`ResourceList`].
pub(crate) fn resource_list_schema(generator: &mut SchemaGenerator) -> Schema {
    let quantity = quantity_schema(generator);
    json_schema!({"type": "object", "additionalProperties": quantity})
}
