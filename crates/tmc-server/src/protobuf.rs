//! Kubernetes' protobuf encoding of objects, read only: what typed clients (`kubectl create
//! deployment`, `kubectl auth can-i`) send even to servers that answer in JSON.
//!
//! An object is the magic bytes `k8s\0` and a `runtime.Unknown` that names its kind and holds its
//! encoding. Layouts are facts in a table (`protobuf/kubernetes.txt`, made by the example
//! `protobuf-table`); only built-in kinds have one.

mod table;
mod wire;

use std::borrow::Cow;

use base64::Engine;
use serde_json::{Map, Value, json};

use table::{Code, Field, Shape, message};
use wire::{Fields, Raw};

/// What precedes every object.
const MAGIC: &[u8] = b"k8s\0";
/// Nesting beyond this is refused, as in JSON.
const MAX_DEPTH: usize = 100;

/// Why bytes are not an object. The text goes to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(Cow<'static, str>);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

type Result<T, E = Malformed> = std::result::Result<T, E>;

fn malformed<T>(why: impl Into<Cow<'static, str>>) -> Result<T> {
    Err(Malformed(why.into()))
}

/// Decodes an object; `None` if its kind has no protobuf layout here.
///
/// # Errors
/// What is malformed and where.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Value>> {
    let Some(envelope) = bytes.strip_prefix(MAGIC) else {
        return malformed(
            "it does not begin with the magic bytes of Kubernetes' protobuf encoding",
        );
    };
    let (mut api_version, mut kind, mut raw) = ("", "", &[][..]);
    for field in Fields::new(envelope) {
        match field? {
            (1, Raw::Bytes(type_meta)) => (api_version, kind) = read_type_meta(type_meta)?,
            (2, Raw::Bytes(object)) => raw = object,
            (3, Raw::Bytes(encoding)) if !encoding.is_empty() => {
                return malformed("it has a content encoding");
            }
            _ => {}
        }
    }
    // Delete options are of the group that they are sent to; there is one layout of them.
    let package = if kind == "DeleteOptions" {
        "meta/v1"
    } else {
        api_version
    };
    let Some(layout) = message(&format!("{package}.{kind}")) else {
        return Ok(None);
    };
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    read_message(&mut object, layout, raw, 0)?;
    Ok(Some(Value::Object(object)))
}

fn read_type_meta(bytes: &[u8]) -> Result<(&str, &str)> {
    let (mut api_version, mut kind) = ("", "");
    for field in Fields::new(bytes) {
        match field? {
            (1, Raw::Bytes(bytes)) => api_version = text(bytes)?,
            (2, Raw::Bytes(bytes)) => kind = text(bytes)?,
            _ => {}
        }
    }
    Ok((api_version, kind))
}

/// Reads the members of a message into a JSON object. Unknown numbers are skipped, as by every
/// protobuf reader.
fn read_message(
    object: &mut Map<String, Value>,
    layout: &[Field],
    bytes: &[u8],
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return malformed("it is nested too deeply");
    }
    for member in Fields::new(bytes) {
        let (number, raw) = member?;
        let Some(field) = layout.iter().find(|field| field.number == number) else {
            continue;
        };
        read_member(object, field, raw, depth)
            .map_err(|Malformed(why)| Malformed(format!("{}: {why}", field.name).into()))?;
    }
    Ok(())
}

fn read_member(
    object: &mut Map<String, Value>,
    field: &Field,
    raw: Raw<'_>,
    depth: usize,
) -> Result<()> {
    if field.name.is_empty() {
        return match (&field.code, raw) {
            (Code::Message(name), Raw::Bytes(bytes)) => {
                read_message(object, layout_of(name)?, bytes, depth + 1)
            }
            _ => malformed("an inlined member is not a message"),
        };
    }
    match field.shape {
        Shape::One => {
            let value = read_value(&field.code, raw, depth)?;
            let absent = value.is_null() || (field.omit_zero && is_zero(&value));
            if !absent {
                object.insert(field.name.into(), value);
            }
        }
        Shape::List => {
            let list = object.entry(field.name).or_insert_with(|| json!([]));
            let Some(list) = list.as_array_mut() else {
                return malformed("is not a list");
            };
            read_items(list, &field.code, raw, depth)?;
        }
        Shape::Map => {
            let Raw::Bytes(entry) = raw else {
                return malformed("a map entry is not a message");
            };
            let (key, value) = read_entry(&field.code, entry, depth)?;
            let map = object.entry(field.name).or_insert_with(|| json!({}));
            map[key] = value;
        }
    }
    Ok(())
}

