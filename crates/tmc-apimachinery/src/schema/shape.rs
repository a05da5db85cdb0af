//! The compiled form of a schema: a tree of shapes with references into shared definitions.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::compile::{self, Mode};
use super::format::Format;
use super::pattern::Pattern;
use crate::status::Cause;

/// Deepest nesting that a walk follows; past it, pruning drops and validation refuses.
pub(super) const MAX_WALK_DEPTH: usize = 256;

/// What a walk starts at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A resource: `apiVersion`, `kind` and `metadata` are implied.
    Resource,
    /// Any other value.
    Value,
}

/// A set of JSON types; empty means any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    const NAMES: [&'static str; 7] = [
        "object", "array", "string", "integer", "number", "boolean", "null",
    ];
    pub(super) const OBJECT: Self = Self(1);
    pub(super) const ARRAY: Self = Self(1 << 1);
    pub(super) const STRING: Self = Self(1 << 2);
    pub(super) const INTEGER: Self = Self(1 << 3);
    pub(super) const NUMBER: Self = Self(1 << 4);
    pub(super) const INT_OR_STRING: Self = Self(1 << 2 | 1 << 3);

    /// The type of a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .position(|n| *n == name)
            .map(|bit| Self(1 << bit))
    }

    /// The type of a JSON value; integers are `integer`, other numbers `number`.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Object(_) => Self::OBJECT,
            Value::Array(_) => Self::ARRAY,
            Value::String(_) => Self::STRING,
            Value::Number(n) if n.is_i64() => Self::INTEGER,
            Value::Number(_) => Self::NUMBER,
            Value::Bool(_) => Self(1 << 5),
            Value::Null => Self(1 << 6),
        }
    }

    /// Both sets together.
    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The names, comma-separated; `integer,string` in the order of Kubernetes.
    pub(super) fn names(self) -> String {
        if self == Self::INT_OR_STRING {
            return "integer,string".into();
        }
        let named = Self::NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 & (1 << bit) != 0);
        named.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
    }
}

/// How lists are merged and checked for duplicates (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole (the default).
    #[default]
    Atomic,
    /// Scalars without duplicates.
    Set,
    /// Objects identified by [`Node::list_map_keys`](super::Node::list_map_keys).
    Map,
}

/// What may stand beside the named properties.
#[derive(Debug, Default)]
pub(super) enum Additional {
    #[default]
    Absent,
    Allowed,
    Forbidden,
    Schema(Box<Shape>),
}

/// Rarely used facts of a shape, kept out of its common size.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) default: Option<Value>,
    pub(super) list_type: Option<ListType>,
    pub(super) list_map_keys: Box<[Box<str>]>,
    pub(super) map_atomic: Option<bool>,
    pub(super) patch_strategy: Option<Box<str>>,
    pub(super) patch_merge_key: Option<Box<str>>,
}

/// A bound of a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) at: f64,
    pub(super) exclusive: bool,
}

/// Value validations.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) required: Box<[Box<str>]>,
    pub(super) choices: Box<[Value]>,
    pub(super) format: Option<Format>,
    pub(super) pattern: Option<Pattern>,
    pub(super) min: Option<Bound>,
    pub(super) max: Option<Bound>,
    pub(super) multiple_of: Option<f64>,
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) min_properties: Option<u64>,
    pub(super) max_properties: Option<u64>,
    pub(super) unique_items: bool,
    pub(super) all_of: Box<[Shape]>,
    pub(super) any_of: Box<[Shape]>,
    pub(super) one_of: Box<[Shape]>,
    pub(super) not: Option<Box<Shape>>,
    /// Why the definition could not be compiled: everything is refused.
    pub(super) broken: Option<Box<str>>,
}

/// One compiled schema node.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) types: Types,
    pub(super) nullable: bool,
    pub(super) preserve_unknown: bool,
    pub(super) embedded: bool,
    /// Index of a definition that describes the value; own facts (default, patch) go before its.
    pub(super) reference: Option<usize>,
    /// Sorted by name.
    pub(super) properties: Box<[(Box<str>, Shape)]>,
    pub(super) additional: Additional,
    pub(super) items: Option<Box<Shape>>,
    pub(super) extras: Option<Box<Extras>>,
    pub(super) rules: Option<Box<Rules>>,
}

impl Shape {
    /// The shape of a named property.
    pub(super) fn property(&self, name: &str) -> Option<&Shape> {
        let at = self
            .properties
            .binary_search_by(|(key, _)| (**key).cmp(name))
            .ok()?;
        Some(&self.properties[at].1)
    }

