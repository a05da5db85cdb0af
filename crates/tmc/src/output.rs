//! What a person or a script sees: data on stdout, progress on stderr.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;

use crate::cli::Format;

/// Rows under headers, without borders, as kubectl prints them.
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
    let lines = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        lines()
            .map(|l| l.get(column).map_or(0, |c| c.chars().count()))
            .max()
    };
    let widths: Vec<usize> = (0..headers.len()).map(|c| width(c).unwrap_or(0)).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Prints objects in the format asked for; `rows` makes the table.
///
/// # Errors
/// When an object cannot be printed as YAML.
pub fn objects(
    format: Format,
    objects: &[Value],
    headers: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> Result<String> {
    let list = || json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects});
    Ok(match format {
        Format::Table => table(headers, &objects.iter().map(row).collect::<Vec<_>>()),
        Format::Json => serde_json::to_string_pretty(&list())?,
        Format::Yaml => serde_saphyr::to_string(&list()).context("cannot be written as YAML")?,
        Format::Name => {
            let names = objects.iter().map(|object| {
                let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
                format!("{kind}/{}", meta(object).name())
            });
            names.collect::<Vec<_>>().join("\n")
        }
    })
}

/// Status of a condition, `Unknown` if absent.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let found = conditions.and_then(|list| list.iter().find(|c| c["type"] == kind));
    found
        .and_then(|c| c["status"].as_str())
        .unwrap_or("Unknown")
}

/// Reason and message of a condition that is not True, for sentences.
pub fn why(object: &Value, kind: &str) -> String {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let found = conditions.and_then(|list| list.iter().find(|c| c["type"] == kind));
    match found {
        None => format!("no condition {kind} yet"),
        Some(condition) => {
            let text = |key: &str| condition[key].as_str().unwrap_or_default();
            format!("{}: {}", text("reason"), text("message"))
        }
    }
}

/// Age of an object, `<unknown>` without a creation time.
pub fn age(object: &Value) -> String {
    let created = object["metadata"]["creationTimestamp"].as_str();
    let created = created.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    created.map_or_else(
        || "<unknown>".to_owned(),
        |at| {
            let seconds = jiff::Timestamp::now().duration_since(at).as_secs();
            tmc_apimachinery::table::human_duration(seconds)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_borders_and_no_trailing_blanks() {
        let text = table(&["NAME", "READY"], &[vec!["one".into(), "True".into()]]);
        assert_eq!(text, "NAME   READY\none    True");
    }

    #[test]
    fn an_absent_condition_is_unknown() {
        assert_eq!(condition(&json!({}), "Ready"), "Unknown");
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(condition(&ready, "Ready"), "True");
    }
}
