//! Strategic merge of lists: items are found by merge key (maps) or by value (scalars), and the
//! order of the patch wins over the order of the document, which wins over the order of arrival.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

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
        let Some(key) = self.merge_key else {
            return Ok(item.to_string());
        };
        item.get(key).map(Value::to_string).ok_or_else(|| {
            ApiError::bad_request(format!(
                "an item of the list {:?} does not contain its declared merge key {key:?}",
                self.field
            ))
        })
    }

    /// The first place of every identity.
    fn places<'v>(
        &self,
        items: impl IntoIterator<Item = &'v Value>,
    ) -> Result<HashMap<String, usize>> {
        let mut places = HashMap::new();
        for (place, item) in items.into_iter().enumerate() {
            places.entry(self.of(item)?).or_insert(place);
        }
        Ok(places)
    }
}

/// Merges a list of the patch into one of the document; without the strategy `merge` it replaces it.
pub(super) fn merge(original: Vec<Value>, patch: &[Value], field: Field<'_>) -> Result<Vec<Value>> {
    if !field.has("merge") {
        return Ok(cleaned_list(patch));
    }
    let Some(identity) = identity(&original, patch, field)? else {
        return Ok(original);
    };
    let before = identity.places(&original)?;
    if identity.merge_key.is_none() {
        let wanted = identity.places(patch)?;
        return order(merge_scalars(original, patch), &wanted, &before, identity);
    }
    let changes = Changes::read(patch, identity)?;
    if changes.replace {
        return Ok(changes
            .items
            .iter()
            .filter_map(|item| item.as_object())
            .map(whole)
            .collect());
    }
    let wanted = identity.places(changes.items.iter().copied())?;
    let merged = merge_maps(original, &changes, identity, field)?;
    order(merged, &wanted, &before, identity)
}

fn whole(map: &serde_json::Map<String, Value>) -> Value {
    Value::Object(cleaned_map(map))
}

/// Merges a list whose order the patch gives by `$setElementOrder`; `None` if there is no list.
pub(super) fn merge_ordered(
    original: Option<Vec<Value>>,
    patch: Option<&Vec<Value>>,
    wanted: &[Value],
    field: Field<'_>,
) -> Result<Option<Vec<Value>>> {
    let before = original.as_deref().unwrap_or_default();
    let change = patch.map_or(&[][..], Vec::as_slice);
    let Some(identity) = identity(before, change, field)? else {
        // Nothing that could be told apart, so nothing to sort.
        return match (original, patch) {
            (original, None) => Ok(original),
            (None, Some(patch)) => Ok(Some(cleaned_list(patch))),
            (Some(original), Some(patch)) => merge(original, patch, field).map(Some),
        };
    };
    check_order(change, wanted, identity)?;
    let before = before.to_vec();
    let merged = match (original, patch) {
        (None, None) => return Ok(None),
        (Some(original), None) => original,
        (None, Some(patch)) => cleaned_list(patch),
        (Some(original), Some(patch)) => merge(original, patch, field)?,
    };
    let before = places_after(&before, change, &merged, identity)?;
    order(merged, &identity.places(wanted)?, &before, identity).map(Some)
}

/// The places of items in the document when the patch gives an order: as in Kubernetes, items added
/// take the places of as many that were deleted, after those that remain.
fn places_after(
    original: &[Value],
    patch: &[Value],
    merged: &[Value],
    identity: Identity<'_>,
) -> Result<HashMap<String, usize>> {
    let places = identity.places(original)?;
    let changes = Changes::read(patch, identity)?;
    if changes.deleted.is_empty() || changes.replace {
        return Ok(places);
    }
    let merged = identity.places(merged)?;
    let mut order = Vec::with_capacity(original.len());
    for item in original {
        let item = identity.of(item)?;
        if merged.contains_key(&item) {
            order.push(item);
        }
    }
    for item in changes.items {
        let item = identity.of(item)?;
        if order.len() < original.len() && !places.contains_key(&item) {
            order.push(item);
        }
    }
    let mut places = HashMap::with_capacity(order.len());
    for (place, item) in order.into_iter().enumerate() {
        places.entry(item).or_insert(place);
    }
    Ok(places)
}

