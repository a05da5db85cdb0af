//! Strategic merge of lists: items are found by merge key (maps) or by value (scalars), and the
//! order of the patch wins over the order of the document, which wins over the order of arrival.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::strategic::{Directive, Field, cleaned_list, cleaned_map, directive, merge_map};
use crate::status::{ApiError, Result};

/// What tells the items of a list apart.
#[derive(Clone, Copy)]
struct Identity<'a> {
    field: &'a str,
    merge_key: Option<&'a str>,
}

impl Identity<'_> {
    /// The identity of an item, as JSON text.
    fn of(&self, item: &Value) -> Result<String> {
        let Some(key) = self.merge_key else { return Ok(item.to_string()) };
        item.get(key).map(Value::to_string).ok_or_else(|| {
            ApiError::bad_request(format!(
                "an item of the list {:?} does not contain its declared merge key {key:?}",
                self.field
            ))
        })
    }

    fn of_all(&self, items: &[Value]) -> Result<Vec<String>> {
        items.iter().map(|item| self.of(item)).collect()
    }

    /// The first place of every identity.
    fn places(&self, items: &[Value]) -> Result<HashMap<String, usize>> {
        let mut places = HashMap::with_capacity(items.len());
        for (place, identity) in self.of_all(items)?.into_iter().enumerate() {
            places.entry(identity).or_insert(place);
        }
        Ok(places)
    }
}

/// Merges a list of the patch into one of the document; without the strategy `merge` it replaces it.
pub(super) fn merge(original: Vec<Value>, patch: &[Value], field: Field<'_>) -> Result<Vec<Value>> {
    if !field.has("merge") {
        return Ok(cleaned_list(patch));
    }
    let Some(identity) = identity(&original, patch, field)? else { return Ok(original) };
    let (merged, patch) = if identity.merge_key.is_some() {
        merge_maps(original.clone(), patch, identity, field)?
    } else {
        (merge_scalars(&original, patch), patch.to_vec())
    };
    order(merged, &patch, &original, identity)
}

/// Merges a list whose order the patch gives by `$setElementOrder`; `None` if there is no list.
pub(super) fn merge_ordered(
    original: Option<Vec<Value>>,
    patch: Option<&Vec<Value>>,
    wanted: &[Value],
    field: Field<'_>,
) -> Result<Option<Vec<Value>>> {
    let before = original.clone().unwrap_or_default();
    let change = patch.map_or(&[][..], Vec::as_slice);
    let identity = identity(&before, change, field)?;
    if let Some(identity) = identity {
        check_order(change, wanted, identity)?;
    }
    let merged = match (original, patch) {
        (None, None) => return Ok(None),
        (Some(original), None) => original,
        (None, Some(patch)) => cleaned_list(patch),
        (Some(original), Some(patch)) => merge(original, patch, field)?,
    };
    match identity {
        Some(identity) => order(merged, wanted, &before, identity).map(Some),
        None => Ok(Some(merged)),
    }
}

/// What tells the items apart; `None` for lists without items.
fn identity<'a>(
    original: &[Value],
    patch: &[Value],
    field: Field<'a>,
) -> Result<Option<Identity<'a>>> {
    let name = field.name;
    let mut items = original.iter().chain(patch);
    let Some(first) = items.next() else { return Ok(None) };
    if first.is_array() || items.clone().any(Value::is_array) {
        let why = format!("lists of lists are not supported in the list {name:?}");
        return Err(ApiError::bad_request(why));
    }
    if items.any(|item| item.is_object() != first.is_object()) {
        let why = format!("list element types are not identical in the list {name:?}");
        return Err(ApiError::bad_request(why));
    }
    if !first.is_object() {
        return Ok(Some(Identity { field: name, merge_key: None }));
    }
    match field.merge_key() {
        Some(key) => Ok(Some(Identity { field: name, merge_key: Some(key) })),
        None if field.has("merge") => Err(ApiError::bad_request(format!(
            "cannot merge the list {name:?} without a merge key"
        ))),
        // Maps without a merge key have no identity: the list is replaced and keeps its order.
        None => Ok(None),
    }
}

