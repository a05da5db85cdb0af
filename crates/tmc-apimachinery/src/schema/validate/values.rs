//! What is wrong with one value by itself: bounds, lengths, patterns, formats, enums.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use crate::schema::format::Format;
use crate::schema::pattern::Match;
use crate::schema::shape::{Bound, Rules, Types};
use crate::schema::trail::Trail;
use crate::status::Cause;

/// Longest value echoed in a message, in bytes.
const MAX_SHOWN: usize = 1_024;

/// Everything that a value breaks of the rules that concern it alone.
pub(super) fn mistakes(
    rules: &Rules,
    types: Types,
    value: &Value,
    trail: &Trail<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    match value {
        Value::String(text) => {
            causes.extend(text_mistake(rules, text, trail));
            causes.extend(malformed(rules, text, trail));
        }
        Value::Number(number) => number_mistakes(rules, types, number, trail, &mut causes),
        Value::Array(list) => list_mistakes(rules, list, trail, &mut causes),
        Value::Object(map) => object_mistakes(rules, map, trail, &mut causes),
        _ => {}
    }
    causes.extend(not_chosen(rules, value, trail));
    causes
}

/// The field of a cause; the root has no name.
pub(super) fn place(trail: &Trail<'_>) -> String {
    if trail.is_root() {
        "<nil>".into()
    } else {
        trail.to_string()
    }
}

/// The start of a long text.
fn cut(text: &str) -> String {
    let end = (0..=MAX_SHOWN)
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A value as messages show it, cut when it is long.
pub(super) fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > MAX_SHOWN => cut(text).into(),
        Value::Object(_) | Value::Array(_) => {
            let text = value.to_string();
            if text.len() > MAX_SHOWN {
                cut(&text).into()
            } else {
                value.clone()
            }
        }
        _ => value.clone(),
    }
}

/// The value shown where none says more than its place.
pub(super) fn empty() -> Value {
    Value::String(String::new())
}

/// A value that breaks a rule.
pub(super) fn invalid(trail: &Trail<'_>, value: &Value, why: String) -> Cause {
    Cause::invalid(place(trail), &shown(value), why)
}

/// A type mistake: `what` is the type or format wanted, `got` what was found instead.
pub(super) fn mistyped(trail: &Trail<'_>, what: &str, got: &str) -> Cause {
    let got = if got.len() > MAX_SHOWN {
        cut(got)
    } else {
        got.to_owned()
    };
    let got = Value::String(got);
    let why = format!("{trail} in body must be of type {what}: {got}");
    Cause::type_invalid(place(trail), &got, why)
}

/// Whether a number is an integer, also when written as a fraction that JSON carries exactly.
pub(super) fn whole(n: &Number) -> bool {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    n.is_i64()
        || n.as_f64()
            .is_some_and(|f| f.fract() == 0.0 && f.abs() <= EXACT)
}

/// A bound as Go prints it: whole numbers without a fraction, large ones with an exponent.
fn plain(n: f64) -> String {
    if n.abs() >= 1e21 {
        return format!("{n:e}").replacen('e', "e+", 1);
    }
    if n.fract() == 0.0 {
        format!("{n:.0}")
    } else {
        n.to_string()
    }
}

fn too_long(trail: &Trail<'_>, limit: String) -> Cause {
    let message = format!("Too long: may not be more than {limit}");
    Cause {
        reason: "FieldValueTooLong".into(),
        message,
        field: place(trail),
    }
}

fn too_many(trail: &Trail<'_>, size: u64, most: u64) -> Cause {
    let items = if most == 1 { "item" } else { "items" };
    let message = format!("Too many: {size}: must have at most {most} {items}");
    Cause {
        reason: "FieldValueTooMany".into(),
        message,
        field: place(trail),
    }
}

/// The first of length and pattern that a text breaks.
fn text_mistake(rules: &Rules, text: &str, trail: &Trail<'_>) -> Option<Cause> {
    let broken = |why: String| Some(invalid(trail, &text.into(), why));
    let length = || text.chars().count() as u64;
    if let Some(most) = rules.max_length
        && text.len() as u64 > most
        && length() > most
    {
        return Some(too_long(
            trail,
            format!("{most} {}", if most == 1 { "byte" } else { "bytes" }),
        ));
    }
    if let Some(least) = rules.min_length
        && length() < least
    {
        return broken(format!(
            "{trail} in body should be at least {least} chars long"
        ));
    }
    let pattern = rules.pattern.as_ref()?;
    match pattern.matches(text) {
        Match::Yes => None,
        Match::No => broken(format!(
            "{trail} in body should match '{}'",
            pattern.source()
        )),
        Match::TooLong(most) => Some(too_long(
            trail,
            format!("{most} bytes to be matched against its pattern"),
        )),
    }
}

