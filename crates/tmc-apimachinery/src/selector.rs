//! Label and field selectors, as text (`a=b,c in (d,e)`), as objects, and evaluated.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::status::Result;

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
    pub fn parse(_text: &str) -> Result<Self> {
        unimplemented!()
    }

    /// Reads the object form (`matchLabels`, `matchExpressions`) of `meta/v1` LabelSelector.
    /// A null/absent selector must be handled by the caller: it selects nothing or everything
    /// depending on the API; `{}` selects everything.
    ///
    /// # Errors
    /// 400 naming the field (`matchExpressions[0].operator`).
    pub fn from_object(_selector: &Value) -> Result<Self> {
        unimplemented!()
    }

    /// Whether labels satisfy every requirement.
    pub fn matches(&self, _labels: &BTreeMap<String, String>) -> bool {
        unimplemented!()
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Adds a requirement (AND).
    #[must_use]
    pub fn with(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        self
    }

    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        unimplemented!()
    }
}

/// A parsed field selector: `metadata.name=web,status.phase!=Running`; default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// Dotted path.
    pub path: String,
    /// Value compared with, unescaped.
    pub value: String,
    /// True for `=`, false for `!=`.
    pub equal: bool,
}

impl FieldSelector {
    /// Reads the query form (`=`, `==`, `!=`, with `\` escapes).
    ///
    /// # Errors
    /// 400 quoting the part that cannot be read.
    pub fn parse(_text: &str) -> Result<Self> {
        unimplemented!()
    }

    /// The terms (AND).
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The name that `metadata.name=…` requires, if it does.
    pub fn required_name(&self) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.path == "metadata.name").map(|t| &*t.value)
    }

    /// Refuses paths that the resource does not offer.
    ///
    /// # Errors
    /// 400 `field label not supported: <path>`.
    pub fn check_supported(&self, _selectable: &[String]) -> Result<()> {
        unimplemented!()
    }

    /// Evaluates with `field(path)` giving the object's value as text (absent counts as empty).
    pub fn matches(&self, _field: impl Fn(&str) -> String) -> bool {
        unimplemented!()
    }
}