/// The values of both lists, each once.
fn merge_scalars(original: &[Value], patch: &[Value]) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    let both = original.iter().chain(patch);
    both.filter(|item| seen.insert(item.to_string())).cloned().collect()
}

/// The merged list, and the items of the patch that are not directives.
fn merge_maps(
    original: Vec<Value>,
    patch: &[Value],
    identity: Identity<'_>,
    field: Field<'_>,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let special = Special::read(patch, identity)?;
    let plain: Vec<Value> = special.plain.iter().map(|map| Value::Object((*map).clone())).collect();
    if special.replace {
        // The new list is in the patch's order; there is nothing to sort it into.
        return Ok((cleaned_list(&plain), Vec::new()));
    }
    let mut merged = original;
    if !special.deleted.is_empty() {
        let identities = identity.of_all(&merged)?;
        let mut gone = identities.iter().map(|i| special.deleted.contains_key(i));
        merged.retain(|_| !gone.next().unwrap_or(false));
    }
    let mut places = identity.places(&merged)?;
    let items = field.node.and_then(|n| n.items());
    for (map, value) in special.plain.iter().zip(&plain) {
        let key = identity.of(value)?;
        match places.get(&key).and_then(|place| merged.get_mut(*place)) {
            Some(Value::Object(found)) => merge_map(found, map, items)?,
            _ => {
                places.insert(key, merged.len());
                merged.push(Value::Object(cleaned_map(map)));
            }
        }
    }
    Ok((merged, plain))
}

/// The items of a patch list, those with a `$patch` directive told apart.
struct Special<'a> {
    plain: Vec<&'a Map<String, Value>>,
    deleted: BTreeMap<String, ()>,
    replace: bool,
}

impl<'a> Special<'a> {
    fn read(patch: &'a [Value], identity: Identity<'_>) -> Result<Self> {
        let mut special = Self { plain: Vec::new(), deleted: BTreeMap::new(), replace: false };
        for item in patch {
            let Value::Object(map) = item else { continue };
            match directive(map)? {
                None | Some(Directive::Merge) => special.plain.push(map),
                Some(Directive::Replace) => special.replace = true,
                Some(Directive::Delete) => {
                    special.deleted.insert(identity.of(item)?, ());
                }
            }
        }
        Ok(special)
    }
}

/// Refuses a patch list that is not in the order wanted or has items beyond it.
fn check_order(patch: &[Value], wanted: &[Value], identity: Identity<'_>) -> Result<()> {
    if patch.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let mut wanted = identity.of_all(wanted)?.into_iter();
    for item in patch {
        let special = item.as_object().map(directive).transpose()?.flatten();
        if matches!(special, Some(Directive::Delete | Directive::Replace)) {
            continue;
        }
        let item = identity.of(item)?;
        if !wanted.any(|w| w == item) {
            return Err(ApiError::bad_request(format!(
                "the items of {field:?} in the patch are not in the order of $setElementOrder/{field}, or {item} is not in it",
                field = identity.field
            )));
        }
    }
    Ok(())
}

/// Sorts a merged list: items that the patch names in its order, the others in the document's
/// order, and each of the others before the first named item that follows it in the document.
fn order(
    merged: Vec<Value>,
    wanted: &[Value],
    original: &[Value],
    identity: Identity<'_>,
) -> Result<Vec<Value>> {
    let wanted = identity.places(wanted)?;
    let before = identity.places(original)?;
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in merged {
        let key = identity.of(&item)?;
        let place = before.get(&key).copied();
        match wanted.get(&key) {
            Some(rank) => named.push((*rank, place, item)),
            None => others.push((place.unwrap_or(usize::MAX), place, item)),
        }
    }
    named.sort_by_key(|(rank, ..)| *rank);
    others.sort_by_key(|(rank, ..)| *rank);
    let mut sorted = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, place, item) in named {
        let precedes = |other: Option<usize>| matches!((other, place), (Some(o), Some(p)) if o < p);
        while let Some((.., other)) = others.next_if(|(_, other, _)| precedes(*other)) {
            sorted.push(other);
        }
        sorted.push(item);
    }
    sorted.extend(others.map(|(.., other)| other));
    Ok(sorted)
}
