//! Parts that a SyncTarget and the template in a Cluster have in common.

use std::time::Duration;

use serde_json::{Value, json};
use tmc_api::keys;
use tmc_api::time::Span;
use tmc_api::workload::{ApiExportRef, Cell, SyncerConfig, SyncerMode, Taint};
use tmc_apimachinery::meta;
use tmc_apimachinery::status::Cause;

use crate::GuardConfig;
use crate::fields::{self, Sign};

/// Shortest heartbeat interval: shorter ones would let a tenant keep the hub busy, and a session that
/// has more to say than four frames a second is closed.
const LEAST_HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest heartbeat interval: a target must be found lost the same day.
const MOST_HEARTBEAT: Duration = Duration::from_secs(3600);
/// Shortest resync period: everything is looked at each time.
const LEAST_RESYNC: Duration = Duration::from_secs(1);
/// Longest resync period.
const MOST_RESYNC: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest image reference.
const MOST_IMAGE: usize = 1024;

/// Cells in list form, each labelled with its location. kcp's map form becomes one cell `default`.
pub(super) fn default_cells(parent: &mut Value) {
    if let Some(cells @ Value::Object(_)) = parent.get_mut("cells") {
        *cells = match cells.as_object() {
            Some(labels) if !labels.is_empty() => json!([{"name": "default", "labels": labels}]),
            _ => json!([]),
        };
    }
    for cell in fields::items(parent, "cells") {
        let Some(name) = cell.get("name").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        if let Some(labels) = fields::child(cell, "labels") {
            fields::fill(labels, "location", || json!(name));
        }
    }
}

/// Errors of cells.
pub(super) fn cells(field: &str, cells: &[Cell]) -> Vec<Cause> {
    let names = cells.iter().map(|c| &c.name);
    let mut causes =
        fields::duplicates(names, |i| format!("{field}[{i}].name"), |name| json!(name));
    for (i, cell) in cells.iter().enumerate() {
        let at = format!("{field}[{i}]");
        causes.extend(fields::dns_label(&format!("{at}.name"), &cell.name));
        causes.extend(fields::labels(&format!("{at}.labels"), &cell.labels));
        let capacity = format!("{at}.capacity");
        causes.extend(fields::resources(
            &capacity,
            &cell.capacity,
            Sign::NotNegative,
        ));
        causes.extend(taints(&format!("{at}.taints"), &cell.taints));
    }
    causes
}

/// Errors of taints: syntax, and uniqueness by key and effect.
pub(super) fn taints(field: &str, taints: &[Taint]) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (i, taint) in taints.iter().enumerate() {
        let key = format!("{field}[{i}].key");
        causes.extend(meta::validate_qualified_name(&key, &taint.key));
        causes.extend(meta::validate_label_value(
            &format!("{field}[{i}].value"),
            &taint.value,
        ));
    }
    let keys = taints.iter().map(|t| (t.key.as_str(), t.effect));
    let show = |(key, effect): &(&str, _)| json!({"key": key, "effect": effect});
    causes.extend(fields::duplicates(keys, |i| format!("{field}[{i}]"), show));
    causes
}

/// Errors of taints that are the hub's to set, unless they were there before, unchanged.
pub(super) fn reserved_taints(field: &str, taints: &[Taint], before: &[Taint]) -> Vec<Cause> {
    let foreign = |taint: &&Taint| keys::is_reserved(&taint.key) && !before.contains(taint);
    let named = |(i, taint): (usize, &Taint)| {
        foreign(&taint).then(|| {
            let why = format!(
                "taints of the domain {} are set by the hub: remove \"{}\"",
                keys::RESERVED_DOMAIN,
                taint.key
            );
            Cause::forbidden(format!("{field}[{i}].key"), why)
        })
    };
    taints.iter().enumerate().filter_map(named).collect()
}

/// Errors of the exports that a target supports.
pub(super) fn exports(field: &str, exports: &[ApiExportRef]) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (i, export) in exports.iter().enumerate() {
        if !export.path.is_empty() {
            causes.extend(fields::workspace_path(
                &format!("{field}[{i}].path"),
                &export.path,
            ));
        }
        causes.extend(fields::dns_subdomain(
            &format!("{field}[{i}].export"),
            &export.export,
        ));
    }
    let keys = exports.iter().map(|e| (e.path.as_str(), e.export.as_str()));
    let show = |(path, export): &(&str, &str)| json!({"path": path, "export": export});
    causes.extend(fields::duplicates(keys, |i| format!("{field}[{i}]"), show));
    causes
}

/// Which ways of running a syncer there are, and what was there before.
#[derive(Clone, Copy)]
pub(super) struct Ways {
    /// The hub holds a credential for the member.
    has_cluster: bool,
    /// A syncer in the member would not reach the hub.
    unreachable: bool,
    /// The heartbeat interval that is there already.
    heartbeat_interval: Option<Span>,
}

