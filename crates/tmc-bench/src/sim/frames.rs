//! Events of watches as they come over a wire, and how they come again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use parking_lot::Mutex;
use serde_json::Value;

/// The last event that was delivered to each watch of a wire, by what is watched.
#[derive(Clone, Default)]
pub(crate) struct Delivered(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl Delivered {
    /// Notes the last event of these lines.
    pub(crate) fn note(&self, watched: &str, lines: &Bytes) {
        if let Some(last) = lines_of(lines).last() {
            let last = lines.slice_ref(last);
            self.0.lock().insert(watched.to_owned(), last);
        }
    }

    /// The event that was delivered last, if it is the one after which a watch goes on. (An older one
    /// no server sends again, for it would take back what a list has told meanwhile.)
    pub(crate) fn again(&self, uri: &Uri) -> Option<Bytes> {
        let line = self.0.lock().get(&watched(uri)).cloned()?;
        let event: Value = serde_json::from_slice(&line).ok()?;
        let version = event
            .pointer("/object/metadata/resourceVersion")?
            .as_str()?;
        let after = pairs(uri).find_map(|pair| pair.strip_prefix("resourceVersion="))?;
        (version == after).then_some(line)
    }
}

/// What a watch is of: its address without the place at which it goes on.
pub(crate) fn watched(uri: &Uri) -> String {
    let place = |pair: &&str| !pair.starts_with("resourceVersion") && !pair.starts_with("timeout");
    let of: Vec<&str> = pairs(uri).filter(place).collect();
    format!("{}?{}", uri.path(), of.join("&"))
}

fn pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query().unwrap_or_default().split('&')
}

/// Tells which data of a stream are whole lines.
#[derive(Default)]
pub(crate) struct Cuts {
    /// The last data ended within a line.
    within: bool,
}

impl Cuts {
    /// Whether these, the next data of the stream, are whole lines.
    pub(crate) fn whole(&mut self, data: &Bytes) -> bool {
        let begins = !self.within;
        if !data.is_empty() {
            self.within = !data.ends_with(b"\n");
        }
        begins && !self.within && !data.is_empty()
    }
}

/// Each of these lines twice in a row.
pub(crate) fn twice(lines: &Bytes) -> Bytes {
    let mut all = Vec::with_capacity(2 * lines.len());
    for line in lines_of(lines) {
        all.extend_from_slice(line);
        all.extend_from_slice(line);
    }
    all.into()
}

fn lines_of(lines: &Bytes) -> impl Iterator<Item = &[u8]> {
    lines.split_inclusive(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect("an address")
    }

    fn event(version: &str) -> String {
        format!(
            "{{\"type\":\"MODIFIED\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\"}}}}}}\n"
        )
    }

    #[test]
    fn only_whole_lines_come_twice_each_beside_itself() {
        let mut cuts = Cuts::default();
        assert!(cuts.whole(&Bytes::from("a\nb\n")));
        assert!(!cuts.whole(&Bytes::from("c\nd")));
        assert!(!cuts.whole(&Bytes::from("e\n")));
        assert!(!cuts.whole(&Bytes::new()));
        assert!(cuts.whole(&Bytes::from("f\n")));
        assert_eq!(twice(&Bytes::from("a\nb\n")), Bytes::from("a\na\nb\nb\n"));
    }

    #[test]
    fn the_last_event_comes_again_to_a_watch_that_goes_on_after_it() {
        let first = uri("/api/v1/namespaces?watch=true&resourceVersion=1&timeoutSeconds=290");
        let delivered = Delivered::default();
        assert_eq!(delivered.again(&first), None);
        let lines = Bytes::from(event("2") + &event("3"));
        delivered.note(&watched(&first), &lines);
        let goes_on = |version: &str| {
            uri(&format!(
                "/api/v1/namespaces?watch=true&resourceVersion={version}&timeoutSeconds=280"
            ))
        };
        assert_eq!(
            delivered.again(&goes_on("3")),
            Some(Bytes::from(event("3")))
        );
        assert_eq!(delivered.again(&goes_on("4")), None, "a list told more");
        assert_eq!(delivered.again(&goes_on("")), None);
        let other = uri("/api/v1/secrets?watch=true&resourceVersion=3");
        assert_eq!(delivered.again(&other), None);
    }
}
