//! Checking values, with the words of Kubernetes' own validator.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use super::format::Format;
use super::object_meta;
use super::pattern::{Match, Pattern};
use super::shape::{
    Additional, Bound, Definitions, ListType, MAX_WALK_DEPTH, Rules, Shape, Start, Types, nullable,
    resolve,
};
use super::trail::Trail;
use crate::status::Cause;

/// Schema nodes that one validation may visit: some seconds' work at most.
const MAX_STEPS: usize = 20_000_000;
/// Most mistakes reported at once.
const MAX_CAUSES: usize = 100;
/// Longest value echoed in a message, in bytes.
const MAX_SHOWN: usize = 1_024;

/// Everything wrong with a value. With `old`, the value it replaces, parts that did not change
/// are not held against it (ratcheting).
pub(super) fn validate(
    definitions: Option<&Definitions>,
    shape: &Shape,
    value: &Value,
    old: Option<&Value>,
    start: Start,
) -> Vec<Cause> {
    let mut validator =
        Validator { definitions, causes: Vec::new(), steps: 0, matched: 0, exhausted: false };
    if start == Start::Resource
        && let Some(metadata) = value.get("metadata")
    {
        let old = old.and_then(|o| o.get("metadata"));
        validator.node(object_meta::shape(), metadata, old, &Trail::ROOT.field("metadata"), 1);
    }
    validator.node(shape, value, old, &Trail::ROOT, 0);
    let mut causes = validator.causes;
    let mut seen = HashSet::new();
    causes.retain(|c| seen.insert((c.field.clone(), c.message.clone())));
    causes
}

struct Validator<'d> {
    definitions: Option<&'d Definitions>,
    causes: Vec<Cause>,
    steps: usize,
    /// Checks that passed: the branch of an `anyOf` with the most of them explains a failure best.
    matched: usize,
    exhausted: bool,
}

/// The field of a cause.
fn place(trail: &Trail<'_>) -> String {
    if trail.is_root() { "<nil>".into() } else { trail.to_string() }
}

/// A value as messages show it, cut when it is long.
fn shown(value: &Value) -> Value {
    let cut = |text: &str| {
        let end = (0..=MAX_SHOWN).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        Value::String(format!("{}…", &text[..end]))
    };
    match value {
        Value::String(text) if text.len() > MAX_SHOWN => cut(text),
        Value::Object(_) | Value::Array(_) => {
            let text = value.to_string();
            if text.len() > MAX_SHOWN { cut(&text) } else { value.clone() }
        }
        _ => value.clone(),
    }
}

fn empty() -> Value {
    Value::String(String::new())
}

fn invalid(trail: &Trail<'_>, value: &Value, why: String) -> Cause {
    Cause::invalid(place(trail), &shown(value), why)
}

/// A type mistake: `what` is the type or format wanted, `got` what was found instead.
fn mistyped(trail: &Trail<'_>, what: &str, got: &str) -> Cause {
    let got = Value::String(got.to_owned());
    let why = format!("{trail} in body must be of type {what}: {got}");
    Cause::type_invalid(place(trail), &got, why)
}

fn too(reason: &str, trail: &Trail<'_>, message: String) -> Cause {
    Cause { reason: reason.into(), message, field: place(trail) }
}

/// A bound as Go prints it: whole numbers without a fraction.
fn plain(n: f64) -> String {
    if n.fract() == 0.0 && n.abs() < 1e21 { format!("{n:.0}") } else { n.to_string() }
}

/// Whether a number is written as a fraction but whole.
fn whole(n: &Number) -> bool {
    n.as_f64().is_some_and(|f| f.fract() == 0.0)
}

