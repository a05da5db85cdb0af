//! Options of reads and writes (`meta/v1` `ListOptions`, `CreateOptions`, …), from query strings.
//!
//! As in Kubernetes, parameters that are not known are ignored, the first of several values counts,
//! and a boolean is false only if it is `false` (in any case) or `0`.

use serde_json::{Value, json};

use crate::meta::validate_field_manager;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::{ApiError, Cause, Result};

/// How a `resourceVersion` on a list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// At least as new as the version given.
    NotOlderThan,
    /// Exactly the version given.
    Exact,
}

/// Options of list and watch.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Label selector.
    pub labels: LabelSelector,
    /// Field selector.
    pub fields: FieldSelector,
    /// Page size; 0 (also for a negative one) means all.
    pub limit: usize,
    /// Token of the next page.
    pub continue_token: Option<String>,
    /// `None` when unset or empty (most recent), `Some(0)` means any.
    pub resource_version: Option<u64>,
    /// How the version is meant.
    pub version_match: Option<VersionMatch>,
    /// Watch: seconds until the server ends it; `None` when unset or 0 (the server chooses).
    pub timeout_seconds: Option<u64>,
    /// Watch: send bookmarks.
    pub bookmarks: bool,
    /// Watch: start with synthetic ADDED events and an `initial-events-end` bookmark.
    pub send_initial_events: bool,
}

/// What happens to fields that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped, with a `Warning` header (the default since Kubernetes 1.27).
    #[default]
    Warn,
    /// 400 naming the fields.
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// `dryRun=All`: everything but storing.
    pub dry_run: bool,
    /// `fieldManager`.
    pub field_manager: Option<String>,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// `force` of an apply patch.
    pub force: bool,
}

/// What becomes of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents lose their owner reference and stay.
    Orphan,
    /// The object goes first, the garbage collector removes dependents.
    Background,
    /// Dependents go first.
    Foreground,
}

/// Body and query of a delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `propagationPolicy`.
    pub propagation: Option<Propagation>,
    /// `gracePeriodSeconds`; a negative one counts as 1.
    pub grace_period_seconds: Option<i64>,
}

/// A decoded query.
struct Query<'a>(&'a [(String, String)]);

impl<'a> Query<'a> {
    /// The first value of a parameter.
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// The first value, if it is not empty.
    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).filter(|v| !v.is_empty())
    }

    fn all(&self, key: &str) -> Vec<&'a str> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)
            .map(|v| !(v == "0" || v.eq_ignore_ascii_case("false")))
    }

    fn integer(&self, key: &str) -> Result<Option<i64>> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let fault = || malformed(key, text, "must be an integer");
        text.parse().map(Some).map_err(|_| fault())
    }
}

fn malformed(parameter: &str, text: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("{parameter}: Invalid value: {text:?}: {why}"))
}

/// 422 as Kubernetes answers for options that do not fit together, if there are errors.
fn check(kind: &str, causes: Vec<Cause>) -> Result<()> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("meta.k8s.io", kind, "", causes))
}

impl ListOptions {
    /// Reads a decoded query string, of a list or (with `watch=true`) of a watch.
    ///
    /// # Errors
    /// 400 naming the parameter for a malformed selector, number or resourceVersion, and for
    /// `continue` with a `resourceVersion` other than 0. 422 (as Kubernetes) for
    /// other combinations that make no sense: `resourceVersionMatch` without `resourceVersion` or
    /// with `continue`, `sendInitialEvents` on a list, ….
    pub fn from_query(query: &[(String, String)]) -> Result<Self> {
        let query = Query(query);
        let version = query.text("resourceVersion");
        let options = Self {
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or(""))?,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or(""))?,
            limit: limit(&query)?,
            continue_token: query.text("continue").map(str::to_owned),
            resource_version: version.map(resource_version).transpose()?,
            version_match: match query.get("resourceVersionMatch") {
                Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
                Some("Exact") => Some(VersionMatch::Exact),
                _ => None,
            },
            timeout_seconds: timeout(&query)?,
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: query.flag("sendInitialEvents").unwrap_or(false),
        };
        if query.flag("watch").unwrap_or(false) {
            check("ListOptions", watch_faults(&query))?;
        } else {
            check("ListOptions", list_faults(&query))?;
            if options.continue_token.is_some() && options.resource_version.is_some_and(|v| v != 0)
            {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
        }
        Ok(options)
    }
}