/// One item, or several numbers packed together.
fn read_items(list: &mut Vec<Value>, code: &Code, raw: Raw<'_>, depth: usize) -> Result<()> {
    if let (Code::Integer | Code::Bool, Raw::Bytes(mut packed)) = (code, raw) {
        while !packed.is_empty() {
            let number = wire::varint(&mut packed)?;
            list.push(read_value(code, Raw::Number(number), depth)?);
        }
        return Ok(());
    }
    list.push(read_value(code, raw, depth)?);
    Ok(())
}

fn read_entry(code: &Code, entry: &[u8], depth: usize) -> Result<(String, Value)> {
    let (mut key, mut value) = (String::new(), None);
    for member in Fields::new(entry) {
        match member? {
            (1, Raw::Bytes(bytes)) => text(bytes)?.clone_into(&mut key),
            (2, raw) => value = Some(read_value(code, raw, depth + 1)?),
            _ => {}
        }
    }
    Ok((key, value.unwrap_or_else(|| code.zero())))
}

fn layout_of(name: &str) -> Result<&'static [Field]> {
    message(name).ok_or_else(|| Malformed(format!("no layout of {name}").into()))
}

fn read_value(code: &Code, raw: Raw<'_>, depth: usize) -> Result<Value> {
    match (code, raw) {
        (Code::Bool, Raw::Number(number)) => Ok((number != 0).into()),
        // Negative numbers are sent as their 64-bit two's complement, whatever the field's width.
        (Code::Integer, Raw::Number(number)) => Ok(number.cast_signed().into()),
        (Code::Text, Raw::Bytes(bytes)) => Ok(text(bytes)?.into()),
        (Code::Bytes, Raw::Bytes(bytes)) => Ok(base64::engine::general_purpose::STANDARD
            .encode(bytes)
            .into()),
        (Code::Time, Raw::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%SZ"),
        (Code::MicroTime, Raw::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%S%.6fZ"),
        (Code::Quantity, Raw::Bytes(bytes)) => quantity(bytes),
        (Code::IntOrString, Raw::Bytes(bytes)) => int_or_string(bytes),
        (Code::Json, Raw::Bytes(bytes)) => raw_json(bytes),
        (Code::Texts, Raw::Bytes(bytes)) => texts(bytes),
        (Code::Message(name), Raw::Bytes(bytes)) => {
            let mut object = Map::new();
            read_message(&mut object, layout_of(name)?, bytes, depth + 1)?;
            Ok(Value::Object(object))
        }
        _ => malformed("is of another wire type"),
    }
}

/// Whether a value is what its Go type has when nothing was set.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).or_else(|_| malformed("is not UTF-8"))
}

/// `{seconds = 1, nanos = 2}`; an empty one is no time at all.
fn time(bytes: &[u8], format: &str) -> Result<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    for member in Fields::new(bytes) {
        match member? {
            (1, Raw::Number(number)) => seconds = number.cast_signed(),
            (2, Raw::Number(number)) => nanos = number.cast_signed(),
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).or_else(|_| malformed("is not a time"))?;
    let moment = jiff::Timestamp::new(seconds, nanos).or_else(|_| malformed("is not a time"))?;
    Ok(moment.strftime(format).to_string().into())
}

/// `{string = 1}`.
fn quantity(bytes: &[u8]) -> Result<Value> {
    for member in Fields::new(bytes) {
        if let (1, Raw::Bytes(bytes)) = member? {
            return Ok(text(bytes)?.into());
        }
    }
    Ok("0".into())
}

/// `{type = 1, intVal = 2, strVal = 3}`; type 1 is a string.
fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut string) = (false, 0, "");
    for member in Fields::new(bytes) {
        match member? {
            (1, Raw::Number(kind)) => is_text = kind == 1,
            (2, Raw::Number(value)) => number = value.cast_signed(),
            (3, Raw::Bytes(bytes)) => string = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text {
        string.into()
    } else {
        number.into()
    })
}

/// `{raw = 1}`, JSON inside.
fn raw_json(bytes: &[u8]) -> Result<Value> {
    for member in Fields::new(bytes) {
        if let (1, Raw::Bytes(json)) = member? {
            return serde_json::from_slice(json).or_else(|_| malformed("is not JSON inside"));
        }
    }
    Ok(Value::Null)
}

/// `{repeated items = 1}`.
fn texts(bytes: &[u8]) -> Result<Value> {
    let mut items = Vec::new();
    for member in Fields::new(bytes) {
        if let (1, Raw::Bytes(bytes)) = member? {
            items.push(Value::from(text(bytes)?));
        }
    }
    Ok(items.into())
}

#[cfg(test)]
mod tests;
