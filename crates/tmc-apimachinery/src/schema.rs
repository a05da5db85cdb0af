//! Structural schemas, compiled: prune, default and validate in one place (KEP-1693 rules).
//!
//! Custom resources bring a schema of their own ([`Schema::compile`], held to every structural
//! rule); built-in kinds share one set of [`Definitions`] and refer into it
//! ([`Schema::compile_with`]), so that shared and recursive types exist once and are compiled when
//! they are first needed.
//!
//! Schemas and objects are hostile input: nesting, number of nodes, memory of regular expressions,
//! steps of a validation, defaults inserted and mistakes reported are all bounded.

mod compile;
mod defaults;
mod duplicates;
mod format;
mod object_meta;
mod pattern;
mod prune;
mod shape;
mod structural;
mod trail;
mod validate;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use crate::status::{Cause, Result};
use compile::Mode;
use shape::{Additional, Shape, Start, default_of, nullable, resolve};

pub use duplicates::duplicate_fields;
pub use shape::{Definitions, ListType};

/// A compiled schema of one resource.
#[derive(Debug)]
pub struct Schema {
    source: Value,
    definitions: Option<Arc<Definitions>>,
    shape: Shape,
}

impl Schema {
    /// Compiles the OpenAPI v3 schema of a custom resource (`x-kubernetes-*` extensions understood:
    /// int-or-string, preserve-unknown-fields, embedded-resource, list-type, list-map-keys,
    /// map-type, patch-strategy, patch-merge-key).
    ///
    /// # Errors
    /// 422-like causes with the path of what is not structural or cannot be compiled, relative to
    /// the schema (`properties[spec].type`); the caller prefixes where the schema stands.
    pub fn compile(source: &Value) -> Result<Self, Vec<Cause>> {
        let shape = compile::compile(source, Mode::Structural)?;
        Ok(Self {
            source: source.clone(),
            definitions: None,
            shape,
        })
    }

    /// Compiles the schema of a built-in kind: `$ref: "#/components/schemas/<name>"` (also inside
    /// a single `allOf`) refers to `definitions`; types, items and properties may be left out,
    /// which leaves the place open. Usually the source is one reference, whose name becomes
    /// [`Schema::component_name`].
    ///
    /// # Errors
    /// As [`Schema::compile`]; a reference to an unknown name. Mistakes inside a definition show
    /// when it is first used, as a refusal of every value ([`Definitions::check`] finds them).
    pub fn compile_with(source: &Value, definitions: Arc<Definitions>) -> Result<Self, Vec<Cause>> {
        let shape = compile::compile(source, Mode::Lenient(&definitions))?;
        Ok(Self {
            source: source.clone(),
            definitions: Some(definitions),
            shape,
        })
    }

    /// The schema as given, for OpenAPI documents and `kubectl explain`.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// The definitions it refers to, if it was compiled with any.
    pub fn definitions(&self) -> Option<&Arc<Definitions>> {
        self.definitions.as_ref()
    }

    /// The name under which OpenAPI documents list the schema, if it is a reference to a
    /// definition: `io.k8s.api.apps.v1.Deployment`.
    pub fn component_name(&self) -> Option<&str> {
        self.source
            .get("$ref")
            .and_then(Value::as_str)
            .map(compile::reference_name)
    }

    /// Removes fields that the schema does not know and returns their paths (`spec.foo`), sorted,
    /// at most a thousand. `apiVersion`, `kind` and `metadata` at the root (and of embedded
    /// resources) are always kept; inside `metadata`, what is no field of `ObjectMeta` goes.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(
            self.definitions.as_deref(),
            &self.shape,
            object,
            Start::Resource,
        )
    }

    /// Fills defaults of absent fields. An explicit null of a field that is not nullable means
    /// absence: it is replaced by the default, or removed if there is none. Idempotent.
    ///
    /// At most 16 MiB of defaults are inserted; an object that would need more comes out larger
    /// than any limit for bodies, which is for the caller to check.
    pub fn default(&self, object: &mut Value) {
        defaults::apply(
            self.definitions.as_deref(),
            &self.shape,
            object,
            Start::Resource,
        );
    }

    /// Checks types, required fields, formats, patterns, bounds, enums, list types and nested
    /// value validations, and the types of `metadata`. At most a hundred causes.
    pub fn validate(&self, object: &Value) -> Vec<Cause> {
        validate::validate(
            self.definitions.as_deref(),
            &self.shape,
            object,
            None,
            Start::Resource,
        )
    }

    /// As [`Schema::validate`], but does not hold against an update what it leaves unchanged
    /// (ratcheting, KEP-4008): equal subtrees at the same place, and items of the same keys in
    /// lists of type map, are skipped.
    pub fn validate_update(&self, object: &Value, old: &Value) -> Vec<Cause> {
        let definitions = self.definitions.as_deref();
        validate::validate(definitions, &self.shape, object, Some(old), Start::Resource)
    }

    /// The root, to walk to the facts of a field, for strategic merge and apply.
    pub fn root(&self) -> Node<'_> {
        Node {
            shape: &self.shape,
            definitions: self.definitions.as_deref(),
        }
    }
}