fn malformed(rules: &Rules, text: &str, trail: &Trail<'_>) -> Option<Cause> {
    match rules.format {
        Some(Format::Text(name, check)) if !check(text) => Some(mistyped(trail, name, text)),
        _ => None,
    }
}

fn number_mistakes(
    rules: &Rules,
    types: Types,
    number: &Number,
    trail: &Trail<'_>,
    causes: &mut Vec<Cause>,
) {
    let Some(n) = number.as_f64() else { return };
    let mut broken = |why: String| causes.push(invalid(trail, &Value::Number(number.clone()), why));
    if let Some(format) = rules
        .format
        .filter(|format| out_of_range(*format, number, n))
    {
        let kind = if types == Types::INTEGER {
            "integer"
        } else {
            "number"
        };
        let format = format.name();
        broken(format!(
            "Checked value must be of type {kind} with format {format} in {trail}"
        ));
    }
    if let Some(factor) = rules.multiple_of
        && !multiple(number, n, factor)
    {
        broken(format!(
            "{trail} in body should be a multiple of {}",
            plain(factor)
        ));
    }
    let words = |bound: &Bound, side: &str| {
        let or_equal = if bound.exclusive { "" } else { " or equal to" };
        format!(
            "{trail} in body should be {side} than{or_equal} {}",
            plain(bound.at)
        )
    };
    if let Some(max) = rules
        .max
        .filter(|max| n > max.at || max.exclusive && n >= max.at)
    {
        broken(words(&max, "less"));
    }
    if let Some(min) = rules
        .min
        .filter(|min| n < min.at || min.exclusive && n <= min.at)
    {
        broken(words(&min, "greater"));
    }
}

/// Whether a number of the right type exceeds what its format holds; one of the wrong type is
/// reported as such.
fn out_of_range(format: Format, number: &Number, n: f64) -> bool {
    match format {
        Format::Int32 => whole(number) && !(-2_147_483_648.0..=2_147_483_647.0).contains(&n),
        Format::Float => n.abs() > f64::from(f32::MAX),
        _ => false,
    }
}

fn multiple(number: &Number, n: f64, factor: f64) -> bool {
    match number.as_i64() {
        Some(i) if factor.fract() == 0.0 && (1.0..9e15).contains(&factor) => {
            i % (factor as i64) == 0
        }
        _ => {
            let quotient = n / factor;
            (quotient - quotient.round()).abs() <= 1e-9 * quotient.abs().max(1.0)
        }
    }
}

fn list_mistakes(rules: &Rules, list: &[Value], trail: &Trail<'_>, causes: &mut Vec<Cause>) {
    let size = list.len() as u64;
    if let Some(least) = rules.min_items.filter(|least| size < *least) {
        let why = format!("{trail} in body should have at least {least} items");
        causes.push(invalid(trail, &size.into(), why));
    }
    if let Some(most) = rules.max_items.filter(|most| size > *most) {
        causes.push(too_many(trail, size, most));
    }
    if rules.unique_items {
        let mut seen = HashSet::with_capacity(list.len());
        if !list.iter().all(|item| seen.insert(item)) {
            let why = format!("{trail} in body shouldn't contain duplicates");
            causes.push(invalid(trail, &empty(), why));
        }
    }
}

fn object_mistakes(
    rules: &Rules,
    map: &Map<String, Value>,
    trail: &Trail<'_>,
    causes: &mut Vec<Cause>,
) {
    let size = map.len() as u64;
    if let Some(least) = rules.min_properties.filter(|least| size < *least) {
        let why = format!("{trail} in body should have at least {least} properties");
        causes.push(invalid(trail, &size.into(), why));
    }
    if let Some(most) = rules.max_properties.filter(|most| size > *most) {
        causes.push(too_many(trail, size, most));
    }
    for name in rules
        .required
        .iter()
        .filter(|name| !map.contains_key(&***name))
    {
        causes.push(Cause::required(trail.field(name).to_string(), ""));
    }
}

fn not_chosen(rules: &Rules, value: &Value, trail: &Trail<'_>) -> Option<Cause> {
    if rules.choices.is_empty() || rules.choices.iter().any(|c| same(c, value)) {
        return None;
    }
    let text = |choice: &Value| {
        choice
            .as_str()
            .map_or_else(|| choice.to_string(), str::to_owned)
    };
    let names: Vec<String> = rules.choices.iter().map(text).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Some(Cause::not_supported(place(trail), &shown(value), &names))
}

/// Whether a value equals one of an enum; 1 and 1.0 are one number.
fn same(choice: &Value, value: &Value) -> bool {
    match (choice, value) {
        (Value::Number(a), Value::Number(b)) if a.is_i64() && b.is_i64() => a == b,
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}
