//! From the JSON of a schema to its compiled tree, within bounds of depth, size and pattern cost.

use serde_json::{Map, Value};

use super::format::Format;
use super::pattern::{Pattern, PatternBudget};
use super::shape::{Additional, Bound, Definitions, Extras, ListType, Rules, Shape, Types};
use super::structural;
use super::trail::Trail;
use crate::status::Cause;

/// Deepest nesting of schemas.
const MAX_DEPTH: usize = 64;
/// Most nodes in one schema.
const MAX_NODES: usize = 100_000;
/// Most mistakes reported at once.
const MAX_CAUSES: usize = 100;

/// Which rules a schema is held to.
#[derive(Clone, Copy)]
pub(super) enum Mode<'d> {
    /// Those of custom resources (KEP-1693): structural, no references.
    Structural,
    /// Those of built-in kinds: references into definitions, types and items optional.
    Lenient(&'d Definitions),
}

/// Where a node stands: what is allowed differs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The whole resource.
    Root,
    /// Items of a list.
    Item,
    /// A property or a map's values.
    Field,
    /// Under `allOf`, `anyOf`, `oneOf` or `not`: value validations only.
    Nested,
}

/// Compiles a schema.
///
/// # Errors
/// What is wrong, with paths inside the schema (`properties[spec].type`).
pub(super) fn compile(source: &Value, mode: Mode<'_>) -> Result<Shape, Vec<Cause>> {
    let mut compiler = Compiler {
        mode,
        nodes: 0,
        exhausted: false,
        patterns: PatternBudget::default(),
        causes: Vec::new(),
    };
    let shape = compiler.node(source, &Trail::ROOT, Level::Root, 0);
    if compiler.causes.is_empty() {
        Ok(shape)
    } else {
        Err(compiler.causes)
    }
}

struct Compiler<'d> {
    mode: Mode<'d>,
    nodes: usize,
    exhausted: bool,
    patterns: PatternBudget,
    causes: Vec<Cause>,
}

