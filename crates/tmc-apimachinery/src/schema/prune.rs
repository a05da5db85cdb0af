//! Dropping what the schema does not know.

use serde_json::Value;

use super::object_meta;
use super::shape::{Additional, Definitions, MAX_WALK_DEPTH, Shape, Start, resolve};
use super::trail::Trail;

/// Most unknown fields that are named; the rest is dropped without a word.
const MAX_NAMED: usize = 1_000;

/// Prunes in place and returns the paths of what was dropped, sorted.
pub(super) fn prune(
    definitions: Option<&Definitions>,
    shape: &Shape,
    value: &mut Value,
    start: Start,
) -> Vec<String> {
    let mut pruner = Pruner {
        definitions,
        dropped: Vec::new(),
    };
    let resource = start == Start::Resource;
    pruner.node(
        shape,
        value,
        &Trail::ROOT,
        Walk {
            depth: 0,
            resource,
            keep: false,
        },
    );
    pruner.dropped.sort();
    pruner.dropped
}

#[derive(Clone, Copy)]
struct Walk {
    depth: usize,
    /// Whether the value is a whole resource.
    resource: bool,
    /// Whether unknown fields stay because of a node above (lists within preserved fields).
    keep: bool,
}

impl Walk {
    fn down(self) -> Self {
        Self {
            depth: self.depth + 1,
            resource: false,
            keep: false,
        }
    }
}

struct Pruner<'d> {
    definitions: Option<&'d Definitions>,
    dropped: Vec<String>,
}

impl Pruner<'_> {
    fn node(&mut self, shape: &Shape, value: &mut Value, trail: &Trail<'_>, walk: Walk) {
        let shape = resolve(self.definitions, shape);
        let keep = walk.keep || shape.preserve_unknown;
        let resource = walk.resource || shape.embedded;
        if walk.depth > MAX_WALK_DEPTH {
            self.unknown(value, trail, walk.depth);
            return;
        }
        match value {
            Value::Object(map) => map.retain(|name, value| {
                let at = trail.field(name);
                if resource && object_meta::implied(name) {
                    if name == "metadata" {
                        self.node(object_meta::shape(), value, &at, walk.down());
                    }
                    return true;
                }
                if let Some(child) = shape.member(name) {
                    self.node(child, value, &at, walk.down());
                } else if keep {
                } else if matches!(shape.additional, Additional::Allowed) {
                    self.unknown(value, &at, walk.depth + 1);
                } else {
                    self.drop(&at);
                    return false;
                }
                true
            }),
            Value::Array(list) => {
                for (i, item) in list.iter_mut().enumerate() {
                    let at = trail.index(i);
                    match &shape.items {
                        Some(items) => self.node(
                            items,
                            item,
                            &at,
                            Walk {
                                keep,
                                ..walk.down()
                            },
                        ),
                        None if keep => {}
                        None => self.unknown(item, &at, walk.depth + 1),
                    }
                }
            }
            _ => {}
        }
    }

    /// A place without any schema: objects in it lose their fields, scalars stay.
    fn unknown(&mut self, value: &mut Value, trail: &Trail<'_>, depth: usize) {
        match value {
            Value::Object(map) => {
                map.keys().for_each(|name| self.drop(&trail.field(name)));
                map.clear();
            }
            Value::Array(list) if depth <= MAX_WALK_DEPTH => {
                for (i, item) in list.iter_mut().enumerate() {
                    self.unknown(item, &trail.index(i), depth + 1);
                }
            }
            Value::Array(list) => list.clear(),
            _ => {}
        }
    }

    fn drop(&mut self, trail: &Trail<'_>) {
        if self.dropped.len() < MAX_NAMED {
            self.dropped.push(trail.to_string());
        }
    }
}
