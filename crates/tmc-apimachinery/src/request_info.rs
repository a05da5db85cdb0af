//! What a request path asks for (`k8s.io/apiserver/pkg/endpoints/request.RequestInfo`).
//!
//! A path that could be read in two ways is refused rather than interpreted: authorization and
//! routing must see the same thing. So empty, `.` and `..` segments, and segments in which an
//! encoded `/` or control character hides, are answered 400.

use crate::names::GroupVersionResource;
use crate::selector::FieldSelector;
use crate::status::{ApiError, Result};

/// Subresources of a namespace: what else follows a namespace's name is a resource in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// A request path and method, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it names an API resource (else see `path`).
    pub is_resource: bool,
    /// The decoded path, without empty segments at its end.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the
    /// lower-case method of a non-resource request.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for none.
    pub namespace: String,
    /// Plural resource, without the identity that may follow it after `:` (wildcard requests); see
    /// `identity`.
    pub resource: String,
    /// Identity hash given with the resource in a wildcard request.
    pub identity: String,
    /// Subresource, empty for none.
    pub subresource: String,
    /// Object name, empty for collections. A list or watch with the field selector
    /// `metadata.name=x` carries that name, so that it can be authorized by name; `verb` tells.
    pub name: String,
    /// Decoded query, in order.
    pub query: Vec<(String, String)>,
}

impl RequestInfo {
    /// Parses an already prefix-stripped path (`/api/v1/…`) with its raw query.
    ///
    /// # Errors
    /// 400 for a path segment that does not decode, is empty, `.` or `..`, or hides a `/`; for more
    /// parts than any resource has; for a query that does not decode. 405 for a method that no
    /// resource knows.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self> {
        let segments = split_path(path)?;
        let mut info = Self {
            path: format!("/{}", segments.join("/")),
            verb: method.to_ascii_lowercase(),
            query: parse_query(query.unwrap_or(""))?,
            ..Self::default()
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                info.read_resource(method, rest)?;
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                info.read_resource(method, rest)?;
            }
            _ => {}
        }
        Ok(info)
    }

    /// The first value of a query parameter.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// Group, version and resource of a resource request.
    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(&self.group, &self.version, &self.resource)
    }

    /// Reads what follows the group and version.
    fn read_resource(&mut self, method: &str, parts: &[&str]) -> Result<()> {
        self.is_resource = true;
        verb_of(method)?.clone_into(&mut self.verb);
        let mut parts = parts;
        let watch_prefix = parts[0] == "watch";
        if watch_prefix {
            if self.verb != "get" {
                return Err(ApiError::method_not_allowed(format!(
                    "a path with /watch/ can only be read, not be asked with {method}"
                )));
            }
            "watch".clone_into(&mut self.verb);
            parts = &parts[1..];
        }
        if let ["namespaces", namespace, rest @ ..] = parts {
            (*namespace).clone_into(&mut self.namespace);
            if rest
                .first()
                .is_some_and(|r| !NAMESPACE_SUBRESOURCES.contains(r))
            {
                parts = rest;
            }
        }
        self.read_parts(parts)?;
        if self.name.is_empty() {
            self.read_collection_verb();
        } else if watch_prefix {
            // The watch of one object by path: to the server a watch with a selector.
            let selector = FieldSelector::name(&self.name).to_string();
            self.query.retain(|(key, _)| key != "fieldSelector");
            self.query.push(("fieldSelector".to_owned(), selector));
        }
        Ok(())
    }

    /// `resource[:identity][/name[/subresource[/…]]]`.
    fn read_parts(&mut self, parts: &[&str]) -> Result<()> {
        let Some(resource) = parts.first() else {
            return Err(ApiError::bad_request(format!(
                "unable to determine the resource from the path {:?}",
                self.path
            )));
        };
        if parts.len() > 3 && parts[2] != "proxy" {
            return Err(ApiError::bad_request(format!(
                "the path {:?} has more parts than a resource, a name and a subresource",
                self.path
            )));
        }
        let (resource, identity) = match resource.split_once(':') {
            None => (*resource, ""),
            Some((resource, identity)) => (resource, checked_identity(resource, identity)?),
        };
        resource.clone_into(&mut self.resource);
        identity.clone_into(&mut self.identity);
        let part = |index: usize| parts.get(index).copied().unwrap_or("").to_owned();
        self.name = part(1);
        self.subresource = part(2);
        Ok(())
    }

    /// What get and delete mean without a name.
    fn read_collection_verb(&mut self) {
        match self.verb.as_str() {
            "delete" => "deletecollection".clone_into(&mut self.verb),
            "get" => {
                let watch = self
                    .param("watch")
                    .is_some_and(|v| !(v == "0" || v.eq_ignore_ascii_case("false")));
                let verb = if watch { "watch" } else { "list" };
                verb.clone_into(&mut self.verb);
            }
            _ => {}
        }
        if matches!(self.verb.as_str(), "list" | "watch") {
            // A selector that cannot be read is refused later, with the other options.
            let selector = FieldSelector::parse(self.param("fieldSelector").unwrap_or(""));
            let selector = selector.unwrap_or_default();
            let name = selector.required_name().unwrap_or("");
            if !matches!(name, "." | "..") && !name.contains(['/', '%']) {
                name.clone_into(&mut self.name);
            }
        }
    }
}

fn verb_of(method: &str) -> Result<&'static str> {
    Ok(match method {
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        other => {
            return Err(ApiError::method_not_allowed(format!(
                "the method {other:?} is not known to API resources; use GET, POST, PUT, PATCH or DELETE"
            )));
        }
    })
}

/// An identity is a hash: letters and digits.
fn checked_identity<'a>(resource: &str, identity: &'a str) -> Result<&'a str> {
    let fine = !identity.is_empty() && identity.bytes().all(|b| b.is_ascii_alphanumeric());
    if fine && !resource.is_empty() {
        return Ok(identity);
    }
    Err(ApiError::bad_request(format!(
        "\"{resource}:{identity}\" in the path must be a resource, or a resource, ':' and an identity hash"
    )))
}

/// The decoded segments of a path. One `/` at the end is not a segment.
fn split_path(path: &str) -> Result<Vec<String>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/').map(segment).collect()
}

fn segment(raw: &str) -> Result<String> {
    let refuse = |why: &str| {
        Err(ApiError::bad_request(format!(
            "the path segment {:?} {why}",
            shortened(raw)
        )))
    };
    let Some(text) = percent_decode(raw, false) else {
        return refuse("is not percent-encoded UTF-8");
    };
    match text.as_str() {
        "" => refuse("is empty; remove the double slash"),
        "." | ".." => refuse("is not allowed"),
        _ if text.contains('/') => refuse("contains an encoded slash"),
        _ if text.contains(char::is_control) => refuse("contains a control character"),
        _ => Ok(text),
    }
}

/// For messages: at most 100 characters.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The pairs of a query, in order; a `+` is a blank, empty pairs (`?`, `&`, `a&&b`) are skipped.
fn parse_query(query: &str) -> Result<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (percent_decode(key, true), percent_decode(value, true)) {
                (Some(key), Some(value)) => Ok((key, value)),
                _ => Err(ApiError::bad_request(format!(
                    "the query parameter {:?} is not percent-encoded UTF-8",
                    shortened(key)
                ))),
            }
        })
        .collect()
}

/// Decodes `%XX` (and `+` in a query); `None` for a broken escape or what is not UTF-8.
fn percent_decode(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' if plus_is_blank => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests;