impl Compiler<'_> {
    fn strict(&self) -> bool {
        matches!(self.mode, Mode::Structural)
    }

    fn report(&mut self, cause: Cause) {
        if self.causes.len() < MAX_CAUSES {
            self.causes.push(cause);
        }
    }

    /// Whether one more node may be compiled; says so once if not.
    fn afford(&mut self, trail: &Trail<'_>, depth: usize) -> bool {
        self.nodes += 1;
        let why = if depth > MAX_DEPTH {
            format!("must not nest more than {MAX_DEPTH} schemas")
        } else if self.nodes > MAX_NODES {
            format!("must not hold more than {MAX_NODES} schemas")
        } else {
            return true;
        };
        if !self.exhausted {
            self.exhausted = true;
            self.report(Cause::forbidden(trail.to_string(), why));
        }
        false
    }

    fn node(&mut self, source: &Value, trail: &Trail<'_>, level: Level, depth: usize) -> Shape {
        if !self.afford(trail, depth) {
            return Shape::open();
        }
        let source = match source {
            Value::Object(map) => map,
            Value::Bool(true) if !self.strict() => return Shape::open(),
            other => {
                self.report(Cause::type_invalid(
                    trail.to_string(),
                    other,
                    "must be a schema object",
                ));
                return Shape::open();
            }
        };
        let mut shape = Shape {
            nullable: self.flag(source, "nullable", trail),
            preserve_unknown: self.flag(source, "x-kubernetes-preserve-unknown-fields", trail),
            embedded: self.flag(source, "x-kubernetes-embedded-resource", trail),
            ..Shape::default()
        };
        shape.reference = self.reference(source, trail);
        self.types(source, trail, &mut shape);
        self.children(source, trail, level, depth, &mut shape);
        shape.extras = self.extras(source, trail);
        shape.rules = self.rules(source, trail, depth, &shape);
        match self.mode {
            Mode::Structural => {
                let mut causes = structural::check(source, &shape, level, trail);
                if level != Level::Nested {
                    causes.extend(structural::check_default(&shape, trail));
                }
                causes.into_iter().for_each(|c| self.report(c));
            }
            Mode::Lenient(_) => open_up(source, level, &mut shape),
        }
        shape
    }

    fn reference(&mut self, source: &Map<String, Value>, trail: &Trail<'_>) -> Option<usize> {
        let direct = source.get("$ref");
        let Mode::Lenient(definitions) = self.mode else {
            if direct.is_some() {
                self.report(Cause::forbidden(
                    trail.field("$ref").to_string(),
                    "$ref is not supported",
                ));
            }
            return None;
        };
        // A reference with facts beside it is written `allOf: [{$ref}]` in OpenAPI 3.0.
        let wrapped = || match source.get("allOf")?.as_array()?.as_slice() {
            [only] => only.get("$ref"),
            _ => None,
        };
        let target = direct.or_else(wrapped)?;
        let found = target
            .as_str()
            .and_then(|t| definitions.position(reference_name(t)));
        if found.is_none() {
            let why = "names no definition of this set";
            self.report(Cause::invalid(trail.field("$ref").to_string(), target, why));
        }
        found
    }

    fn types(&mut self, source: &Map<String, Value>, trail: &Trail<'_>, shape: &mut Shape) {
        let int_or_string = self.flag(source, "x-kubernetes-int-or-string", trail)
            || source.get("format").and_then(Value::as_str) == Some("int-or-string")
                && !self.strict();
        if int_or_string {
            shape.types = Types::INT_OR_STRING;
            return;
        }
        let named = match source.get("type") {
            None => return,
            Some(Value::String(name)) => Types::named(name).filter(|_| name != "null"),
            Some(Value::Array(names)) if !self.strict() => {
                let mut names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
                let before = names.len();
                names.retain(|n| *n != "null");
                shape.nullable |= names.len() < before;
                match names.as_slice() {
                    [one] => Types::named(one),
                    ["string", "integer"] | ["integer", "string"] => Some(Types::INT_OR_STRING),
                    _ => return,
                }
            }
            Some(_) => None,
        };
        match named {
            Some(types) => shape.types = types,
            None if source["type"] == "" => {}
            None => {
                let known = ["array", "boolean", "integer", "number", "object", "string"];
                let at = trail.field("type").to_string();
                self.report(Cause::not_supported(at, &source["type"], &known));
            }
        }
    }

    fn children(
        &mut self,
        source: &Map<String, Value>,
        trail: &Trail<'_>,
        level: Level,
        depth: usize,
        shape: &mut Shape,
    ) {
        let nested = |otherwise| {
            if level == Level::Nested {
                Level::Nested
            } else {
                otherwise
            }
        };
        if let Some(properties) = self.object(source, "properties", trail) {
            let at = trail.field("properties");
            let mut compiled: Vec<(Box<str>, Shape)> = properties
                .iter()
                .map(|(name, schema)| {
                    let child = self.node(schema, &at.key(name), nested(Level::Field), depth + 1);
                    (name.as_str().into(), child)
                })
                .collect();
            compiled.sort_by(|a, b| a.0.cmp(&b.0));
            shape.properties = compiled.into();
        }
        match source.get("additionalProperties") {
            None => {}
            Some(Value::Bool(true)) => shape.additional = Additional::Allowed,
            Some(Value::Bool(false)) => shape.additional = Additional::Forbidden,
            Some(schema) => {
                let at = trail.field("additionalProperties");
                let child = self.node(schema, &at, nested(Level::Field), depth + 1);
                shape.additional = Additional::Schema(Box::new(child));
            }
        }
        if self.strict() && source.get("items").is_some_and(Value::is_array) {
            let why = "items must be a schema object and not an array";
            self.report(Cause::forbidden(trail.field("items").to_string(), why));
            shape.items = Some(Box::new(Shape::open()));
        } else if let Some(items) = source.get("items") {
            let at = trail.field("items");
            shape.items = Some(Box::new(self.node(
                items,
                &at,
                nested(Level::Item),
                depth + 1,
            )));
        }
    }

    fn extras(&mut self, source: &Map<String, Value>, trail: &Trail<'_>) -> Option<Box<Extras>> {
        let mut extras = Extras {
            default: source.get("default").filter(|v| !v.is_null()).cloned(),
            patch_strategy: self.text(source, "x-kubernetes-patch-strategy", trail),
            patch_merge_key: self.text(source, "x-kubernetes-patch-merge-key", trail),
            list_map_keys: self.texts(source, "x-kubernetes-list-map-keys", trail),
            ..Extras::default()
        };
        if let Some(name) = source.get("x-kubernetes-list-type") {
            extras.list_type = match name.as_str() {
                Some("atomic") => Some(ListType::Atomic),
                Some("set") => Some(ListType::Set),
                Some("map") => Some(ListType::Map),
                _ => {
                    let at = trail.field("x-kubernetes-list-type").to_string();
                    self.report(Cause::not_supported(at, name, &["atomic", "set", "map"]));
                    None
                }
            };
        }
        if let Some(name) = source.get("x-kubernetes-map-type") {
            extras.map_atomic = match name.as_str() {
                Some("atomic") => Some(true),
                Some("granular") => Some(false),
                _ => {
                    let at = trail.field("x-kubernetes-map-type").to_string();
                    self.report(Cause::not_supported(at, name, &["atomic", "granular"]));
                    None
                }
            };
        }
        let any = extras.default.is_some()
            || extras.list_type.is_some()
            || extras.map_atomic.is_some()
            || extras.patch_strategy.is_some()
            || extras.patch_merge_key.is_some()
            || !extras.list_map_keys.is_empty();
        any.then(|| Box::new(extras))
    }

    fn rules(
        &mut self,
        source: &Map<String, Value>,
        trail: &Trail<'_>,
        depth: usize,
        shape: &Shape,
    ) -> Option<Box<Rules>> {
        const KEYWORDS: &[&str] = &[
            "required",
            "enum",
            "format",
            "pattern",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "uniqueItems",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if !KEYWORDS.iter().any(|k| source.contains_key(*k)) {
            return None;
        }
        let mut rules = Rules {
            required: self.texts(source, "required", trail),
            choices: self.choices(source, trail),
            format: source
                .get("format")
                .and_then(Value::as_str)
                .and_then(|f| format(f, shape.types)),
            pattern: self.pattern(source, trail),
            min: self.bound(source, "minimum", "exclusiveMinimum", trail),
            max: self.bound(source, "maximum", "exclusiveMaximum", trail),
            multiple_of: self.number(source, "multipleOf", trail),
            min_length: self.count(source, "minLength", trail),
            max_length: self.count(source, "maxLength", trail),
            min_items: self.count(source, "minItems", trail),
            max_items: self.count(source, "maxItems", trail),
            min_properties: self.count(source, "minProperties", trail),
            max_properties: self.count(source, "maxProperties", trail),
            unique_items: self.flag(source, "uniqueItems", trail),
            ..Rules::default()
        };
        if rules.multiple_of.is_some_and(|factor| factor <= 0.0) {
            let at = trail.field("multipleOf").to_string();
            self.report(Cause::invalid(
                at,
                &source["multipleOf"],
                "must be greater than zero",
            ));
        }
        if shape.reference.is_none() || source.contains_key("$ref") {
            rules.all_of = self.branches(source, "allOf", trail, depth, shape);
        }
        rules.any_of = self.branches(source, "anyOf", trail, depth, shape);
        rules.one_of = self.branches(source, "oneOf", trail, depth, shape);
        rules.not = source.get("not").map(|schema| {
            Box::new(self.node(schema, &trail.field("not"), Level::Nested, depth + 1))
        });
        Some(Box::new(rules))
    }

    fn branches(
        &mut self,
        source: &Map<String, Value>,
        keyword: &str,
        trail: &Trail<'_>,
        depth: usize,
        shape: &Shape,
    ) -> Box<[Shape]> {
        let at = trail.field(keyword);
        let branches = match source.get(keyword) {
            None | Some(Value::Null) => return Box::default(),
            Some(Value::Array(branches)) => branches,
            Some(other) => {
                self.report(Cause::type_invalid(
                    at.to_string(),
                    other,
                    "must be a list of schemas",
                ));
                return Box::default();
            }
        };
        // The two spellings of int-or-string are part of the structure, not a validation.
        if keyword == "anyOf" && structural::is_int_or_string(branches) {
            let one = |types| Shape {
                types,
                ..Shape::default()
            };
            return match shape.types {
                Types::INT_OR_STRING => Box::default(),
                _ => Box::new([one(Types::INTEGER), one(Types::STRING)]),
            };
        }
        let mut compiled = Vec::with_capacity(branches.len());
        for (i, branch) in branches.iter().enumerate() {
            let spelled = keyword == "allOf" && i == 0 && shape.types == Types::INT_OR_STRING;
            if spelled && structural::only_int_or_string(branch) {
                continue;
            }
            compiled.push(self.node(branch, &at.index(i), Level::Nested, depth + 1));
        }
        compiled.into()
    }

    fn choices(&mut self, source: &Map<String, Value>, trail: &Trail<'_>) -> Box<[Value]> {
        match source.get("enum") {
            None => Box::default(),
            Some(Value::Array(values)) => values.clone().into(),
            Some(other) => {
                let at = trail.field("enum").to_string();
                self.report(Cause::type_invalid(at, other, "must be a list of values"));
                Box::default()
            }
        }
    }

    fn pattern(&mut self, source: &Map<String, Value>, trail: &Trail<'_>) -> Option<Pattern> {
        let text = self
            .text(source, "pattern", trail)
            .filter(|p| !p.is_empty())?;
        match Pattern::compile(&text, &mut self.patterns) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                let at = trail.field("pattern").to_string();
                self.report(Cause::invalid(at, &source["pattern"], why));
                None
            }
        }
    }

    fn bound(
        &mut self,
        source: &Map<String, Value>,
        inclusive: &str,
        exclusive: &str,
        trail: &Trail<'_>,
    ) -> Option<Bound> {
        if !self.strict() && source.get(exclusive).is_some_and(Value::is_number) {
            return self.number(source, exclusive, trail).map(|at| Bound {
                at,
                exclusive: true,
            });
        }
        let exclusive = self.flag(source, exclusive, trail);
        self.number(source, inclusive, trail)
            .map(|at| Bound { at, exclusive })
    }

    fn wrong(&mut self, source: &Map<String, Value>, keyword: &str, trail: &Trail<'_>, what: &str) {
        let at = trail.field(keyword).to_string();
        self.report(Cause::type_invalid(
            at,
            &source[keyword],
            format!("must be {what}"),
        ));
    }

    fn flag(&mut self, source: &Map<String, Value>, keyword: &str, trail: &Trail<'_>) -> bool {
        match source.get(keyword) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.wrong(source, keyword, trail, "a boolean");
                false
            }
        }
    }

    fn number(
        &mut self,
        source: &Map<String, Value>,
        keyword: &str,
        trail: &Trail<'_>,
    ) -> Option<f64> {
        let value = source.get(keyword).filter(|v| !v.is_null())?;
        if !value.is_number() {
            self.wrong(source, keyword, trail, "a number");
        }
        value.as_f64()
    }

    fn count(
        &mut self,
        source: &Map<String, Value>,
        keyword: &str,
        trail: &Trail<'_>,
    ) -> Option<u64> {
        let value = source.get(keyword).filter(|v| !v.is_null())?;
        let whole = |n: f64| (n >= 0.0 && n.fract() == 0.0 && n < 9e15).then_some(n as u64);
        let count = value.as_u64().or_else(|| value.as_f64().and_then(whole));
        if count.is_none() {
            self.wrong(source, keyword, trail, "a non-negative integer");
        }
        count
    }

    fn text(
        &mut self,
        source: &Map<String, Value>,
        keyword: &str,
        trail: &Trail<'_>,
    ) -> Option<Box<str>> {
        match source.get(keyword)? {
            Value::Null => None,
            Value::String(text) => Some(text.as_str().into()),
            _ => {
                self.wrong(source, keyword, trail, "a string");
                None
            }
        }
    }

    fn texts(
        &mut self,
        source: &Map<String, Value>,
        keyword: &str,
        trail: &Trail<'_>,
    ) -> Box<[Box<str>]> {
        let list = match source.get(keyword) {
            None | Some(Value::Null) => return Box::default(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.wrong(source, keyword, trail, "a list of strings");
                return Box::default();
            }
        };
        if !list.iter().all(Value::is_string) {
            self.wrong(source, keyword, trail, "a list of strings");
        }
        list.iter()
            .filter_map(Value::as_str)
            .map(Box::from)
            .collect()
    }

    fn object<'v>(
        &mut self,
        source: &'v Map<String, Value>,
        keyword: &str,
        trail: &Trail<'_>,
    ) -> Option<&'v Map<String, Value>> {
        match source.get(keyword)? {
            Value::Null => None,
            Value::Object(map) => Some(map),
            _ => {
                self.wrong(source, keyword, trail, "an object");
                None
            }
        }
    }
}

/// The last segment of a reference, whatever container it names.
pub(super) fn reference_name(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

fn format(name: &str, types: Types) -> Option<Format> {
    match types {
        Types::INTEGER => Format::of_integer(name),
        Types::NUMBER => Format::of_number(name),
        types if types.is_empty() || types == Types::STRING => Format::of_text(name),
        _ => None,
    }
}

/// In built-in schemas an object without properties, a list without items and a schema without
/// type hold anything (`RawExtension`, `FieldsV1`, `JSON`).
fn open_up(source: &Map<String, Value>, level: Level, shape: &mut Shape) {
    if level == Level::Nested || shape.reference.is_some() {
        return;
    }
    let said = source.contains_key("x-kubernetes-preserve-unknown-fields");
    let bare = shape.properties.is_empty() && matches!(shape.additional, Additional::Absent);
    let untyped = shape.types.is_empty() && shape.items.is_none();
    if bare && !said && (untyped || shape.types == Types::OBJECT) {
        shape.preserve_unknown = true;
    }
    if matches!(shape.additional, Additional::Allowed) {
        shape.preserve_unknown = true;
    }
    if shape.types == Types::ARRAY && shape.items.is_none() {
        shape.items = Some(Box::new(Shape::open()));
    }
}
