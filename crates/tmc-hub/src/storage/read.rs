//! Get and list.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tmc_apimachinery::options::{ListOptions, VersionMatch};
use tmc_apimachinery::selector::FieldSelector;
use tmc_apimachinery::status::{ApiError, Reason, Result};
use tmc_server::resource::{Object, Page, ResourceRequest};

use super::{Core, Entry, Place};
use crate::keys;

/// A paged list ends its page early at this many bytes, so that large objects make more pages rather
/// than pages that no client can take.
const MAX_PAGE: usize = 8 * 1024 * 1024;

/// Where a paged list goes on: the revision of its first page and the last key sent.
#[derive(Serialize, Deserialize)]
struct ContinueToken {
    rv: u64,
    after: String,
}

impl ContinueToken {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str, prefix: &str) -> Result<Self> {
        let bad =
            || ApiError::bad_request("continue key is not valid: it was not made for this list");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        // A forged token must not open another resource's or workspace's range.
        if token.after.starts_with(prefix) {
            Ok(token)
        } else {
            Err(bad())
        }
    }
}

impl Core {
    pub(super) fn get_object(&self, place: &Place, name: &str) -> Result<Object> {
        let entry = self
            .store
            .get(&place.key(name))
            .ok_or_else(|| ApiError::not_found(&place.resource(), name))?;
        Ok(self.present(&entry, &place.definition))
    }

    pub(super) fn list_objects(
        &self,
        request: &ResourceRequest,
        options: &ListOptions,
    ) -> Result<Page> {
        let definition = &request.definition;
        options
            .fields
            .check_supported(&definition.selectable_fields)?;
        let prefix = keys::list_prefix(
            &definition.group_resource(),
            &request.scope,
            &request.namespace,
        );
        let token = options
            .continue_token
            .as_deref()
            .map(|text| ContinueToken::decode(text, &prefix))
            .transpose()?;
        let at = self.list_revision(options, token.as_ref())?;
        let mut after = token.map(|t| t.after);
        let mut page = Page::default();
        let mut bytes = 0;
        // A selective filter may skip whole batches: go on until the page is full or the range ends.
        loop {
            let batch = if options.limit == 0 {
                0
            } else {
                options.limit.max(64)
            };
            let found = self
                .store
                .range(&prefix, at, after.as_deref(), batch)
                .map_err(|_| continue_expired())?;
            page.resource_version = found.revision.to_string();
            let mut entries = found.entries.iter().peekable();
            while let Some(entry) = entries.next() {
                after = Some(entry.key.to_string());
                if !selected(request, options, entry) {
                    continue;
                }
                bytes += entry.value.len();
                page.items.push(self.present(entry, definition));
                if options.limit > 0 && (page.items.len() == options.limit || bytes >= MAX_PAGE) {
                    if entries.peek().is_some() || found.more {
                        let after = entry.key.to_string();
                        page.continue_token = ContinueToken {
                            rv: found.revision,
                            after,
                        }
                        .encode();
                        page.remaining = self.remaining(&prefix, options, &page, entry);
                    }
                    return Ok(page);
                }
            }
            if !found.more {
                return Ok(page);
            }
        }
    }

    /// Which revision a list reads at; `None` is the newest.
    fn list_revision(
        &self,
        options: &ListOptions,
        token: Option<&ContinueToken>,
    ) -> Result<Option<u64>> {
        if let Some(token) = token {
            return Ok(Some(token.rv));
        }
        let Some(wanted) = options.resource_version.filter(|rv| *rv > 0) else {
            return Ok(None);
        };
        let current = self.store.revision();
        if wanted > current {
            return Err(too_large(wanted, current));
        }
        Ok((options.version_match == Some(VersionMatch::Exact)).then_some(wanted))
    }

    /// How many follow: known only while no selector filters and nothing changed since.
    fn remaining(
        &self,
        prefix: &str,
        options: &ListOptions,
        page: &Page,
        last: &Arc<Entry>,
    ) -> Option<u64> {
        let unfiltered = options.labels.is_everything() && options.fields.is_everything();
        let first_page = options.continue_token.is_none();
        let current = page.resource_version == self.store.revision().to_string();
        let total = self.store.count(prefix) as u64;
        let sent = page.items.len() as u64;
        let _ = last;
        (unfiltered && first_page && current && total > sent).then(|| total - sent)
    }

    /// The object in the version asked for: other served versions differ in `apiVersion` only.
    pub(super) fn present(
        &self,
        entry: &Entry,
        definition: &tmc_apimachinery::definition::ResourceDefinition,
    ) -> Object {
        if definition.gvk.version == definition.storage_version {
            return Object {
                bytes: entry.value.clone(),
            };
        }
        match serde_json::from_slice::<Value>(&entry.value) {
            Ok(mut value) => {
                value["apiVersion"] = definition.api_version().into();
                Object::from_value(&value)
            }
            Err(_) => Object {
                bytes: entry.value.clone(),
            },
        }
    }
}

/// Whether an entry is inside a request's namespace and selectors.
pub(super) fn selected(request: &ResourceRequest, options: &ListOptions, entry: &Entry) -> bool {
    let Some(at) = keys::locate(&entry.key) else {
        return false;
    };
    (request.namespace.is_empty() || request.namespace == at.namespace)
        && options.labels.matches(&entry.meta.labels)
        && fields_match(&options.fields, entry, &at)
}

fn fields_match(selector: &FieldSelector, entry: &Entry, at: &keys::Location<'_>) -> bool {
    if selector.is_everything() {
        return true;
    }
    let mut parsed: Option<Value> = None;
    let needs_object = selector
        .terms()
        .iter()
        .any(|t| t.path != "metadata.name" && t.path != "metadata.namespace");
    if needs_object {
        parsed = serde_json::from_slice(&entry.value).ok();
    }
    selector.matches(|path| match path {
        "metadata.name" => at.name.to_owned(),
        "metadata.namespace" => at.namespace.to_owned(),
        path => parsed
            .as_ref()
            .map_or_else(String::new, |object| field_text(object, path)),
    })
}

/// The value at a dotted path as field selectors compare it.
fn field_text(object: &Value, path: &str) -> String {
    let mut at = object;
    for part in path.split('.') {
        match at.get(part) {
            Some(next) => at = next,
            None => return String::new(),
        }
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn continue_expired() -> ApiError {
    ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. \
         You can start a new list without the continue parameter.",
    )
}

/// A version from the future: the client has talked to another or a restored server.
pub(super) fn too_large(wanted: u64, current: u64) -> ApiError {
    let mut error = ApiError::new(
        Reason::Timeout,
        format!("Too large resource version: {wanted}, current: {current}"),
    );
    error.retry_after = Some(1);
    error
}