impl Validator<'_> {
    fn report(&mut self, cause: Cause) {
        if self.causes.len() < MAX_CAUSES {
            self.causes.push(cause);
        }
    }

    fn node(
        &mut self,
        shape: &Shape,
        value: &Value,
        old: Option<&Value>,
        trail: &Trail<'_>,
        depth: usize,
    ) {
        if old == Some(value) || self.exhausted || self.causes.len() >= MAX_CAUSES {
            return;
        }
        self.steps += 1;
        if depth > MAX_WALK_DEPTH || self.steps > MAX_STEPS {
            self.exhausted = true;
            let why = "is nested too deeply, or its schema is too expensive, to be validated".into();
            self.report(invalid(trail, &empty(), why));
            return;
        }
        let nulls = nullable(self.definitions, shape);
        let shape_rules = shape.rules.as_deref().filter(|_| shape.reference.is_some());
        let shape = resolve(self.definitions, shape);
        if let Some(rules) = shape_rules {
            self.rules(rules, shape, value, trail, depth);
        }
        let before = self.causes.len();
        self.types(shape, nulls, value, trail);
        if let Some(rules) = shape.rules.as_deref() {
            self.rules(rules, shape, value, trail, depth);
        }
        match value {
            Value::Object(map) => self.object(shape, map, old, trail, depth),
            Value::Array(list) => self.list(shape, list, old, trail, depth),
            _ => {}
        }
        self.matched += usize::from(self.causes.len() == before);
    }

    fn types(&mut self, shape: &Shape, nulls: bool, value: &Value, trail: &Trail<'_>) {
        if shape.types.is_empty() || (value.is_null() && nulls) {
            return;
        }
        let got = Types::of(value);
        let fits = shape.types.has(got)
            || shape.types.has(Types::NUMBER) && got == Types::INTEGER
            || shape.types.has(Types::INTEGER) && matches!(value, Value::Number(n) if whole(n));
        if fits {
            return;
        }
        let format = shape.rules.as_ref().and_then(|r| r.format);
        let structured = matches!(value, Value::String(_) | Value::Array(_) | Value::Null);
        // Formatted numbers are compared by format, as upstream does.
        self.report(match format {
            Some(format) if !structured => {
                let found = if value.is_number() { "float64" } else { "" };
                mistyped(trail, format.name(), found)
            }
            _ => mistyped(trail, &shape.types.names(), &got.names()),
        });
    }

    fn rules(&mut self, rules: &Rules, shape: &Shape, value: &Value, trail: &Trail<'_>, depth: usize) {
        if let Some(why) = &rules.broken {
            self.report(invalid(trail, &empty(), why.to_string()));
            return;
        }
        if !value.is_null() {
            self.branches(rules, value, trail, depth);
        }
        match value {
            Value::String(text) => self.text(rules, text, trail),
            Value::Number(number) => self.number(rules, shape.types, number, trail),
            Value::Array(list) => self.list_bounds(rules, list, trail),
            Value::Object(map) => self.object_bounds(rules, map, trail),
            _ => {}
        }
        if !rules.choices.is_empty() && !rules.choices.iter().any(|c| same(c, value)) {
            let names: Vec<String> = rules
                .choices
                .iter()
                .map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.report(Cause::not_supported(place(trail), &shown(value), &names));
        }
    }

    /// Runs one branch aside; the mistakes in it and the checks that passed.
    fn branch(&mut self, shape: &Shape, value: &Value, trail: &Trail<'_>, depth: usize) -> (Vec<Cause>, usize) {
        let outer = std::mem::take(&mut self.causes);
        let before = self.matched;
        self.node(shape, value, None, trail, depth + 1);
        let inner = std::mem::replace(&mut self.causes, outer);
        (inner, self.matched - before)
    }

    fn branches(&mut self, rules: &Rules, value: &Value, trail: &Trail<'_>, depth: usize) {
        if !rules.any_of.is_empty() {
            let failed = self.any_of(&rules.any_of, value, trail, depth);
            if let Some(best) = failed {
                let why = format!("\"{trail}\" must validate at least one schema (anyOf)");
                self.report(invalid(trail, &empty(), why));
                best.into_iter().for_each(|c| self.report(c));
            }
        }
        if !rules.one_of.is_empty() {
            self.one_of(&rules.one_of, value, trail, depth);
        }
        self.all_of(&rules.all_of, value, trail, depth);
        if let Some(not) = &rules.not
            && self.branch(not, value, trail, depth).0.is_empty()
        {
            let why = format!("\"{trail}\" must not validate the schema (not)");
            self.report(invalid(trail, &empty(), why));
        }
    }

    /// The mistakes of the branch that fits best, if none fits.
    fn any_of(&mut self, branches: &[Shape], value: &Value, trail: &Trail<'_>, depth: usize) -> Option<Vec<Cause>> {
        let mut best: Option<(Vec<Cause>, usize)> = None;
        for branch in branches {
            let (causes, matched) = self.branch(branch, value, trail, depth);
            if causes.is_empty() {
                return None;
            }
            if best.as_ref().is_none_or(|(_, most)| matched > *most) {
                best = Some((causes, matched));
            }
        }
        best.map(|(causes, _)| causes)
    }

    fn one_of(&mut self, branches: &[Shape], value: &Value, trail: &Trail<'_>, depth: usize) {
        let mut best: Option<(Vec<Cause>, usize)> = None;
        let mut valid = 0;
        for branch in branches {
            let (causes, matched) = self.branch(branch, value, trail, depth);
            if causes.is_empty() {
                valid += 1;
            } else if best.as_ref().is_none_or(|(_, most)| matched > *most) {
                best = Some((causes, matched));
            }
        }
        let found = match valid {
            1 => return,
            0 => "Found none valid".to_owned(),
            n => format!("Found {n} valid alternatives"),
        };
        let why = format!("\"{trail}\" must validate one and only one schema (oneOf). {found}");
        self.report(invalid(trail, &empty(), why));
        if let (0, Some((causes, _))) = (valid, best) {
            causes.into_iter().for_each(|c| self.report(c));
        }
    }

    fn all_of(&mut self, branches: &[Shape], value: &Value, trail: &Trail<'_>, depth: usize) {
        let mut valid = 0;
        for branch in branches {
            let (causes, _) = self.branch(branch, value, trail, depth);
            valid += usize::from(causes.is_empty());
            causes.into_iter().for_each(|c| self.report(c));
        }
        if valid < branches.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            let why = format!("\"{trail}\" must validate all the schemas (allOf){none}");
            self.report(invalid(trail, &empty(), why));
        }
    }

    fn text(&mut self, rules: &Rules, text: &str, trail: &Trail<'_>) {
        let cause = text_mistake(rules, text, trail);
        let malformed = match rules.format {
            Some(Format::Text(name, check)) if !check(text) => Some(mistyped(trail, name, text)),
            _ => None,
        };
        for mut cause in cause.into_iter().chain(malformed) {
            if cause.message.len() > 3 * MAX_SHOWN {
                let end = (0..=MAX_SHOWN).rev().find(|&i| cause.message.is_char_boundary(i));
                cause.message.truncate(end.unwrap_or(0));
                cause.message.push('…');
            }
            self.report(cause);
        }
    }

    fn number(&mut self, rules: &Rules, types: Types, number: &Number, trail: &Trail<'_>) {
        let value = Value::Number(number.clone());
        let Some(n) = number.as_f64() else { return };
        let integer = types == Types::INTEGER;
        let fits = match rules.format {
            Some(Format::Int32) => {
                number.as_i64().map_or(n.fract() == 0.0 && n.abs() < 2_147_483_648.0, |i| i32::try_from(i).is_ok())
            }
            Some(Format::Float) => n.abs() <= f64::from(f32::MAX),
            _ => !integer || number.is_i64() || n.abs() < 9.3e18,
        };
        if !fits {
            let (kind, format) = match rules.format {
                Some(format) => (if integer { "integer" } else { "number" }, format!("with format {}", format.name())),
                None => ("integer", "(default format)".into()),
            };
            let why = format!("Checked value must be of type {kind} {format} in {trail}");
            self.report(invalid(trail, &value, why));
        }
        if let Some(factor) = rules.multiple_of
            && !multiple(number, n, factor)
        {
            let why = format!("{trail} in body should be a multiple of {}", plain(factor));
            self.report(invalid(trail, &value, why));
        }
        let words = |bound: &Bound, side: &str| {
            let or_equal = if bound.exclusive { "" } else { " or equal to" };
            format!("{trail} in body should be {side} than{or_equal} {}", plain(bound.at))
        };
        if let Some(max) = rules.max.filter(|max| n > max.at || max.exclusive && n >= max.at) {
            self.report(invalid(trail, &value, words(&max, "less")));
        }
        if let Some(min) = rules.min.filter(|min| n < min.at || min.exclusive && n <= min.at) {
            self.report(invalid(trail, &value, words(&min, "greater")));
        }
    }

    fn list_bounds(&mut self, rules: &Rules, list: &[Value], trail: &Trail<'_>) {
        let size = list.len() as u64;
        if let Some(least) = rules.min_items.filter(|least| size < *least) {
            let why = format!("{trail} in body should have at least {least} items");
            self.report(invalid(trail, &size.into(), why));
        }
        if let Some(most) = rules.max_items.filter(|most| size > *most) {
            self.report(too_many(trail, size, most));
        }
        if rules.unique_items {
            let mut seen = HashSet::with_capacity(list.len());
            if !list.iter().all(|item| seen.insert(item)) {
                let why = format!("{trail} in body shouldn't contain duplicates");
                self.report(invalid(trail, &empty(), why));
            }
        }
    }

    fn object_bounds(&mut self, rules: &Rules, map: &Map<String, Value>, trail: &Trail<'_>) {
        let size = map.len() as u64;
        if let Some(least) = rules.min_properties.filter(|least| size < *least) {
            let why = format!("{trail} in body should have at least {least} properties");
            self.report(invalid(trail, &size.into(), why));
        }
        if let Some(most) = rules.max_properties.filter(|most| size > *most) {
            self.report(too_many(trail, size, most));
        }
        for name in rules.required.iter().filter(|name| !map.contains_key(&***name)) {
            self.report(Cause::required(trail.field(name).to_string(), ""));
        }
    }

    fn object(&mut self, shape: &Shape, map: &Map<String, Value>, old: Option<&Value>, trail: &Trail<'_>, depth: usize) {
        if shape.embedded {
            self.embedded(map, old, trail, depth);
        }
        for (name, value) in map {
            match shape.member(name) {
                Some(child) => {
                    let old = old.and_then(|o| o.get(name));
                    self.node(child, value, old, &trail.field(name), depth + 1);
                }
                None if matches!(shape.additional, Additional::Forbidden) => {
                    let why = format!("{trail}.{name} in body is a forbidden property");
                    self.report(invalid(trail, &name.as_str().into(), why));
                }
                None => {}
            }
        }
    }

    /// An embedded resource must say what it is.
    fn embedded(&mut self, map: &Map<String, Value>, old: Option<&Value>, trail: &Trail<'_>, depth: usize) {
        for name in ["apiVersion", "kind"] {
            let at = trail.field(name);
            match map.get(name) {
                Some(Value::String(text)) if !text.is_empty() => {}
                None | Some(Value::Null | Value::String(_)) => {
                    self.report(Cause::required(at.to_string(), "must not be empty"));
                }
                Some(other) => self.report(mistyped(&at, "string", &Types::of(other).names())),
            }
        }
        if let Some(metadata) = map.get("metadata") {
            let old = old.and_then(|o| o.get("metadata"));
            self.node(object_meta::shape(), metadata, old, &trail.field("metadata"), depth + 1);
        }
    }

    fn list(&mut self, shape: &Shape, list: &[Value], old: Option<&Value>, trail: &Trail<'_>, depth: usize) {
        let keys = shape.extras.as_deref().map_or(&[] as &[_], |e| &*e.list_map_keys);
        let list_type = shape.extras.as_deref().and_then(|e| e.list_type).unwrap_or_default();
        match list_type {
            ListType::Set => self.duplicates(list.iter().map(|v| (v, v.clone())), trail),
            ListType::Map => self.map_items(list, keys, trail),
            ListType::Atomic => {}
        }
        let Some(items) = &shape.items else { return };
        let before = correlate(list_type, keys, old);
        for (i, item) in list.iter().enumerate() {
            let old = before.as_ref().and_then(|b| b.get(&key_of(item, keys)).copied());
            self.node(items, item, old, &trail.index(i), depth + 1);
        }
    }

    fn map_items(&mut self, list: &[Value], keys: &[Box<str>], trail: &Trail<'_>) {
        if let Some(i) = list.iter().position(|v| !v.is_object() && !v.is_null()) {
            let why = "must be an object for an array of list-type map".to_owned();
            self.report(invalid(&trail.index(i), &list[i], why));
            return;
        }
        let named = list.iter().map(|item| {
            let given = keys.iter().filter_map(|k| Some((k.to_string(), item.get(&**k)?.clone())));
            (key_of(item, keys), Value::Object(given.collect()))
        });
        self.duplicates(named, trail);
    }

    /// Reports the second occurrence of each identity, with the value to show for it.
    fn duplicates<K: std::hash::Hash + Eq>(&mut self, items: impl Iterator<Item = (K, Value)>, trail: &Trail<'_>) {
        let mut seen = std::collections::HashMap::new();
        for (i, (identity, value)) in items.enumerate() {
            let times = seen.entry(identity).or_insert(0_usize);
            *times += 1;
            if *times == 2 {
                self.report(Cause::duplicate(trail.index(i).to_string(), &shown(&value)));
            }
        }
    }
}

