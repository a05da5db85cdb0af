//! Checking values, with the words of Kubernetes' own validator.

mod values;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use serde_json::{Map, Value};

use super::object_meta;
use super::shape::{
    Additional, Definitions, ListType, MAX_WALK_DEPTH, Rules, Shape, Start, Types, nullable,
    resolve,
};
use super::trail::Trail;
use crate::status::Cause;
use values::{empty, invalid, mistyped, shown, whole};

/// Schema nodes that one validation may visit: some seconds' work at most.
const MAX_STEPS: usize = 20_000_000;
/// Most mistakes reported at once.
const MAX_CAUSES: usize = 100;

/// Everything wrong with a value. With `old`, the value it replaces, parts that did not change
/// are not held against it (ratcheting).
pub(super) fn validate(
    definitions: Option<&Definitions>,
    shape: &Shape,
    value: &Value,
    old: Option<&Value>,
    start: Start,
) -> Vec<Cause> {
    let mut validator = Validator {
        definitions,
        causes: Vec::new(),
        steps: 0,
        matched: 0,
        exhausted: false,
    };
    if start == Start::Resource
        && let Some(metadata) = value.get("metadata")
    {
        let old = old.and_then(|o| o.get("metadata"));
        validator.node(
            object_meta::shape(),
            metadata,
            old,
            &Trail::ROOT.field("metadata"),
            1,
        );
    }
    validator.node(shape, value, old, &Trail::ROOT, 0);
    let mut causes = distinct(validator.causes);
    if validator.exhausted {
        // Said at the end, since a branch of a schema may have swallowed what it found.
        let why = "is nested too deeply, or its schema is too expensive, to be validated".into();
        causes.push(invalid(&Trail::ROOT, &empty(), why));
    }
    causes
}

/// Each mistake once: two branches of a schema may both find it.
fn distinct(mut causes: Vec<Cause>) -> Vec<Cause> {
    if causes.len() > 1 {
        let mut seen = HashSet::new();
        causes.retain(|c| seen.insert((c.field.clone(), c.message.clone())));
    }
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
            return;
        }
        let nulls = value.is_null() && nullable(self.definitions, shape);
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
        if shape.types.is_empty() || nulls {
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
                let found = match value {
                    Value::Number(n) if n.is_i64() => "int64",
                    Value::Number(_) => "float64",
                    _ => "",
                };
                mistyped(trail, format.name(), found)
            }
            _ => mistyped(trail, &shape.types.names(), &got.names()),
        });
    }

    fn rules(
        &mut self,
        rules: &Rules,
        shape: &Shape,
        value: &Value,
        trail: &Trail<'_>,
        depth: usize,
    ) {
        if let Some(why) = &rules.broken {
            self.report(invalid(trail, &empty(), why.to_string()));
            return;
        }
        if !value.is_null() {
            self.branches(rules, value, trail, depth);
        }
        let broken = values::mistakes(rules, shape.types, value, trail);
        broken.into_iter().for_each(|c| self.report(c));
    }

    /// Runs one branch aside; the mistakes in it and the checks that passed.
    fn branch(
        &mut self,
        shape: &Shape,
        value: &Value,
        trail: &Trail<'_>,
        depth: usize,
    ) -> (Vec<Cause>, usize) {
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
    fn any_of(
        &mut self,
        branches: &[Shape],
        value: &Value,
        trail: &Trail<'_>,
        depth: usize,
    ) -> Option<Vec<Cause>> {
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

    fn object(
        &mut self,
        shape: &Shape,
        map: &Map<String, Value>,
        old: Option<&Value>,
        trail: &Trail<'_>,
        depth: usize,
    ) {
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
    fn embedded(
        &mut self,
        map: &Map<String, Value>,
        old: Option<&Value>,
        trail: &Trail<'_>,
        depth: usize,
    ) {
        for name in ["apiVersion", "kind"] {
            let at = trail.field(name);
            match map.get(name) {
                Some(Value::String(text)) if !text.is_empty() => {}
                None => self.report(Cause::required(at.to_string(), "")),
                Some(Value::Null | Value::String(_)) => {
                    self.report(Cause::required(at.to_string(), "must not be empty"));
                }
                Some(other) => self.report(mistyped(&at, "string", &Types::of(other).names())),
            }
        }
        if let Some(metadata) = map.get("metadata") {
            let old = old.and_then(|o| o.get("metadata"));
            self.node(
                object_meta::shape(),
                metadata,
                old,
                &trail.field("metadata"),
                depth + 1,
            );
        }
    }

    fn list(
        &mut self,
        shape: &Shape,
        list: &[Value],
        old: Option<&Value>,
        trail: &Trail<'_>,
        depth: usize,
    ) {
        let keys = shape
            .extras
            .as_deref()
            .map_or(&[] as &[_], |e| &*e.list_map_keys);
        let list_type = shape
            .extras
            .as_deref()
            .and_then(|e| e.list_type)
            .unwrap_or_default();
        // Kubernetes holds only custom resources to the uniqueness that a list type announces: a
        // built-in container may name an environment variable twice.
        let list_checked = if self.definitions.is_some() {
            ListType::Atomic
        } else {
            list_type
        };
        match list_checked {
            ListType::Set => self.duplicates(list, |v| v, |i| list[i].clone(), trail),
            ListType::Map => self.map_items(list, keys, trail),
            ListType::Atomic => {}
        }
        let Some(items) = &shape.items else { return };
        let before = correlate(list_type, keys, old);
        for (i, item) in list.iter().enumerate() {
            let old = before
                .as_ref()
                .and_then(|b| b.get(&key_of(item, keys)).copied());
            self.node(items, item, old, &trail.index(i), depth + 1);
        }
    }

    fn map_items(&mut self, list: &[Value], keys: &[Box<str>], trail: &Trail<'_>) {
        if let Some(i) = list.iter().position(|v| !v.is_object() && !v.is_null()) {
            let why = "must be an object for an array of list-type map".to_owned();
            self.report(invalid(&trail.index(i), &list[i], why));
            return;
        }
        let named = |i: usize| {
            let given = keys
                .iter()
                .filter_map(|k| Some((k.to_string(), list[i].get(&**k)?.clone())));
            Value::Object(given.collect())
        };
        self.duplicates(list, |item| key_of(item, keys), named, trail);
    }

    /// Reports the second occurrence of each identity, with the value to show for it.
    fn duplicates<'v, K: Hash + Eq>(
        &mut self,
        list: &'v [Value],
        identity: impl Fn(&'v Value) -> K,
        shown_as: impl Fn(usize) -> Value,
        trail: &Trail<'_>,
    ) {
        if list.len() < 2 {
            return;
        }
        let mut seen = HashMap::with_capacity(list.len());
        for (i, item) in list.iter().enumerate() {
            let times = seen.entry(identity(item)).or_insert(0_usize);
            *times += 1;
            if *times == 2 {
                self.report(Cause::duplicate(
                    trail.index(i).to_string(),
                    &shown(&shown_as(i)),
                ));
            }
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
) -> Option<HashMap<Vec<Option<&'v Value>>, &'v Value>> {
    let old = old?.as_array()?;
    (list_type == ListType::Map)
        .then(|| old.iter().map(|item| (key_of(item, keys), item)).collect())
}