fn limit(query: &Query<'_>) -> Result<usize> {
    let limit = query.integer("limit")?.unwrap_or(0).max(0);
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn resource_version(text: &str) -> Result<u64> {
    let why = "must be a resourceVersion that this server returned, or 0";
    text.parse()
        .map_err(|_| malformed("resourceVersion", text, why))
}

fn timeout(query: &Query<'_>) -> Result<Option<u64>> {
    let Some(seconds) = query.integer("timeoutSeconds")? else {
        return Ok(None);
    };
    let seconds = u64::try_from(seconds).map_err(|_| {
        malformed(
            "timeoutSeconds",
            &seconds.to_string(),
            "must not be negative",
        )
    })?;
    Ok((seconds > 0).then_some(seconds))
}

fn list_faults(query: &Query<'_>) -> Vec<Cause> {
    let field = "resourceVersionMatch";
    let mut causes = Vec::new();
    if let Some(wanted) = query.text(field) {
        if query.text("resourceVersion").is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            causes.push(Cause::forbidden(field, why));
        }
        causes.extend(match_with_continue(query));
        if !matches!(wanted, "Exact" | "NotOlderThan") {
            let supported = ["Exact", "NotOlderThan", ""];
            causes.push(Cause::not_supported(field, &wanted.into(), &supported));
        }
        if wanted == "Exact" && query.get("resourceVersion") == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(Cause::forbidden(field, why));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        let why = "sendInitialEvents is forbidden for list";
        causes.push(Cause::forbidden("sendInitialEvents", why));
    }
    causes
}

fn watch_faults(query: &Query<'_>) -> Vec<Cause> {
    let field = "resourceVersionMatch";
    let wanted = query.text(field);
    let initial = query.get("sendInitialEvents").is_some();
    let mut causes = Vec::new();
    if initial && wanted != Some("NotOlderThan") {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        causes.push(Cause::forbidden(field, why));
    }
    if let Some(wanted) = wanted {
        if !initial {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(Cause::forbidden(field, why));
        }
        if wanted != "NotOlderThan" {
            causes.push(Cause::not_supported(
                field,
                &wanted.into(),
                &["NotOlderThan"],
            ));
        }
        causes.extend(match_with_continue(query));
    }
    causes
}

fn match_with_continue(query: &Query<'_>) -> Option<Cause> {
    query.text("continue")?;
    let why = "resourceVersionMatch is forbidden when continue is provided";
    Some(Cause::forbidden("resourceVersionMatch", why))
}

impl WriteOptions {
    /// Reads a decoded query string of a create or update.
    ///
    /// # Errors
    /// 422 (as Kubernetes) naming the parameter for a `dryRun` other than `All`, an unknown
    /// `fieldValidation`, a field manager longer than 128 bytes or with unprintable characters.
    pub fn from_query(query: &[(String, String)]) -> Result<Self> {
        let query = Query(query);
        check("CreateOptions", write_faults(&query))?;
        Ok(Self::read(&query))
    }

    /// Reads a decoded query string of a patch, an `apply` patch or another one.
    ///
    /// # Errors
    /// As [`WriteOptions::from_query`]; also for `force` on a patch that is not an apply patch, and
    /// for an apply patch without `fieldManager`.
    pub fn from_patch_query(query: &[(String, String)], apply: bool) -> Result<Self> {
        let query = Query(query);
        let mut causes = Vec::new();
        if apply && query.text("fieldManager").is_none() {
            causes.push(Cause::required(
                "fieldManager",
                "is required for apply patch",
            ));
        }
        if !apply && query.get("force").is_some() {
            causes.push(Cause::forbidden(
                "force",
                "may not be specified for non-apply patch",
            ));
        }
        causes.extend(write_faults(&query));
        check("PatchOptions", causes)?;
        Ok(Self::read(&query))
    }

    fn read(query: &Query<'_>) -> Self {
        Self {
            dry_run: !query.all("dryRun").is_empty(),
            field_manager: query.text("fieldManager").map(str::to_owned),
            field_validation: match query.get("fieldValidation") {
                Some("Ignore") => FieldValidation::Ignore,
                Some("Strict") => FieldValidation::Strict,
                _ => FieldValidation::Warn,
            },
            force: query.flag("force").unwrap_or(false),
        }
    }
}

fn write_faults(query: &Query<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(manager) = query.text("fieldManager") {
        causes.extend(validate_field_manager("fieldManager", manager));
    }
    causes.extend(dry_run_fault(&query.all("dryRun")));
    let wanted = query.get("fieldValidation").unwrap_or("");
    let supported = ["", "Ignore", "Strict", "Warn"];
    if !supported.contains(&wanted) {
        causes.push(Cause::not_supported(
            "fieldValidation",
            &wanted.into(),
            &supported,
        ));
    }
    causes
}

fn dry_run_fault(values: &[&str]) -> Option<Cause> {
    let fine = values.iter().all(|v| *v == "All");
    (!fine).then(|| Cause::not_supported("dryRun", &json!(values), &["All"]))
}