fn too_many(trail: &Trail<'_>, size: u64, most: u64) -> Cause {
    let items = if most == 1 { "item" } else { "items" };
    let message = format!("Too many: {size}: must have at most {most} {items}");
    too("FieldValueTooMany", trail, message)
}

/// The first of length and pattern that a text breaks.
fn text_mistake(rules: &Rules, text: &str, trail: &Trail<'_>) -> Option<Cause> {
    let value = Value::String(text.to_owned());
    let length = || text.chars().count() as u64;
    if let Some(most) = rules.max_length.filter(|most| text.len() as u64 > *most && length() > *most) {
        let bytes = if most == 1 { "byte" } else { "bytes" };
        let message = format!("Too long: may not be more than {most} {bytes}");
        return Some(too("FieldValueTooLong", trail, message));
    }
    if let Some(least) = rules.min_length.filter(|least| length() < *least) {
        let why = format!("{trail} in body should be at least {least} chars long");
        return Some(invalid(trail, &value, why));
    }
    let pattern: &Pattern = rules.pattern.as_ref()?;
    match pattern.matches(text) {
        Match::Yes => None,
        Match::No => {
            let why = format!("{trail} in body should match '{}'", pattern.source());
            Some(invalid(trail, &value, why))
        }
        Match::TooLong(most) => {
            let message = format!("Too long: may not be more than {most} bytes to be matched against its pattern");
            Some(too("FieldValueTooLong", trail, message))
        }
    }
}