/// What tells the items apart; `None` if nothing does: in lists without items, and in lists of
/// maps without a merge key, which are replaced and keep their order.
fn identity<'a>(
    original: &[Value],
    patch: &[Value],
    field: Field<'a>,
) -> Result<Option<Identity<'a>>> {
    let name = field.name;
    let refuse = |why: &str| Err(ApiError::bad_request(format!("{why} in the list {name:?}")));
    let mut items = original.iter().chain(patch);
    let Some(first) = items.next() else {
        return Ok(None);
    };
    if first.is_array() || items.clone().any(Value::is_array) {
        return refuse("lists of lists are not supported");
    }
    if items.any(|item| item.is_object() != first.is_object()) {
        return refuse("list element types are not identical");
    }
    match field.merge_key() {
        _ if !first.is_object() => Ok(Some(Identity {
            field: name,
            merge_key: None,
        })),
        Some(key) => Ok(Some(Identity {
            field: name,
            merge_key: Some(key),
        })),
        None if field.has("merge") => refuse("cannot merge maps without a merge key"),
        None => Ok(None),
    }
}

/// The values of both lists, each once.
fn merge_scalars(original: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    let mut seen = HashSet::new();
    let both = original.into_iter().chain(patch.iter().cloned());
    both.filter(|item| seen.insert(item.to_string())).collect()
}

/// A list of the patch, its directives told apart from its items.
struct Changes<'a> {
    /// Items to be merged or added.
    items: Vec<&'a Value>,
    /// Identities of items to be deleted.
    deleted: HashSet<String>,
    /// Whether the items are the whole new list.
    replace: bool,
}

impl<'a> Changes<'a> {
    fn read(patch: &'a [Value], identity: Identity<'_>) -> Result<Self> {
        let mut changes = Self {
            items: Vec::new(),
            deleted: HashSet::new(),
            replace: false,
        };
        for item in patch {
            match item_directive(item)? {
                None | Some(Directive::Merge) => changes.items.push(item),
                Some(Directive::Replace) => changes.replace = true,
                Some(Directive::Delete) => {
                    changes.deleted.insert(identity.of(item)?);
                }
            }
        }
        Ok(changes)
    }
}

fn item_directive(item: &Value) -> Result<Option<Directive>> {
    item.as_object().map_or(Ok(None), directive)
}

/// The document's items without those deleted, each with what the patch has for it; then what is
/// new.
fn merge_maps(
    mut merged: Vec<Value>,
    patch: &Changes<'_>,
    identity: Identity<'_>,
    field: Field<'_>,
) -> Result<Vec<Value>> {
    if !patch.deleted.is_empty() {
        merged.retain(|item| !identity.of(item).is_ok_and(|i| patch.deleted.contains(&i)));
    }
    let mut places = identity.places(&merged)?;
    let node = field.node.and_then(|n| n.items());
    for item in &patch.items {
        let Value::Object(change) = item else {
            continue;
        };
        let key = identity.of(item)?;
        match places.get(&key).and_then(|place| merged.get_mut(*place)) {
            Some(Value::Object(found)) => merge_map(found, change, node)?,
            _ => {
                places.insert(key, merged.len());
                merged.push(whole(change));
            }
        }
    }
    Ok(merged)
}

/// Refuses a patch list that is not in the order wanted or has items beyond it.
fn check_order(patch: &[Value], wanted: &[Value], identity: Identity<'_>) -> Result<()> {
    if patch.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let mut wanted = wanted.iter().map(|item| identity.of(item));
    for item in patch {
        if matches!(
            item_directive(item)?,
            Some(Directive::Delete | Directive::Replace)
        ) {
            continue;
        }
        let item = identity.of(item)?;
        if !wanted.any(|other| other.is_ok_and(|other| other == item)) {
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
    wanted: &HashMap<String, usize>,
    before: &HashMap<String, usize>,
    identity: Identity<'_>,
) -> Result<Vec<Value>> {
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