/// Delete options as given, before they are checked.
#[derive(Default)]
struct RawDelete<'a> {
    dry_run: Vec<&'a str>,
    propagation: Option<&'a str>,
    orphan: Option<bool>,
    grace: Option<i64>,
    uid: Option<&'a str>,
    resource_version: Option<&'a str>,
}

impl DeleteOptions {
    /// Reads a decoded query string and an optional `DeleteOptions` body (body wins: with one, the
    /// query is not looked at).
    ///
    /// # Errors
    /// 400 naming the member that is malformed; 422 (as Kubernetes) for an unknown
    /// `propagationPolicy`, one together with `orphanDependents`, a `dryRun` other than `All`.
    pub fn from_request(query: &[(String, String)], body: Option<&Value>) -> Result<Self> {
        let raw = match body {
            Some(body) if !body.is_null() => delete_body(body)?,
            _ => delete_query(&Query(query))?,
        };
        check("DeleteOptions", delete_faults(&raw))?;
        let by_orphan = |orphan| {
            if orphan {
                Propagation::Orphan
            } else {
                Propagation::Background
            }
        };
        Ok(Self {
            dry_run: !raw.dry_run.is_empty(),
            uid: raw.uid.map(str::to_owned),
            resource_version: raw.resource_version.map(str::to_owned),
            propagation: match raw.propagation {
                Some("Orphan") => Some(Propagation::Orphan),
                Some("Background") => Some(Propagation::Background),
                Some("Foreground") => Some(Propagation::Foreground),
                _ => raw.orphan.map(by_orphan),
            },
            grace_period_seconds: raw
                .grace
                .map(|seconds| if seconds < 0 { 1 } else { seconds }),
        })
    }
}

fn delete_query<'a>(query: &Query<'a>) -> Result<RawDelete<'a>> {
    Ok(RawDelete {
        dry_run: query.all("dryRun"),
        propagation: query.get("propagationPolicy"),
        orphan: query.flag("orphanDependents"),
        grace: query.integer("gracePeriodSeconds")?,
        uid: None,
        resource_version: None,
    })
}

fn delete_body(body: &Value) -> Result<RawDelete<'_>> {
    if !body.is_object() {
        return Err(ApiError::bad_request(
            "the body of a delete must be a DeleteOptions object",
        ));
    }
    if let Some(kind) = body_text(body, "kind")?.filter(|kind| *kind != "DeleteOptions") {
        let why = format!("kind: the body of a delete must be DeleteOptions, not {kind:?}");
        return Err(ApiError::bad_request(why));
    }
    let preconditions = member(body, "preconditions").unwrap_or(&Value::Null);
    if !preconditions.is_null() && !preconditions.is_object() {
        return Err(wrong_type("preconditions", "an object"));
    }
    Ok(RawDelete {
        dry_run: body_texts(body, "dryRun")?,
        propagation: body_text(body, "propagationPolicy")?,
        orphan: typed(body, "orphanDependents", "a boolean", Value::as_bool)?,
        grace: typed(body, "gracePeriodSeconds", "an integer", Value::as_i64)?,
        uid: body_text(preconditions, "uid")?,
        resource_version: body_text(preconditions, "resourceVersion")?,
    })
}

/// A member that is neither absent nor null.
fn member<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|v| !v.is_null())
}

fn wrong_type(key: &str, wanted: &str) -> ApiError {
    ApiError::bad_request(format!("{key}: must be {wanted}"))
}

fn typed<'a, T>(
    object: &'a Value,
    key: &str,
    wanted: &str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>> {
    member(object, key)
        .map(|v| read(v).ok_or_else(|| wrong_type(key, wanted)))
        .transpose()
}

fn body_text<'a>(object: &'a Value, key: &str) -> Result<Option<&'a str>> {
    typed(object, key, "a string", Value::as_str)
}

fn body_texts<'a>(object: &'a Value, key: &str) -> Result<Vec<&'a str>> {
    let texts = |v: &'a Value| v.as_array()?.iter().map(Value::as_str).collect();
    Ok(typed(object, key, "a list of strings", texts)?.unwrap_or_default())
}

fn delete_faults(raw: &RawDelete<'_>) -> Vec<Cause> {
    let field = "propagationPolicy";
    let mut causes = Vec::new();
    if let Some(policy) = raw.propagation {
        if raw.orphan.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            causes.push(Cause::invalid(field, &policy.into(), why));
        }
        if !matches!(policy, "Foreground" | "Background" | "Orphan") {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            causes.push(Cause::not_supported(field, &policy.into(), &supported));
        }
    }
    causes.extend(dry_run_fault(&raw.dry_run));
    causes
}

#[cfg(test)]
mod tests;
