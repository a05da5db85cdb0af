//! The layout of each message, from the embedded table.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

/// How a value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Text,
    Bool,
    Integer,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON in bytes.
    Json,
    /// A list of texts that is a message of its own.
    Texts,
    Message(&'static str),
}

impl Code {
    fn parse(text: &'static str) -> Option<Self> {
        Some(match text {
            "s" => Self::Text,
            "b" => Self::Bool,
            "i" => Self::Integer,
            "y" => Self::Bytes,
            "T" => Self::Time,
            "U" => Self::MicroTime,
            "Q" => Self::Quantity,
            "I" => Self::IntOrString,
            "R" => Self::Json,
            "L" => Self::Texts,
            name => Self::Message(name.strip_prefix('@')?),
        })
    }

    /// The value of a map entry without one.
    pub(super) fn zero(self) -> Value {
        match self {
            Self::Text | Self::Bytes => "".into(),
            Self::Quantity => "0".into(),
            Self::Bool => false.into(),
            Self::Integer | Self::IntOrString => 0.into(),
            Self::Texts => Vec::<Value>::new().into(),
            Self::Time | Self::MicroTime | Self::Json => Value::Null,
            Self::Message(_) => Value::Object(serde_json::Map::new()),
        }
    }
}

/// How often a field occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Map,
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u32,
    /// JSON name; empty if the members of the message are inlined.
    pub(super) name: &'static str,
    pub(super) code: Code,
    pub(super) shape: Shape,
    /// The encoder cannot tell zero from absent here, and JSON leaves it out.
    pub(super) omit_zero: bool,
}

impl Field {
    /// `number:name:code` with marks, see the table's head.
    fn parse(text: &'static str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let number = parts.next()?.parse().ok()?;
        let name = parts.next()?;
        let code = parts.next()?;
        let (code, omit_zero) = code
            .strip_suffix('-')
            .map_or((code, false), |code| (code, true));
        let (code, shape) = if let Some(code) = code.strip_suffix('*') {
            (code, Shape::List)
        } else if let Some(code) = code.strip_suffix('%') {
            (code, Shape::Map)
        } else {
            (code, Shape::One)
        };
        Some(Self {
            number,
            name,
            code: Code::parse(code)?,
            shape,
            omit_zero,
        })
    }
}

static TABLE: &str = include_str!("kubernetes.txt");

/// Read at the first use: a hub that never meets a typed client does not pay for it.
static MESSAGES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
            let fields = fields
                .split_whitespace()
                .map(Field::parse)
                .collect::<Option<_>>()?;
            Some((name, fields))
        })
        .collect()
});

/// The fields of a message, by `apiVersion.Kind`.
pub(super) fn message(name: &str) -> Option<&'static [Field]> {
    MESSAGES.get(name).map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read_and_every_reference_leads_somewhere() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert!(lines > 300);
        assert_eq!(MESSAGES.len(), lines);
        for (name, fields) in MESSAGES.iter() {
            for field in fields {
                if let Code::Message(other) = field.code {
                    assert!(MESSAGES.contains_key(other), "{name} refers to {other}");
                }
            }
        }
    }
}
