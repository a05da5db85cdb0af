//! Filling defaults, and dropping nulls that mean absence.

use serde_json::{Map, Value};

use super::object_meta;
use super::shape::{
    Additional, Definitions, MAX_WALK_DEPTH, Shape, Start, default_of, nullable, resolve,
};

/// Bytes of defaults that one object may be given: far above the largest body a server takes, so
/// that a schema cannot blow a small object up without bound.
const BUDGET: usize = 16 << 20;

/// Defaults in place.
pub(super) fn apply(
    definitions: Option<&Definitions>,
    shape: &Shape,
    value: &mut Value,
    start: Start,
) {
    let mut defaulter = Defaulter {
        definitions,
        left: BUDGET,
    };
    if start == Start::Resource
        && let Some(metadata) = value.get_mut("metadata")
    {
        defaulter.node(object_meta::shape(), metadata, 0);
    }
    defaulter.node(shape, value, 0);
}

struct Defaulter<'d> {
    definitions: Option<&'d Definitions>,
    left: usize,
}

impl Defaulter<'_> {
    fn node(&mut self, shape: &Shape, value: &mut Value, depth: usize) {
        if depth > MAX_WALK_DEPTH {
            return;
        }
        let shape = resolve(self.definitions, shape);
        match value {
            Value::Object(map) => self.object(shape, map, depth),
            Value::Array(list) => {
                let Some(items) = &shape.items else { return };
                for item in list {
                    if item.is_null() && !nullable(self.definitions, items) {
                        *item = self.default(items).unwrap_or_default();
                    }
                    self.node(items, item, depth + 1);
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, shape: &Shape, map: &mut Map<String, Value>, depth: usize) {
        for (name, child) in &shape.properties {
            if !map.contains_key(&**name)
                && let Some(value) = self.default(child)
            {
                map.insert(name.to_string(), value);
            }
        }
        if shape.embedded
            && let Some(metadata) = map.get_mut("metadata")
        {
            self.node(object_meta::shape(), metadata, depth + 1);
        }
        if shape.properties.is_empty() && !matches!(shape.additional, Additional::Schema(_)) {
            return;
        }
        map.retain(|name, value| {
            let Some(child) = shape.member(name) else {
                return true;
            };
            if value.is_null() && !nullable(self.definitions, child) {
                match self.default(child) {
                    Some(default) => *value = default,
                    None => return false,
                }
            }
            self.node(child, value, depth + 1);
            true
        });
    }

    fn default(&mut self, shape: &Shape) -> Option<Value> {
        let default = default_of(self.definitions, shape)?;
        self.left = self.left.checked_sub(weight(default))?;
        Some(default.clone())
    }
}

/// What a value costs in memory, roughly.
fn weight(value: &Value) -> usize {
    const NODE: usize = 32;
    match value {
        Value::Object(map) => {
            map.iter()
                .map(|(k, v)| NODE + k.len() + weight(v))
                .sum::<usize>()
                + NODE
        }
        Value::Array(list) => list.iter().map(weight).sum::<usize>() + NODE,
        Value::String(text) => NODE + text.len(),
        _ => NODE,
    }
}
