//! `Table` answers (`meta.k8s.io/v1`): what `kubectl get` prints.

mod json_path;

use serde_json::{Map, Value, json};

pub use json_path::{JsonPath, JsonPathError};

/// How a cell is computed.
#[derive(Clone, Debug)]
pub enum Cell {
    /// A JSONPath as in `additionalPrinterColumns` (`.status.phase`).
    JsonPath(String),
    /// A function of the whole object and the time (seconds since epoch) for built-ins.
    Function(fn(&Value, now: i64) -> Value),
}

/// One printer column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Header, `Ready`.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: String,
    /// OpenAPI format, may be empty.
    pub format: String,
    /// Sentence for `kubectl explain`-like clients.
    pub description: String,
    /// 0 is always shown, above only with `-o wide`.
    pub priority: i32,
    /// How the cell is made.
    pub cell: Cell,
}

/// What part of each object a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// `PartialObjectMetadata` (the default).
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

impl Column {
    /// `Name`, which starts every table.
    pub fn object_name() -> Self {
        Self {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            description: NAME.into(),
            priority: 0,
            cell: Cell::JsonPath(".metadata.name".into()),
        }
    }

    /// `Age`, as kube-apiserver gives it to custom resources without columns.
    pub fn age() -> Self {
        Self {
            name: "Age".into(),
            kind: "date".into(),
            format: String::new(),
            description: CREATED.into(),
            priority: 0,
            cell: Cell::JsonPath(".metadata.creationTimestamp".into()),
        }
    }

    fn definition(&self) -> Value {
        let description = match &self.cell {
            Cell::JsonPath(path) if self.description.is_empty() => {
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            _ => self.description.clone(),
        };
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": description, "priority": self.priority,
        })
    }
}

/// Renders objects as a `Table`. `list_meta` becomes the table's metadata; `headers` false leaves
/// the column definitions out (all but the first event of a watch). `now` is in seconds since the
/// epoch.
///
/// The first column is always `Name`; a definition without columns gets `Age` beside it, one with
/// columns gets exactly those, as from kube-apiserver. A path that cannot be parsed or finds
/// nothing makes an empty cell.
pub fn table(
    columns: &[Column],
    objects: &[Value],
    list_meta: Value,
    include: IncludeObject,
    headers: bool,
    now: i64,
) -> Value {
    let columns = complete(columns);
    let definitions = match headers {
        true => Value::Array(columns.iter().map(Column::definition).collect()),
        false => Value::Null,
    };
    let makers: Vec<Maker<'_>> = columns.iter().map(Maker::new).collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = makers.iter().map(|maker| maker.cell(object, now)).collect();
            json!({"cells": cells, "object": included(object, include)})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// The columns with `Name` first, and with `Age` if there are none.
fn complete(columns: &[Column]) -> Vec<Column> {
    let named = columns
        .iter()
        .any(|c| c.name == "Name" && (c.format == "name" || c.name == columns[0].name));
    let first = (!named).then(Column::object_name);
    let last = columns.is_empty().then(Column::age);
    first
        .into_iter()
        .chain(columns.iter().cloned())
        .chain(last)
        .collect()
}

/// An object as a row carries it. The bookmark that ends initial events keeps its metadata even
/// when nothing was asked for, since clients look for its annotation.
fn included(object: &Value, include: IncludeObject) -> Value {
    match include {
        IncludeObject::Object => object.clone(),
        IncludeObject::None if !ends_initial_events(object) => Value::Null,
        IncludeObject::None | IncludeObject::Metadata => partial_metadata(object),
    }
}

fn ends_initial_events(object: &Value) -> bool {
    let annotation = object.pointer("/metadata/annotations/k8s.io~1initial-events-end");
    annotation.is_some_and(|value| value == "true")
}

/// An object as `PartialObjectMetadata` (`meta.k8s.io/v1`).
pub fn partial_metadata(object: &Value) -> Value {
    let metadata = object
        .get("metadata")
        .cloned()
        .unwrap_or_else(|| Value::Object(Map::new()));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// A column made ready for many objects.
struct Maker<'c> {
    column: &'c Column,
    path: Option<JsonPath>,
}

impl<'c> Maker<'c> {
    fn new(column: &'c Column) -> Self {
        let path = match &column.cell {
            Cell::JsonPath(path) => JsonPath::parse(path).ok(),
            Cell::Function(_) => None,
        };
        Self { column, path }
    }

    fn cell(&self, object: &Value, now: i64) -> Value {
        if let Cell::Function(make) = self.column.cell {
            return make(object, now);
        }
        let found = self.path.as_ref().and_then(|path| path.first(object));
        found.map_or(Value::Null, |value| convert(&self.column.kind, value, now))
    }
}

/// A value as a cell of a column's type; null where it does not fit.
fn convert(kind: &str, value: &Value, now: i64) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(n)) => n
            .as_i64()
            .or_else(|| n.as_f64().map(|f| f as i64))
            .map_or(Value::Null, Value::from),
        ("number", Value::Number(n)) => n.as_f64().map_or(Value::Null, Value::from),
        ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => age(text, now).into(),
        _ => Value::Null,
    }
}

/// The time since an RFC 3339 timestamp, as tables show it: `<unknown>` for an empty text,
/// `<invalid>` for what is no timestamp or lies in the future.
pub fn age(timestamp: &str, now: i64) -> String {
    if timestamp.is_empty() {
        return "<unknown>".into();
    }
    match timestamp.parse::<jiff::Timestamp>() {
        Ok(then) => human_duration(now.saturating_sub(then.as_second())),
        Err(_) => "<invalid>".into(),
    }
}

