//! Cells: the failure domains of one target, in list form and in kcp's map form.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::quantities::{ResourceList, resource_list_schema};
use crate::workload::Taint;

/// Name of the one cell that the map form describes.
const DEFAULT_CELL: &str = "default";

/// A part of a target that fails as a whole: a zone, a rack, a node pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// Name, unique in the target: a DNS-1123 label.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Labels; `location` defaults to the cell's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Declared capacity, used only until the agent reports the real one. None is negative.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub capacity: ResourceList,
    /// Taints of this cell, unique by key and effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["key", "effect"]
    ))]
    pub taints: Vec<Taint>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    List(Vec<Cell>),
    Map(BTreeMap<String, String>),
}

/// Reads cells in either form: kcp's map from string to string is one cell `default` with these
/// labels, an empty map none.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Cell>, D::Error> {
    Ok(match Option::<Wire>::deserialize(from)? {
        None => Vec::new(),
        Some(Wire::List(cells)) => cells,
        Some(Wire::Map(labels)) if labels.is_empty() => Vec::new(),
        Some(Wire::Map(labels)) => {
            vec![Cell {
                name: DEFAULT_CELL.into(),
                labels,
                ..Cell::default()
            }]
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::workload::SyncTargetSpec;

    #[test]
    fn a_map_from_string_to_string_is_one_cell_of_these_labels() {
        let spec: SyncTargetSpec =
            serde_json::from_value(json!({"cells": {"zone": "a", "rack": "1"}})).unwrap();
        assert_eq!(spec.cells.len(), 1);
        assert_eq!(spec.cells[0].name, "default");
        assert_eq!(spec.cells[0].labels["rack"], "1");
    }

    #[test]
    fn no_cells_in_any_form_are_no_cells_and_are_not_written() {
        for cells in [json!(null), json!([]), json!({})] {
            let spec: SyncTargetSpec = serde_json::from_value(json!({"cells": cells})).unwrap();
            assert!(spec.cells.is_empty());
            assert!(serde_json::to_value(&spec).unwrap().get("cells").is_none());
        }
    }

    #[test]
    fn what_is_neither_form_is_refused() {
        for cells in [
            json!("a"),
            json!([1]),
            json!({"zone": 1}),
            json!([{"labels": {}}]),
        ] {
            assert!(serde_json::from_value::<SyncTargetSpec>(json!({"cells": cells})).is_err());
        }
    }
}
