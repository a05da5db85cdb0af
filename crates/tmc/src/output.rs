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

/// What a command that changes one thing prints: its sentence as a table, else the object.
///
/// # Errors
/// When the object cannot be printed as YAML.
pub fn outcome(format: Format, object: &Value, sentence: String) -> Result<String> {
    match format {
        Format::Table => Ok(sentence),
        Format::Json => Ok(serde_json::to_string_pretty(object)?),
        Format::Yaml => serde_saphyr::to_string(object).context("cannot be written as YAML"),
        Format::Name => objects(format, std::slice::from_ref(object), &[], |_| Vec::new()),
    }
}

/// Says on stderr what is being done.
pub fn step(tag: &str, text: impl std::fmt::Display) {
    eprintln!("[{tag}] {text}");
}

/// A string in an object, empty if absent.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A string for a cell, `-` if absent or empty.
pub fn cell(object: &Value, pointer: &str) -> String {
    match text(object, pointer) {
        "" => "-".to_owned(),
        found => found.to_owned(),
    }
}

/// The elements of a list in an object, none if absent.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A time in an object.
pub fn time(object: &Value, pointer: &str) -> Option<jiff::Timestamp> {
    text(object, pointer).parse().ok()
}

/// A condition by its type.
pub fn find_condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Status of a condition, `Unknown` if absent.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    find_condition(object, kind)
        .and_then(|c| c["status"].as_str())
        .unwrap_or("Unknown")
}

/// Reason and message of a condition that is not True, for sentences.
pub fn why(object: &Value, kind: &str) -> String {
    match find_condition(object, kind) {
        None => format!("no condition {kind} yet"),
        Some(condition) => reason_and_message(condition),
    }
}

/// `Reason: message` of a condition, or the one of both that there is.
pub fn reason_and_message(condition: &Value) -> String {
    match (text(condition, "/reason"), text(condition, "/message")) {
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// A message without the remedy at its end (`…; see: tmc get targets`), for where another is given.
pub fn without_remedy(message: &str) -> &str {
    match message.rsplit_once("; ") {
        Some((said, remedy)) if remedy.contains("tmc ") => said,
        _ => message,
    }
}

/// `Reason: message` of a condition, without the remedy at its end.
pub fn reason_without_remedy(condition: &Value) -> String {
    let said = without_remedy(text(condition, "/message")).to_owned();
    reason_and_message(&json!({"reason": condition["reason"], "message": said}))
}

/// Why something was not reached, without the layers that were passed on the way.
pub fn cause(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.replace("client error (Connect): ", "")
        .replace("ServiceError: ", "")
}

/// How long ago a moment was, as kubectl says it.
pub fn ago(at: jiff::Timestamp, now: jiff::Timestamp) -> String {
    tmc_apimachinery::table::human_duration(now.duration_since(at).as_secs())
}

/// Age of an object, `<unknown>` without a creation time.
pub fn age(object: &Value) -> String {
    time(object, "/metadata/creationTimestamp").map_or_else(
        || "<unknown>".to_owned(),
        |at| ago(at, jiff::Timestamp::now()),
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
    fn a_remedy_at_the_end_of_a_message_can_be_left_out() {
        for (message, said) in [
            (
                "no SyncTarget is fit: 1 not Ready; see: tmc get targets",
                "no SyncTarget is fit: 1 not Ready",
            ),
            ("one thing; another", "one thing; another"),
            ("", ""),
        ] {
            assert_eq!(without_remedy(message), said);
        }
        let condition = json!({"reason": "R", "message": "m; run: tmc x"});
        assert_eq!(reason_without_remedy(&condition), "R: m");
    }

    #[test]
    fn a_cause_is_what_went_wrong_in_the_end() {
        let layers =
            "client error (Connect): client error (Connect): Connection refused (os error 111)";
        assert_eq!(cause(layers), "Connection refused (os error 111)");
    }

    #[test]
    fn an_absent_condition_is_unknown() {
        assert_eq!(condition(&json!({}), "Ready"), "Unknown");
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(condition(&ready, "Ready"), "True");
    }
}
