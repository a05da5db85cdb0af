//! Field paths and the list of what is wrong.

use std::fmt::{self, Display};

use serde_json::Value;
use tmc_apimachinery::status::Cause;

/// Most errors that one object yields: a hostile object must not make a hostile answer.
const MAX_CAUSES: usize = 100;

/// The path of a field, as errors name it: `spec.containers[0].name`.
#[derive(Clone, Debug)]
pub(crate) struct Field(String);

impl Field {
    pub(crate) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        Self(if self.0.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.0)
        })
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with an object.
#[derive(Debug, Default)]
pub(crate) struct Report {
    causes: Vec<Cause>,
}

impl Report {
    pub(crate) fn push(&mut self, cause: Cause) {
        if self.causes.len() < MAX_CAUSES {
            self.causes.push(cause);
        }
    }

    pub(crate) fn extend(&mut self, causes: Vec<Cause>) {
        causes.into_iter().for_each(|cause| self.push(cause));
    }

    pub(crate) fn required(&mut self, field: &Field, why: &str) {
        self.push(Cause::required(field.as_str(), why));
    }

    pub(crate) fn invalid(&mut self, field: &Field, value: impl Into<Value>, why: impl Display) {
        self.push(Cause::invalid(field.as_str(), &value.into(), why));
    }

    /// An error of a field whose value says nothing.
    pub(crate) fn invalid_whole(&mut self, field: &Field, why: &str) {
        self.push(Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!("Invalid value: {why}"),
            field: field.as_str().to_owned(),
        });
    }

    pub(crate) fn forbidden(&mut self, field: &Field, why: impl Display) {
        self.push(Cause::forbidden(field.as_str(), why));
    }

    pub(crate) fn not_supported(&mut self, field: &Field, value: &str, supported: &[&str]) {
        self.push(Cause::not_supported(
            field.as_str(),
            &value.into(),
            supported,
        ));
    }

    pub(crate) fn duplicate(&mut self, field: &Field, value: impl Into<Value>) {
        self.push(Cause::duplicate(field.as_str(), &value.into()));
    }

    pub(crate) fn not_found(&mut self, field: &Field, value: &str) {
        self.push(Cause {
            reason: "FieldValueNotFound".to_owned(),
            message: format!("Not found: {}", Value::from(value)),
            field: field.as_str().to_owned(),
        });
    }

    pub(crate) fn too_long(&mut self, field: &Field, bytes: usize) {
        self.push(Cause {
            reason: "FieldValueTooLong".to_owned(),
            message: format!("Too long: may not be more than {bytes} bytes"),
            field: field.as_str().to_owned(),
        });
    }

    /// How much was found so far.
    pub(crate) fn len(&self) -> usize {
        self.causes.len()
    }

    pub(crate) fn into_causes(self) -> Vec<Cause> {
        self.causes
    }
}
