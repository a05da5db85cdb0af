//! Keys that a JSON text holds twice, for `fieldValidation=Strict` and `Warn`.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::trail::Trail;

/// Most duplicates that are named.
const MAX_NAMED: usize = 1_000;

/// Paths of object members that occur more than once in a JSON text (`spec.replicas`), each once,
/// sorted. Of a malformed text: what was seen before the mistake, which the parser reports.
pub fn duplicate_fields(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    // A syntax error is the business of whoever parses the value.
    let _ = Scan {
        trail: &Trail::ROOT,
        found: &mut found,
    }
    .deserialize(&mut json);
    found.sort();
    found.dedup();
    found
}

struct Scan<'a> {
    trail: &'a Trail<'a>,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Scan<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let trail = self.trail.index(index);
            if list
                .next_element_seed(Scan {
                    trail: &trail,
                    found: &mut *self.found,
                })?
                .is_none()
            {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let trail = self.trail.field(&name);
            if seen.contains(&name) && self.found.len() < MAX_NAMED {
                self.found.push(trail.to_string());
            }
            map.next_value_seed(Scan {
                trail: &trail,
                found: &mut *self.found,
            })?;
            seen.insert(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_given_twice_are_named_by_path_once() {
        for (text, expected) in [
            (r#"{"a":1,"a":2,"a":3}"#, vec!["a"]),
            (r#"{"spec":{"x":{"b":1,"b":2}},"z":1}"#, vec!["spec.x.b"]),
            (
                r#"{"l":[{"n":1},{"n":1,"n":2}],"l":0}"#,
                vec!["l", "l[1].n"],
            ),
            (
                r#"{"a":{"b":1},"c":{"b":1.5,"d":null,"e":true,"f":"x","g":-1}}"#,
                vec![],
            ),
            (r#"{"a":1,"a":"#, vec!["a"]),
            ("nonsense", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(duplicate_fields(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_bomb_of_brackets_is_survived() {
        assert_eq!(
            duplicate_fields("[".repeat(1 << 20).as_bytes()),
            Vec::<String>::new()
        );
    }
}
