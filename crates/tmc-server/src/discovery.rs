//! Documents about what is served: discovery, OpenAPI, the version, the root path list.
//!
//! Documents are made from an [`ApiSet`] once, kept with it, and shared between sets that come to
//! the same bytes (most workspaces serve the same).

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tmc_apimachinery::GroupVersion;
use tmc_apimachinery::definition::ApiSet;
use tmc_apimachinery::request_info::RequestInfo;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::{discovery, openapi};

use crate::content::{Encoding, Offer, View, negotiate};
use crate::render;
use crate::respond::{answer, empty, encode, full};
use crate::surface::Response;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Sets whose documents are kept; beyond that the whole cache is begun anew.
const MAX_SETS: usize = 1024;

/// Names one document of a set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Page {
    CoreVersions,
    Groups,
    Group(String),
    Resources(GroupVersion),
    Aggregated { legacy: bool },
    OpenApiIndex,
    OpenApi(GroupVersion),
}

impl Page {
    /// What a path below a surface names.
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        Some(match parts.as_slice() {
            ["api"] => Self::CoreVersions,
            ["api", version] => Self::Resources(GroupVersion::new("", *version)),
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group((*group).to_owned()),
            ["apis", group, version] => Self::Resources(GroupVersion::new(*group, *version)),
            ["openapi", "v3"] => Self::OpenApiIndex,
            ["openapi", "v3", "api", version] => Self::OpenApi(GroupVersion::new("", *version)),
            ["openapi", "v3", "apis", group, version] => {
                Self::OpenApi(GroupVersion::new(*group, *version))
            }
            _ => return None,
        })
    }
}

/// An encoded document.
#[derive(Debug)]
struct Document {
    bytes: Bytes,
    /// SHA-256 of the bytes in hex, unquoted.
    hash: String,
}

impl Document {
    fn new(value: &Value) -> Self {
        let bytes = encode(value);
        let digest = Sha256::digest(&bytes);
        let hash = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { bytes, hash }
    }
}

/// Documents of one set. The weak reference keeps the set's address from being reused.
struct Entry {
    set: Weak<ApiSet>,
    pages: HashMap<Page, Arc<Document>>,
}

/// Documents by set.
#[derive(Default)]
pub(crate) struct Documents {
    sets: Mutex<HashMap<usize, Entry>>,
    shared: Mutex<HashMap<String, Weak<Document>>>,
}

impl Documents {
    /// A document, from the cache or made now. Making one is pure; two requests may do it at once.
    fn get(&self, set: &Arc<ApiSet>, page: &Page) -> Option<Arc<Document>> {
        let key = Arc::as_ptr(set) as usize;
        if let Some(found) = self
            .sets
            .lock()
            .get(&key)
            .and_then(|entry| entry.pages.get(page))
        {
            return Some(found.clone());
        }
        let document = self.share(Document::new(&self.make(set, page)?));
        let mut sets = self.sets.lock();
        if !sets.contains_key(&key) {
            sets.retain(|_, entry| entry.set.strong_count() > 0);
            if sets.len() >= MAX_SETS {
                sets.clear();
            }
        }
        let entry = sets.entry(key).or_insert_with(|| Entry {
            set: Arc::downgrade(set),
            pages: HashMap::new(),
        });
        entry.pages.insert(page.clone(), document.clone());
        Some(document)
    }

    fn make(&self, set: &Arc<ApiSet>, page: &Page) -> Option<Value> {
        match page {
            Page::CoreVersions => Some(discovery::api_versions(set)),
            Page::Groups => Some(discovery::group_list(set)),
            Page::Group(group) => discovery::group(set, group),
            Page::Resources(gv) => discovery::resource_list(set, gv),
            Page::Aggregated { legacy } => Some(discovery::aggregated(set, *legacy)),
            Page::OpenApi(gv) => openapi::document(set, gv),
            Page::OpenApiIndex => Some(openapi::index(set, |gv| {
                let document = self.get(set, &Page::OpenApi(gv.clone()));
                document
                    .map(|document| document.hash.clone())
                    .unwrap_or_default()
            })),
        }
    }

    /// The same document made for another set, if it is still in use.
    fn share(&self, document: Document) -> Arc<Document> {
        let mut shared = self.shared.lock();
        if let Some(same) = shared.get(&document.hash).and_then(Weak::upgrade) {
            return same;
        }
        shared.retain(|_, weak| weak.strong_count() > 0);
        let document = Arc::new(document);
        shared.insert(document.hash.clone(), Arc::downgrade(&document));
        document
    }

    /// Answers a GET below a surface that names no resource.
    ///
    /// # Errors
    /// 404 for a path that names no document, 406 if it is not to be had in the form wanted.
    pub(crate) fn answer(
        &self,
        set: &Arc<ApiSet>,
        info: &RequestInfo,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response> {
        if path.trim_matches('/').is_empty() {
            let format = negotiate(headers, info, Offer::Document)?;
            return render::value(StatusCode::OK, format, &root_paths(set));
        }
        let mut page = Page::of(path).ok_or_else(ApiError::no_such_path)?;
        let offer = match page {
            Page::CoreVersions | Page::Groups => Offer::Discovery,
            Page::OpenApi(_) | Page::OpenApiIndex => Offer::Json,
            _ => Offer::Document,
        };
        let format = negotiate(headers, info, offer)?;
        let aggregated = format.view == View::Discovery;
        if aggregated {
            page = Page::Aggregated {
                legacy: page == Page::CoreVersions,
            };
        }
        let document = self.get(set, &page).ok_or_else(ApiError::no_such_path)?;
        if format.encoding == Encoding::Yaml {
            let value = serde_json::from_slice(&document.bytes).map_err(ApiError::internal)?;
            return render::value(StatusCode::OK, format, &value);
        }
        let mut response = tagged(&document, headers);
        let sent = response.headers_mut();
        sent.insert(VARY, HeaderValue::from_static("Accept"));
        if aggregated {
            sent.insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
        }
        // The index names each document with its hash: under that name it never changes.
        if info.param("hash").is_some_and(|hash| hash == document.hash) {
            sent.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        }
        Ok(response)
    }
}

/// 200 with an entity tag, or 304 if the client has it.
fn tagged(document: &Document, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", document.hash);
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let unchanged = known
        .flat_map(|line| line.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*");
    let mut response = answer(StatusCode::OK, crate::respond::JSON, empty());
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = full(document.bytes.clone());
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// `GET /`: the paths that are served.
fn root_paths(set: &ApiSet) -> Value {
    let mut paths = vec![
        "/api".to_owned(),
        "/apis".into(),
        "/openapi/v3".into(),
        "/version".into(),
    ];
    for definition in set.iter() {
        let (group, version) = (&definition.gvk.group, &definition.gvk.version);
        if group.is_empty() {
            paths.push(format!("/api/{version}"));
        } else {
            paths.push(format!("/apis/{group}"));
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    paths.sort();
    paths.dedup();
    json!({ "paths": paths })
}