/// A duration as kubectl prints ages: `45s`, `3m5s`, `2h`, `5d` (`duration.HumanDuration`). Up to
/// a second into the future is now; beyond, `<invalid>`.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let with_rest = |unit: i64, name: &str, rest: i64, rest_name: &str| {
        let (whole, left) = (seconds / unit, seconds % unit / rest);
        if left == 0 {
            format!("{whole}{name}")
        } else {
            format!("{whole}{name}{left}{rest_name}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        s if s < 10 * MINUTE => with_rest(MINUTE, "m", 1, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => with_rest(HOUR, "h", MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => with_rest(DAY, "d", HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => with_rest(YEAR, "y", DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        let (hour, day, year) = (3600_i64, 86_400, 31_536_000);
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * hour - 1, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 60, "3h1m"),
            (8 * hour - 1, "7h59m"),
            (8 * hour, "8h"),
            (48 * hour - 1, "47h"),
            (2 * day, "2d"),
            (2 * day + hour, "2d1h"),
            (8 * day - 1, "7d23h"),
            (8 * day, "8d"),
            (2 * year - 1, "729d"),
            (2 * year, "2y"),
            (2 * year + day, "2y1d"),
            (8 * year - 1, "7y364d"),
            (8 * year, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn ages_are_counted_from_timestamps() {
        let now = 1_704_067_200; // 2024-01-01T00:00:00Z
        assert_eq!(age("2023-12-31T23:59:15Z", now), "45s");
        assert_eq!(age("2024-01-01T02:00:00+02:00", now), "0s");
        assert_eq!(age("2025-01-01T00:00:00Z", now), "<invalid>");
        assert_eq!(age("yesterday", now), "<invalid>");
        assert_eq!(age("", now), "<unknown>");
    }

    fn column(name: &str, kind: &str, path: &str) -> Column {
        Column {
            name: name.into(),
            kind: kind.into(),
            format: String::new(),
            description: String::new(),
            priority: 1,
            cell: Cell::JsonPath(path.into()),
        }
    }

    fn object() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Thing",
            "metadata": {"name": "one", "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"n": 3, "f": 1.5, "b": true, "s": "x", "l": ["a", {"k": 1}]},
        })
    }

    #[test]
    fn a_definition_without_columns_shows_name_and_age() {
        let table = table(
            &[],
            &[object()],
            json!({"resourceVersion": "7"}),
            IncludeObject::Metadata,
            true,
            1_704_067_200 + 185,
        );
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["metadata"], json!({"resourceVersion": "7"}));
        let headers = table["columnDefinitions"].as_array().expect("list");
        assert_eq!(
            (&headers[0]["name"], &headers[0]["format"]),
            (&json!("Name"), &json!("name"))
        );
        assert_eq!(
            (&headers[1]["name"], &headers[1]["type"]),
            (&json!("Age"), &json!("date"))
        );
        assert_eq!(
            table["rows"],
            json!([{
                "cells": ["one", "3m5s"],
                "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"name": "one", "creationTimestamp": "2024-01-01T00:00:00Z"},
                },
            }])
        );
    }

    #[test]
    fn cells_take_the_type_of_their_column() {
        let made = |kind: &str, path: &str| {
            let columns = [column("C", kind, path)];
            let list = json!({});
            table(&columns, &[object()], list, IncludeObject::None, true, 0)["rows"][0]["cells"][1]
                .clone()
        };
        for (kind, path, expected) in [
            ("string", ".spec.s", json!("x")),
            ("string", ".spec.n", json!("3")),
            ("string", ".spec.l", json!("[\"a\",{\"k\":1}]")),
            ("string", ".spec.l[*]", json!("a")),
            ("integer", ".spec.n", json!(3)),
            ("integer", ".spec.f", json!(1)),
            ("integer", ".spec.s", json!(null)),
            ("number", ".spec.n", json!(3.0)),
            ("boolean", ".spec.b", json!(true)),
            ("date", ".spec.s", json!("<invalid>")),
            ("date", ".spec.n", json!(null)),
            ("string", ".spec.none", json!(null)),
            ("string", "not a path", json!(null)),
        ] {
            assert_eq!(made(kind, path), expected, "{kind} {path}");
        }
    }

    #[test]
    fn rows_carry_what_was_asked_for() {
        let object = object();
        let one = |include, headers| {
            table(
                &[Column::object_name()],
                std::slice::from_ref(&object),
                json!({}),
                include,
                headers,
                0,
            )
        };
        assert_eq!(
            one(IncludeObject::Object, true)["rows"][0]["object"],
            object
        );
        let none = one(IncludeObject::None, false);
        assert_eq!(none["rows"], json!([{"cells": ["one"], "object": null}]));
        assert_eq!(none["columnDefinitions"], json!(null));
        let bookmark = json!({"metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}});
        let rows = table(
            &[],
            std::slice::from_ref(&bookmark),
            json!({}),
            IncludeObject::None,
            true,
            0,
        );
        assert_eq!(rows["rows"][0]["object"]["metadata"], bookmark["metadata"]);
    }

    #[test]
    fn columns_describe_themselves_and_functions_see_the_clock() {
        let mut made = column("N", "integer", ".spec.n");
        assert_eq!(
            made.definition(),
            json!({"name": "N", "type": "integer", "format": "", "priority": 1,
                   "description": "Custom resource definition column (in JSONPath format): .spec.n"})
        );
        made.description = "How many".into();
        made.cell =
            Cell::Function(|object, now| json!(object["spec"]["n"].as_i64().unwrap_or(0) + now));
        assert_eq!(made.definition()["description"], "How many");
        let rows = table(
            &[made],
            &[object()],
            json!({}),
            IncludeObject::None,
            true,
            4,
        );
        assert_eq!(rows["rows"][0]["cells"], json!(["one", 7]));
    }
}
