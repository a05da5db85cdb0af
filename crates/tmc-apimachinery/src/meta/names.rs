//! The rules for names, label keys and label values, with Kubernetes' wording.

use serde_json::Value;

use crate::definition::NameRule;
use crate::status::Cause;

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
/// Characters that a generated name appends to `generateName`.
const SUFFIX_LENGTH: usize = 5;

const LABEL_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_FORMAT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const KEY_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const VALUE_FORMAT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Errors of a name under a rule, with Kubernetes' wording; `field` is `metadata.name`.
pub fn validate_name(field: &str, name: &str, rule: NameRule) -> Vec<Cause> {
    if name.is_empty() {
        return vec![Cause::required(field, "name or generateName is required")];
    }
    causes(field, name, name_faults(name, rule))
}

/// Errors of `metadata.generateName` under a rule: a trailing `-` is fine, since a suffix follows.
pub fn validate_generate_name(field: &str, prefix: &str, rule: NameRule) -> Vec<Cause> {
    let faults = match rule {
        NameRule::PathSegment => segment_faults(prefix),
        _ => name_faults(prefix.strip_suffix('-').unwrap_or(prefix), rule),
    };
    causes(field, prefix, faults)
}

/// The name made of a `generateName` prefix and a random suffix: the prefix is cut so that the
/// whole stays within 63 bytes when the suffix has Kubernetes' length of 5.
pub fn generated_name(prefix: &str, suffix: &str) -> String {
    let mut end = prefix.len().min(LABEL_MAX - SUFFIX_LENGTH);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &prefix[..end])
}

/// Errors of a qualified name (`prefix/name`), as used for label keys and taint keys.
pub fn validate_qualified_name(field: &str, key: &str) -> Vec<Cause> {
    causes(field, key, qualified_name_faults(key))
}

/// Errors of a label value.
pub fn validate_label_value(field: &str, text: &str) -> Vec<Cause> {
    causes(field, text, label_value_faults(text))
}

fn causes(field: &str, value: &str, faults: Vec<String>) -> Vec<Cause> {
    let value = Value::from(value);
    faults
        .into_iter()
        .map(|fault| Cause::invalid(field, &value, fault))
        .collect()
}

fn name_faults(name: &str, rule: NameRule) -> Vec<String> {
    match rule {
        NameRule::Subdomain => subdomain_faults(name),
        NameRule::Label => label_faults(name),
        NameRule::Dns1035 => dns1035_faults(name),
        NameRule::PathSegment if name == "." || name == ".." => {
            vec![format!("may not be '{name}'")]
        }
        NameRule::PathSegment => segment_faults(name),
    }
}

fn subdomain_faults(name: &str) -> Vec<String> {
    let mut faults = too_long(name, SUBDOMAIN_MAX);
    if !is_subdomain(name) {
        faults.push(format_fault(
            SUBDOMAIN_TEXT,
            SUBDOMAIN_FORMAT,
            &["example.com"],
        ));
    }
    faults
}

fn label_faults(name: &str) -> Vec<String> {
    let mut faults = too_long(name, LABEL_MAX);
    if !is_label(name) {
        faults.push(if is_subdomain(name) {
            "must not contain dots".into()
        } else {
            format_fault(LABEL_TEXT, LABEL_FORMAT, &["my-name", "123-abc"])
        });
    }
    faults
}

fn dns1035_faults(name: &str) -> Vec<String> {
    let mut faults = too_long(name, LABEL_MAX);
    if !is_label(name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        faults.push(format_fault(
            DNS1035_TEXT,
            DNS1035_FORMAT,
            &["my-name", "abc-123"],
        ));
    }
    faults
}

fn segment_faults(name: &str) -> Vec<String> {
    let banned = ['/', '%'].into_iter().filter(|c| name.contains(*c));
    banned.map(|c| format!("may not contain '{c}'")).collect()
}

pub(crate) fn qualified_name_faults(key: &str) -> Vec<String> {
    let examples = ["MyName", "my.name", "123-abc"];
    let mut faults = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            let fault = format_fault(KEY_TEXT, KEY_FORMAT, &examples);
            return vec![format!(
                "a valid label key {fault} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            faults.push("prefix part must be non-empty".into());
            name
        }
        Some((prefix, name)) => {
            faults.extend(
                subdomain_faults(prefix)
                    .iter()
                    .map(|f| format!("prefix part {f}")),
            );
            name
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".into());
    }
    faults.extend(
        too_long(name, LABEL_MAX)
            .iter()
            .map(|f| format!("name part {f}")),
    );
    if !is_label_text(name) {
        faults.push(format!(
            "name part {}",
            format_fault(KEY_TEXT, KEY_FORMAT, &examples)
        ));
    }
    faults
}

pub(crate) fn label_value_faults(text: &str) -> Vec<String> {
    let mut faults = too_long(text, LABEL_MAX);
    if !text.is_empty() && !is_label_text(text) {
        faults.push(format_fault(
            VALUE_TEXT,
            VALUE_FORMAT,
            &["MyValue", "my_value", "12345"],
        ));
    }
    faults
}

fn too_long(text: &str, max: usize) -> Vec<String> {
    let fault = (text.len() > max).then(|| format!("must be no more than {max} bytes"));
    fault.into_iter().collect()
}

fn format_fault(text: &str, format: &str, examples: &[&str]) -> String {
    let examples = examples
        .iter()
        .map(|e| format!("'{e}'"))
        .collect::<Vec<_>>()
        .join(",  or ");
    format!("{text} (e.g. {examples}, regex used for validation is '{format}')")
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, without the length limit.
fn is_label(text: &str) -> bool {
    crate::names::is_path_segment(text)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`.
fn is_label_text(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner)
}
