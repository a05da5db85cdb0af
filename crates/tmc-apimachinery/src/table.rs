//! `Table` answers (`meta.k8s.io/v1`): what `kubectl get` prints.

use serde_json::Value;

/// How a cell is computed.
#[derive(Clone, Debug)]
pub enum Cell {
    /// A JSONPath as in `additionalPrinterColumns` (`.status.phase`).
    JsonPath(String),
    /// A function of the whole object and the time (RFC 3339 seconds since epoch) for built-ins.
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

/// Renders objects as a `Table`. `list_meta` becomes the table's metadata; `headers` false leaves
/// the column definitions empty (all but the first event of a watch).
pub fn table(
    _columns: &[Column],
    _objects: &[Value],
    _list_meta: Value,
    _include: IncludeObject,
    _headers: bool,
    _now: i64,
) -> Value {
    unimplemented!()
}

/// A duration as kubectl prints ages: `45s`, `3m5s`, `2h`, `5d` (`duration.HumanDuration`).
pub fn human_duration(_seconds: i64) -> String {
    unimplemented!()
}