/// Whether a value equals one of an enum; 1 and 1.0 are one number.
fn same(choice: &Value, value: &Value) -> bool {
    match (choice, value) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && !(a.is_i64() && b.is_i64()),
        (a, b) => a == b,
    }
}

fn multiple(number: &Number, n: f64, factor: f64) -> bool {
    match number.as_i64() {
        Some(i) if factor.fract() == 0.0 && factor.abs() < 9e15 && factor != 0.0 => i % (factor as i64) == 0,
        _ => {
            let quotient = n / factor;
            (quotient - quotient.round()).abs() <= 1e-9 * quotient.abs().max(1.0)
        }
    }
}

/// The identity of a list item: the values of its keys.
fn key_of<'v>(item: &'v Value, keys: &[Box<str>]) -> Vec<Option<&'v Value>> {
    keys.iter().map(|key| item.get(&**key)).collect()
}

/// Old items of a keyed list by identity; other lists change as a whole.
fn correlate<'v>(
    list_type: ListType,
    keys: &[Box<str>],
    old: Option<&'v Value>,
) -> Option<std::collections::HashMap<Vec<Option<&'v Value>>, &'v Value>> {
    let old = old?.as_array()?;
    (list_type == ListType::Map).then(|| old.iter().map(|item| (key_of(item, keys), item)).collect())
}