impl Ways {
    /// Those of a target on this hub. A Deployment that is there already may stay where the hub's
    /// URL has moved to loopback: all else of the target must still be writable.
    pub(super) fn new(
        config: &GuardConfig,
        has_cluster: bool,
        before: Option<&SyncerConfig>,
    ) -> Self {
        let deployed = before.is_some_and(|b| b.mode == Some(SyncerMode::Deployment));
        Self {
            has_cluster,
            unreachable: config.hub_on_loopback && !deployed,
            heartbeat_interval: before.and_then(|b| b.heartbeat_interval),
        }
    }
}

/// Errors of how the syncer is run.
pub(super) fn syncer(field: &str, syncer: &SyncerConfig, ways: Ways) -> Vec<Cause> {
    let mut causes = mode(&format!("{field}.mode"), syncer.mode, ways);
    if let Some(image) = &syncer.image {
        causes.extend(image_reference(&format!("{field}.image"), image));
    }
    if let Some(replicas) = syncer.replicas.filter(|r| !(1..=5).contains(r)) {
        let at = format!("{field}.replicas");
        causes.push(Cause::invalid(
            at,
            &json!(replicas),
            "must be between 1 and 5",
        ));
    }
    if let Some(resources) = &syncer.resources {
        let (requests, limits) = (
            format!("{field}.resources.requests"),
            format!("{field}.resources.limits"),
        );
        causes.extend(fields::resources(
            &requests,
            &resources.requests,
            Sign::NotNegative,
        ));
        causes.extend(fields::resources(
            &limits,
            &resources.limits,
            Sign::NotNegative,
        ));
        causes.extend(fields::not_above(
            &requests,
            &resources.requests,
            &resources.limits,
            "limit",
        ));
    }
    if let Some(namespace) = &syncer.downstream_namespace {
        causes.extend(fields::dns_label(
            &format!("{field}.downstreamNamespace"),
            namespace,
        ));
    }
    // One from before there was this bound may stay: all else of the target must still be writable.
    let beat = syncer.heartbeat_interval;
    causes.extend(fields::span(
        &format!("{field}.heartbeatInterval"),
        beat.filter(|_| beat != ways.heartbeat_interval),
        LEAST_HEARTBEAT,
        MOST_HEARTBEAT,
    ));
    let resync = format!("{field}.resyncPeriod");
    causes.extend(fields::span(
        &resync,
        syncer.resync_period,
        LEAST_RESYNC,
        MOST_RESYNC,
    ));
    causes
}

fn mode(field: &str, mode: Option<SyncerMode>, ways: Ways) -> Vec<Cause> {
    let Some(mode) = mode else { return Vec::new() };
    let value = json!(mode);
    let why = if mode != SyncerMode::External && !ways.has_cluster {
        "needs spec.clusterRef: the hub can run or install a syncer only with a Cluster's credential; use \"External\" without one"
    } else if mode == SyncerMode::Deployment && ways.unreachable {
        "the member cannot reach this hub, whose URL is on loopback: start it with --external-url, or use \"Hosted\""
    } else {
        return Vec::new();
    };
    vec![Cause::invalid(field, &value, why)]
}

/// Errors of a container image reference: `[host[:port]/]path[:tag][@digest]`.
fn image_reference(field: &str, image: &str) -> Vec<Cause> {
    if image.len() <= MOST_IMAGE && is_image(image) {
        return Vec::new();
    }
    let why = "must be an image reference such as \"registry.example.com/tmc/syncer:v1\"";
    vec![Cause::invalid(field, &json!(image), why)]
}

fn is_image(image: &str) -> bool {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].split_once(':') {
        Some((last, tag)) => (&rest[..slash + last.len()], Some(tag)),
        None => (rest, None),
    };
    is_image_name(name) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

fn is_image_name(name: &str) -> bool {
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        _ => (None, name),
    };
    host.is_none_or(is_host) && path.split('/').all(is_path_component)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let bytes = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    name.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(bytes))
        && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

fn is_path_component(part: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    edge(part.bytes().next()) && edge(part.bytes().last()) && part.bytes().all(inner)
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b))
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references_are_told_from_other_texts() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "busybox",
            "tmc/syncer",
            "registry.example.com/tmc/syncer:v1",
            "localhost:5000/a/b_c.d-e:latest",
            "ghcr.io/a/b",
            &digest,
        ] {
            assert!(is_image(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "A/b",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:b:c",
            "a b",
            "https://a/b",
            "a@",
            "a@sha256:zz",
            "a@sha256:12",
            "a;rm -rf",
            "host.example:99999/a",
            "-a",
        ] {
            assert!(!is_image(bad), "{bad}");
        }
    }
}