    /// The shape of a member: a named property, or the values of a map.
    pub(super) fn member(&self, name: &str) -> Option<&Shape> {
        self.property(name).or(match &self.additional {
            Additional::Schema(shape) => Some(shape),
            _ => None,
        })
    }

    /// A shape that keeps everything.
    pub(super) fn open() -> Self {
        Self {
            preserve_unknown: true,
            nullable: true,
            ..Self::default()
        }
    }

    /// A shape that refuses everything, because its definition is unusable.
    pub(super) fn refusing(why: String) -> Self {
        let rules = Rules {
            broken: Some(why.into()),
            ..Rules::default()
        };
        Self {
            rules: Some(Box::new(rules)),
            ..Self::open()
        }
    }
}

/// Named schemas that others refer to by `#/components/schemas/<name>`; each is compiled when it
/// is first used, so thousands of shared and recursive types cost what is really served.
///
/// Sources are kept as compact JSON text (a tree of values would be some ten times larger).
#[derive(Debug, Default)]
pub struct Definitions {
    entries: Vec<Entry>,
    by_name: HashMap<Box<str>, usize>,
}

#[derive(Debug)]
struct Entry {
    name: Box<str>,
    source: Box<str>,
    shape: OnceLock<Shape>,
}

impl Definitions {
    /// Definitions by name (`io.k8s.api.apps.v1.Deployment`); the last of several with one name
    /// wins.
    pub fn new(schemas: impl IntoIterator<Item = (String, Value)>) -> Self {
        let mut definitions = Self::default();
        for (name, schema) in schemas {
            let source = schema.to_string().into_boxed_str();
            let entry = Entry {
                name: name.into_boxed_str(),
                source,
                shape: OnceLock::new(),
            };
            match definitions.by_name.get(&entry.name) {
                Some(&at) => definitions.entries[at] = entry,
                None => {
                    definitions
                        .by_name
                        .insert(entry.name.clone(), definitions.entries.len());
                    definitions.entries.push(entry);
                }
            }
        }
        definitions
    }

    /// The schema of a name, as given.
    pub fn get(&self, name: &str) -> Option<Value> {
        let &at = self.by_name.get(name)?;
        serde_json::from_str(&self.entries[at].source).ok()
    }

    /// All names, in the order given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| &*e.name)
    }

    /// Compiles every definition and reports what is wrong, fields prefixed with the name: for
    /// tests of a set that is built at run time.
    pub fn check(&self) -> Vec<Cause> {
        let mut causes = Vec::new();
        for entry in &self.entries {
            if let Err(wrong) = self.compile(entry) {
                causes.extend(wrong.into_iter().map(|c| Cause {
                    field: format!("{}: {}", entry.name, c.field),
                    ..c
                }));
            }
        }
        causes
    }

    /// The index of a name.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The compiled shape at an index; one that cannot be compiled refuses every value.
    pub(super) fn shape(&self, at: usize) -> &Shape {
        let entry = &self.entries[at];
        entry.shape.get_or_init(|| {
            self.compile(entry).unwrap_or_else(|causes| {
                let first = causes
                    .first()
                    .map(|c| format!("{}: {}", c.field, c.message));
                Shape::refusing(format!(
                    "schema definition {:?} is unusable: {}",
                    entry.name,
                    first.unwrap_or_default()
                ))
            })
        })
    }

    fn compile(&self, entry: &Entry) -> Result<Shape, Vec<Cause>> {
        let source: Value = serde_json::from_str(&entry.source).unwrap_or_default();
        compile::compile(&source, Mode::Lenient(self))
    }
}

/// Follows references of a shape to the one that describes the value. A circle of references
/// without content refuses everything.
pub(super) fn resolve<'a>(definitions: Option<&'a Definitions>, shape: &'a Shape) -> &'a Shape {
    static CIRCLE: OnceLock<Shape> = OnceLock::new();
    let mut at = shape;
    for _ in 0..16 {
        match (at.reference, definitions) {
            (Some(index), Some(definitions)) => at = definitions.shape(index),
            _ => return at,
        }
    }
    CIRCLE.get_or_init(|| Shape::refusing("schema references form a circle".into()))
}

/// The default of a place: its own, else that of what it refers to.
pub(super) fn default_of<'a>(
    definitions: Option<&'a Definitions>,
    shape: &'a Shape,
) -> Option<&'a Value> {
    let own = |s: &'a Shape| s.extras.as_ref().and_then(|e| e.default.as_ref());
    own(shape).or_else(|| own(resolve(definitions, shape)))
}

/// Whether null is a value of its own at a place.
pub(super) fn nullable(definitions: Option<&Definitions>, shape: &Shape) -> bool {
    shape.nullable || resolve(definitions, shape).nullable
}