/// The OpenAPI schema of `ObjectMeta`, without descriptions, for documents of surfaces that serve
/// no built-in kind.
pub(crate) fn object_meta_schema() -> Value {
    object_meta::source()
}

/// A place in a schema: what strategic merge and apply need to know of a field.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    shape: &'a Shape,
    definitions: Option<&'a Definitions>,
}

impl<'a> Node<'a> {
    fn at(&self, shape: &'a Shape) -> Self {
        Self {
            shape,
            definitions: self.definitions,
        }
    }

    fn resolved(&self) -> &'a Shape {
        resolve(self.definitions, self.shape)
    }

    /// The facts of the place itself, then those of the definition it refers to.
    fn facts(&self) -> impl Iterator<Item = &'a shape::Extras> {
        let (own, target) = (self.shape, self.resolved());
        let target = (!std::ptr::eq(own, target)).then_some(target);
        own.extras
            .as_deref()
            .into_iter()
            .chain(target.and_then(|t| t.extras.as_deref()))
    }

    /// The node of a property (or of a map's values).
    pub fn property(&self, name: &str) -> Option<Node<'a>> {
        self.resolved().member(name).map(|shape| self.at(shape))
    }

    /// The node of list items.
    pub fn items(&self) -> Option<Node<'a>> {
        self.resolved().items.as_deref().map(|shape| self.at(shape))
    }

    /// The names of the properties described, sorted.
    pub fn property_names(&self) -> impl Iterator<Item = &'a str> {
        self.resolved().properties.iter().map(|(name, _)| &**name)
    }

    /// Whether objects here are maps whose keys are data (`additionalProperties`).
    pub fn is_map(&self) -> bool {
        matches!(
            self.resolved().additional,
            Additional::Allowed | Additional::Schema(_)
        )
    }

    /// Whether fields that the schema does not know are kept here.
    pub fn preserves_unknown_fields(&self) -> bool {
        self.resolved().preserve_unknown
    }

    /// Whether null is a value of its own here, not absence.
    pub fn nullable(&self) -> bool {
        nullable(self.definitions, self.shape)
    }

    /// The default, if the field has one.
    pub fn default(&self) -> Option<&'a Value> {
        default_of(self.definitions, self.shape)
    }

    /// `x-kubernetes-patch-strategy`, comma list (`merge`, `replace`, `retainKeys`); empty if none.
    pub fn patch_strategy(&self) -> &'a str {
        self.facts()
            .find_map(|e| e.patch_strategy.as_deref())
            .unwrap_or("")
    }

    /// `x-kubernetes-patch-merge-key`.
    pub fn patch_merge_key(&self) -> Option<&'a str> {
        self.facts().find_map(|e| e.patch_merge_key.as_deref())
    }

    /// `x-kubernetes-list-type`, for apply.
    pub fn list_type(&self) -> ListType {
        self.facts().find_map(|e| e.list_type).unwrap_or_default()
    }

    /// `x-kubernetes-list-map-keys`: what identifies an item of a list of type map.
    pub fn list_map_keys(&self) -> impl Iterator<Item = &'a str> {
        let keys = self
            .facts()
            .map(|e| &e.list_map_keys)
            .find(|keys| !keys.is_empty());
        keys.into_iter().flat_map(|keys| keys.iter().map(|k| &**k))
    }

    /// Whether `x-kubernetes-map-type` is `atomic`: objects are replaced as a whole.
    pub fn map_atomic(&self) -> bool {
        self.facts().find_map(|e| e.map_atomic).unwrap_or(false)
    }
}
