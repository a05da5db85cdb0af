//! Percent-encoding of what goes into request paths and queries.

/// Appends one path segment. Anything that could end the segment or change its meaning is encoded;
/// `:` stays (kcp's `resource:identity`).
pub(crate) fn push_segment(path: &mut String, segment: &str) {
    path.push('/');
    // `.` and `..` would be resolved by whoever normalises the path.
    if segment == "." || segment == ".." {
        for _ in segment.bytes() {
            path.push_str("%2E");
        }
        return;
    }
    push_encoded(path, segment, b":-._~");
}

/// Appends `key=value`, with the separator that is due.
pub(crate) fn push_query(uri: &mut String, key: &str, value: &str) {
    uri.push(if uri.contains('?') { '&' } else { '?' });
    uri.push_str(key);
    uri.push('=');
    push_encoded(uri, value, b"-._~");
}

fn push_encoded(out: &mut String, text: &str, plain: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_one_segment() {
        for (segment, expected) in [
            ("web", "/web"),
            ("widgets:abc", "/widgets:abc"),
            ("a/b", "/a%2Fb"),
            ("..", "/%2E%2E"),
            ("a?b#c", "/a%3Fb%23c"),
            ("ä", "/%C3%A4"),
        ] {
            let mut path = String::new();
            push_segment(&mut path, segment);
            assert_eq!(path, expected);
        }
    }

    #[test]
    fn queries_are_joined_and_encoded() {
        let mut uri = "/api".to_owned();
        push_query(&mut uri, "labelSelector", "a in (b,c)");
        push_query(&mut uri, "limit", "5");
        assert_eq!(uri, "/api?labelSelector=a%20in%20%28b%2Cc%29&limit=5");
    }
}
