//! Field selectors (`k8s.io/apimachinery/pkg/fields`).

use std::fmt;
use std::str::FromStr;

use crate::status::{ApiError, Result};

/// A parsed field selector: `metadata.name=web,status.phase!=Running`; default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldTerm {
    /// Dotted path.
    pub path: String,
    /// Value compared with, unescaped.
    pub value: String,
    /// True for `=`, false for `!=`.
    pub equal: bool,
}

impl FieldSelector {
    /// Reads the query form (`=`, `==`, `!=`, with `\` escapes). Empty terms, also a lone `=`, are
    /// skipped.
    ///
    /// # Errors
    /// 400 quoting the part that cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let terms = split_terms(text).into_iter().filter(|t| !t.is_empty());
        let terms: Vec<_> = terms
            .map(|term| read_term(text, term))
            .collect::<Result<_>>()?;
        let is_empty = |term: &FieldTerm| term.path.is_empty() && term.value.is_empty();
        Ok(terms.into_iter().filter(|t| !is_empty(t)).collect())
    }

    /// The selector of the object with a name.
    pub fn name(name: &str) -> Self {
        let path = "metadata.name".to_owned();
        Self {
            terms: vec![FieldTerm {
                path,
                value: name.to_owned(),
                equal: true,
            }],
        }
    }

    /// The terms (AND), sorted by path.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The name that `metadata.name=…` requires, if it does.
    pub fn required_name(&self) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| t.equal && t.path == "metadata.name")
            .map(|t| &*t.value)
    }

    /// Refuses paths that the resource does not offer; `metadata.name` and `metadata.namespace`
    /// always are.
    ///
    /// # Errors
    /// 400 `field label not supported: <path>`.
    pub fn check_supported(&self, selectable: &[String]) -> Result<()> {
        let offered = |path: &str| {
            matches!(path, "metadata.name" | "metadata.namespace")
                || selectable.iter().any(|s| s == path)
        };
        match self.terms.iter().find(|t| !offered(&t.path)) {
            None => Ok(()),
            Some(term) => Err(ApiError::bad_request(format!(
                "field label not supported: {}",
                term.path
            ))),
        }
    }

    /// Evaluates with `field(path)` giving the object's value as text (absent counts as empty).
    pub fn matches(&self, field: impl Fn(&str) -> String) -> bool {
        self.terms
            .iter()
            .all(|t| (field(&t.path) == t.value) == t.equal)
    }
}

impl FromIterator<FieldTerm> for FieldSelector {
    fn from_iter<I: IntoIterator<Item = FieldTerm>>(terms: I) -> Self {
        let mut terms: Vec<_> = terms.into_iter().collect();
        terms.sort_unstable();
        Self { terms }
    }
}

impl FromStr for FieldSelector {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// The query form, with escapes.
impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let operator = if term.equal { "=" } else { "!=" };
            write!(f, "{}{operator}{}", term.path, escape(&term.value))?;
        }
        Ok(())
    }
}

/// A value with `\`, `,` and `=` escaped, as it stands in a field selector.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The parts between commas that are not escaped, escapes kept.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn read_term(selector: &str, term: &str) -> Result<FieldTerm> {
    // Paths know no escapes: the first operator splits. `==` before `=`, lest a `=` be left over.
    let split = term.char_indices().find_map(|(at, _)| {
        let rest = &term[at..];
        let operator = ["!=", "==", "="]
            .into_iter()
            .find(|o| rest.starts_with(o))?;
        Some((&term[..at], operator, &rest[operator.len()..]))
    });
    let Some((path, operator, value)) = split else {
        return Err(ApiError::bad_request(format!(
            "invalid selector: '{selector}'; can't understand '{term}'"
        )));
    };
    Ok(FieldTerm {
        path: path.to_owned(),
        value: unescape(value)?,
        equal: operator != "!=",
    })
}

fn unescape(text: &str) -> Result<String> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let fault = match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => {
                    value.push(escaped);
                    continue;
                }
                Some(other) => format!("invalid escape sequence: \\{other}"),
                None => "invalid escape sequence: \\".to_owned(),
            },
            ',' | '=' => format!("unescaped character in value: {c}"),
            c => {
                value.push(c);
                continue;
            }
        };
        return Err(ApiError::bad_request(format!(
            "invalid field selector: {fault}"
        )));
    }
    Ok(value)
}
