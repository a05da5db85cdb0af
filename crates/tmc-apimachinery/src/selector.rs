//! Label and field selectors, as text (`a=b,c in (d,e)`), as objects, and evaluated.
//!
//! Both kinds are kept in canonical order, so equal selections written in a different order compare
//! and hash alike and print the same text.

mod field;
mod object;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

pub use field::{FieldSelector, FieldTerm};

use crate::meta::meta;
use crate::status::{ApiError, Cause, Result};

/// A parsed label selector; the default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Condition on its value.
    pub operator: Operator,
}

/// Condition on a label (`labels.Requirement`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Present with one of the values.
    In(Vec<String>),
    /// Absent, or present with another value.
    NotIn(Vec<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// Integer greater than.
    GreaterThan(i64),
    /// Integer less than.
    LessThan(i64),
}

impl LabelSelector {
    /// Reads the query form with Kubernetes' grammar.
    ///
    /// # Errors
    /// 400 quoting the part that cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let requirements = parse::requirements(text).map_err(ApiError::bad_request)?;
        Ok(requirements.into_iter().collect())
    }

    /// Reads the object form (`matchLabels`, `matchExpressions`) of `meta/v1` LabelSelector.
    /// A null/absent selector must be handled by the caller: it selects nothing or everything
    /// depending on the API; `{}` selects everything.
    ///
    /// # Errors
    /// 400 naming the field (`matchExpressions[0].operator`).
    pub fn from_object(selector: &Value) -> Result<Self> {
        object::read(selector).map_err(|causes| {
            let faults = causes.iter().map(|c| {
                let field = c.field.trim_start_matches('.');
                let gap = if field.is_empty() { "" } else { ": " };
                format!("{field}{gap}{}", c.message)
            });
            let faults = faults.collect::<Vec<_>>().join("; ");
            let mut error = ApiError::bad_request(format!("invalid label selector: {faults}"));
            error.causes = causes;
            error
        })
    }

    /// Errors of the object form at `field` (`spec.selector`), with Kubernetes' wording; for
    /// validating objects that hold a selector.
    pub fn validate_object(field: &str, selector: &Value) -> Vec<Cause> {
        let mut causes = object::read(selector).err().unwrap_or_default();
        for cause in &mut causes {
            cause.field.insert_str(0, field);
        }
        causes
    }

    /// Whether labels satisfy every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Whether the labels of an object satisfy every requirement.
    pub fn matches_object(&self, object: &Value) -> bool {
        let meta = meta(object);
        self.matches_by(|key| meta.label(key))
    }

    /// Whether labels, looked up by key, satisfy every requirement.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|r| r.operator.accepts(label(&r.key)))
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Adds a requirement (AND).
    #[must_use]
    pub fn with(mut self, requirement: Requirement) -> Self {
        let at = self
            .requirements
            .partition_point(|r| r.key <= requirement.key);
        self.requirements.insert(at, requirement.canonical());
        self
    }

    /// The selector that requires both this and another (AND).
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        self.requirements
            .into_iter()
            .chain(other.requirements.iter().cloned())
            .collect()
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The value that a label must have, if exactly one is allowed.
    pub fn required_value(&self, key: &str) -> Option<&str> {
        self.requirements
            .iter()
            .filter(|r| r.key == key)
            .find_map(|r| match &r.operator {
                Operator::In(values) if values.len() == 1 => Some(values[0].as_str()),
                _ => None,
            })
    }
}

impl FromIterator<Requirement> for LabelSelector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        let mut requirements: Vec<_> = requirements
            .into_iter()
            .map(Requirement::canonical)
            .collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements }
    }
}

impl FromStr for LabelSelector {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl Requirement {
    /// The label must have this value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self {
            key: key.into(),
            operator: Operator::In(vec![value.into()]),
        }
    }

    /// The label must be present.
    pub fn exists(key: &str) -> Self {
        Self {
            key: key.into(),
            operator: Operator::Exists,
        }
    }

    /// With sorted values, each once.
    fn canonical(mut self) -> Self {
        if let Operator::In(values) | Operator::NotIn(values) = &mut self.operator {
            values.sort_unstable();
            values.dedup();
        }
        self
    }
}

impl Operator {
    fn accepts(&self, label: Option<&str>) -> bool {
        let number = || label.and_then(|l| l.parse::<i64>().ok());
        match self {
            Self::In(values) => label.is_some_and(|l| values.iter().any(|v| v == l)),
            Self::NotIn(values) => label.is_none_or(|l| values.iter().all(|v| v != l)),
            Self::Exists => label.is_some(),
            Self::DoesNotExist => label.is_none(),
            Self::GreaterThan(bound) => number().is_some_and(|n| n > *bound),
            Self::LessThan(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

/// The query form, canonical: sorted by key, values sorted, `=` and `!=` for a single value.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            Operator::In(values) => write_values(f, key, values, "=", "in"),
            Operator::NotIn(values) => write_values(f, key, values, "!=", "notin"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

fn write_values(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    values: &[String],
    one: &str,
    many: &str,
) -> fmt::Result {
    match values {
        [value] => write!(f, "{key}{one}{value}"),
        values => write!(f, "{key} {many} ({})", values.join(",")),
    }
}

#[cfg(test)]
mod tests;
