//! String and number formats that Kubernetes enforces; unknown ones are ignored, as upstream.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A recognised format.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Int32,
    Int64,
    Float,
    Double,
    /// A format of strings: the name as messages print it, and its check.
    Text(&'static str, Check),
}

impl Format {
    /// The format of a name, for a schema of numbers (`integer`, `number`) or of strings.
    pub(super) fn of_integer(name: &str) -> Option<Self> {
        match name {
            "int32" => Some(Self::Int32),
            "int64" => Some(Self::Int64),
            _ => None,
        }
    }

    /// A format of `number`.
    pub(super) fn of_number(name: &str) -> Option<Self> {
        match name {
            "float" => Some(Self::Float),
            "double" => Some(Self::Double),
            _ => None,
        }
    }

    /// A format of `string`; hyphens in names do not matter.
    pub(super) fn of_text(name: &str) -> Option<Self> {
        let plain = |s: &str| s.replace('-', "");
        let wanted = plain(name);
        TEXT.iter()
            .find(|(n, _)| plain(n) == wanted)
            .map(|(n, check)| Self::Text(n, *check))
    }

    /// The name as messages print it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float => "float",
            Self::Double => "double",
            Self::Text(name, _) => name,
        }
    }
}

/// Whether a text has a format.
type Check = fn(&str) -> bool;

const TEXT: &[(&str, Check)] = &[
    ("bsonobjectid", |s| s.len() == 24 && hex(s)),
    ("byte", byte),
    ("cidr", cidr),
    ("creditcard", credit_card),
    ("date", date),
    ("date-time", date_time),
    ("duration", duration),
    ("email", email),
    ("hexcolor", hex_color),
    ("hostname", hostname),
    ("ipv4", ipv4),
    ("ipv6", |s| s.parse::<Ipv6Addr>().is_ok()),
    ("isbn", |s| isbn10(s) || isbn13(s)),
    ("isbn10", isbn10),
    ("isbn13", isbn13),
    ("k8s-long-name", |s| {
        s.len() <= 253 && s.split('.').all(label)
    }),
    ("k8s-short-name", |s| s.len() <= 63 && label(s)),
    ("mac", mac),
    ("password", |_| true),
    ("rgbcolor", rgb_color),
    ("ssn", ssn),
    ("uri", uri),
    ("uuid", |s| uuid(s, None)),
    ("uuid3", |s| uuid(s, Some(b'3'))),
    ("uuid4", |s| uuid(s, Some(b'4'))),
    ("uuid5", |s| uuid(s, Some(b'5'))),
];

fn hex(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_hexdigit())
}

fn digits(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())
}

fn label(s: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !s.is_empty() && s.bytes().all(inner) && !s.starts_with('-') && !s.ends_with('-')
}

/// Standard base64; line breaks and the empty string pass, as Go's decoder has it.
fn byte(s: &str) -> bool {
    if s.contains(['\n', '\r']) {
        let joined: String = s.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        return STANDARD.decode(joined).is_ok();
    }
    STANDARD.decode(s).is_ok()
}

/// Leading zeros are tolerated, as Kubernetes does.
fn ipv4(s: &str) -> bool {
    let part = |p: &str| digits(p) && p.len() <= 10 && p.parse::<u32>().is_ok_and(|n| n < 256);
    if s.split('.').count() == 4 && s.split('.').all(part) {
        return true;
    }
    // An IPv4-mapped IPv6 address has dots, too.
    s.contains('.')
        && s.parse::<Ipv6Addr>()
            .is_ok_and(|ip| ip.to_ipv4_mapped().is_some())
}

fn cidr(s: &str) -> bool {
    let Some((address, length)) = s.split_once('/') else {
        return false;
    };
    if !digits(length) || length.len() > 3 {
        return false;
    }
    let Ok(length) = length.parse::<u16>() else {
        return false;
    };
    if address.parse::<Ipv6Addr>().is_ok() {
        return length <= 128;
    }
    length <= 32 && (address.parse::<Ipv4Addr>().is_ok() || ipv4(address))
}

fn mac(s: &str) -> bool {
    let groups = |separator: char, width: usize, counts: &[usize]| {
        counts.contains(&s.split(separator).count())
            && s.split(separator).all(|g| g.len() == width && hex(g))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

fn uuid(s: &str, version: Option<u8>) -> bool {
    let mut bare = String::with_capacity(32);
    for (at, b) in s.bytes().enumerate() {
        match b {
            b'-' if matches!(bare.len(), 8 | 12 | 16 | 20) && at > 0 && !s[..at].ends_with('-') => {
            }
            b if b.is_ascii_hexdigit() => bare.push(char::from(b)),
            _ => return false,
        }
    }
    let bytes = bare.as_bytes();
    let variant = |b: u8| matches!(b.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b');
    bytes.len() == 32
        && !s.ends_with('-')
        && version.is_none_or(|v| bytes[12] == v && (v == b'3' || variant(bytes[16])))
}

fn date(s: &str) -> bool {
    let bytes = s.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' || !s.is_ascii() {
        return false;
    }
    let (Ok(year), Ok(month), Ok(day)) = (
        s[..4].parse::<i16>(),
        s[5..7].parse::<i8>(),
        s[8..].parse::<i8>(),
    ) else {
        return false;
    };
    digits(&s[..4])
        && digits(&s[5..7])
        && digits(&s[8..])
        && jiff::civil::Date::new(year, month, day).is_ok()
}

fn date_time(s: &str) -> bool {
    let Some((day, time)) = s.split_once(['T', 't']) else {
        return false;
    };
    let bytes = time.as_bytes();
    if !date(day) || bytes.len() < 9 || !time.is_ascii() || bytes[2] != b':' || bytes[5] != b':' {
        return false;
    }
    let within = |part: &str, most: u8| digits(part) && part.parse::<u8>().is_ok_and(|n| n <= most);
    if !within(&time[..2], 23) || !within(&time[3..5], 59) || !within(&time[6..8], 59) {
        return false;
    }
    let rest = &time[8..];
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let end = fraction
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(fraction.len());
            if end == 0 {
                return false;
            }
            &fraction[end..]
        }
        None => rest,
    };
    let offset = |z: &str| {
        let b = z.as_bytes();
        b.len() == 6
            && matches!(b[0], b'+' | b'-')
            && digits(&z[1..3])
            && b[3] == b':'
            && digits(&z[4..])
    };
    zone.eq_ignore_ascii_case("z") || offset(zone)
}

/// Go's `time.ParseDuration`, or words as Scala has them (`3 days 2 hours`).
fn duration(s: &str) -> bool {
    go_duration(s) || scala_duration(s)
}

fn go_duration(s: &str) -> bool {
    let mut rest = s.strip_prefix(['-', '+']).unwrap_or(s);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number = &rest[..end];
        if number.bytes().filter(|b| *b == b'.').count() > 1
            || !number.contains(|c: char| c.is_ascii_digit())
        {
            return false;
        }
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        if !matches!(
            &rest[..end],
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h"
        ) {
            return false;
        }
        rest = &rest[end..];
    }
    true
}

fn scala_duration(s: &str) -> bool {
    const EXACT: &[&str] = &["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"];
    const WORDS: &[&str] = &[
        "nano", "micro", "milli", "sec", "min", "hour", "day", "week",
    ];
    let mut any = false;
    let mut rest = s;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        if end > 18 {
            return false;
        }
        rest = rest[end..].trim_start();
        let end = rest
            .find(|c: char| !c.is_ascii_alphabetic() && c != 'µ')
            .unwrap_or(rest.len());
        let unit = rest[..end].to_lowercase();
        any |= EXACT.contains(&unit.as_str()) || WORDS.iter().any(|w| unit.starts_with(w));
        rest = &rest[end..];
    }
    any
}

fn email(s: &str) -> bool {
    let address = match s.trim().strip_suffix('>').and_then(|s| s.rsplit_once('<')) {
        Some((_, inner)) => inner,
        None => s.trim(),
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let dotted =
        |s: &str| !s.is_empty() && s.split('.').all(|a| !a.is_empty() && a.chars().all(atom));
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.starts_with('[') && domain.ends_with(']');
    (quoted || dotted(local)) && (literal || dotted(domain))
}

fn hostname(s: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || c == '-' || (!c.is_ascii() && !c.is_whitespace());
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(inner)
    };
    let top = s.rsplit('.').next().unwrap_or_default();
    let named =
        !s.contains('.') || (top.chars().count() >= 2 && top.chars().all(char::is_alphabetic));
    s.len() <= 255 && s.split('.').all(label) && named
}

/// What Go's `url.ParseRequestURI` takes: an absolute URI or an absolute path.
fn uri(s: &str) -> bool {
    if s.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    let rest = match s.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            rest
        }
        _ if s.starts_with('/') => return escapes(s.split('?').next().unwrap_or_default()),
        _ => return false,
    };
    let Some(authority) = rest.strip_prefix("//") else {
        return rest.starts_with('/') && escapes(rest) || !rest.is_empty() || s.ends_with(':');
    };
    let end = authority.find(['/', '?']).unwrap_or(authority.len());
    let (host, path) = authority.split_at(end);
    let host = host.rsplit('@').next().unwrap_or_default();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let plain = |c: char| {
        !c.is_ascii() || c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=%[]:\"<>".contains(c)
    };
    name.chars().all(plain)
        && port.bytes().all(|b| b.is_ascii_digit())
        && escapes(name)
        && escapes(path.split('?').next().unwrap_or_default())
}

/// Whether every `%` starts a two-digit escape.
fn escapes(s: &str) -> bool {
    let bytes = s.as_bytes();
    (0..bytes.len()).filter(|&i| bytes[i] == b'%').all(|i| {
        bytes
            .get(i + 1..i + 3)
            .is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })
}

fn without(s: &str, dropped: &[char]) -> String {
    s.chars().filter(|c| !dropped.contains(c)).collect()
}

fn isbn10(s: &str) -> bool {
    let s = without(s, &['-', ' ']);
    let value = |(i, c): (usize, char)| match c {
        'X' if i == 9 => Some(10),
        c => c.to_digit(10),
    };
    let sum = |s: &str| {
        s.chars()
            .enumerate()
            .map(|(i, c)| Some((i as u32 + 1) * value((i, c))?))
            .sum::<Option<u32>>()
    };
    s.len() == 10 && sum(&s).is_some_and(|n| n % 11 == 0)
}

fn isbn13(s: &str) -> bool {
    let s = without(s, &['-', ' ']);
    let sum = |s: &str| {
        s.chars()
            .enumerate()
            .map(|(i, c)| Some(c.to_digit(10)? * if i % 2 == 0 { 1 } else { 3 }))
            .sum::<Option<u32>>()
    };
    s.len() == 13 && sum(&s).is_some_and(|n| n % 10 == 0)
}

fn credit_card(s: &str) -> bool {
    let s: String = s.chars().filter(char::is_ascii_digit).collect();
    let luhn = |s: &str| {
        let digits = s.bytes().rev().enumerate();
        digits
            .map(|(i, b)| {
                let d = u32::from(b - b'0') << (i % 2);
                if d > 9 { d - 9 } else { d }
            })
            .sum::<u32>()
    };
    (13..=19).contains(&s.len()) && luhn(&s).is_multiple_of(10)
}

fn ssn(s: &str) -> bool {
    let bytes = s.as_bytes();
    let bare: Vec<u8> = bytes.iter().copied().filter(u8::is_ascii_digit).collect();
    let separators = |at: usize| bytes.get(at).is_some_and(|b| matches!(b, b'-' | b' '));
    let first = usize::from(separators(3));
    let second = usize::from(separators(5 + first));
    bare.len() == 9 && bytes.len() == 9 + first + second
}

fn hex_color(s: &str) -> bool {
    let s = s.strip_prefix('#').unwrap_or(s);
    matches!(s.len(), 3 | 6) && hex(s)
}

fn rgb_color(s: &str) -> bool {
    let inner = s.strip_prefix("rgb(").and_then(|s| s.strip_suffix(')'));
    let level = |p: &str| {
        let p = p.trim_matches([' ', '\t', '\n', '\r']);
        digits(p)
            && p.len() <= 3
            && (p == "0" || !p.starts_with('0'))
            && p.parse::<u16>().is_ok_and(|n| n < 256)
    };
    inner.is_some_and(|s| s.split(',').count() == 3 && s.split(',').all(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_what_kubernetes_accepts() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "date-time",
                &[
                    "2024-02-29T23:59:59Z",
                    "2024-01-01t00:00:00.123456z",
                    "2024-01-01T00:00:00+02:00",
                ],
                &[
                    "2023-02-29T00:00:00Z",
                    "2024-01-01",
                    "2024-01-01T24:00:00Z",
                    "2024-01-01T00:00:00",
                    "x",
                    "2024-01-01T00:00:00.Z",
                    "2024-01-01Tä0:00:00Z",
                ],
            ),
            (
                "date",
                &["2024-12-31"],
                &["2024-13-01", "24-01-01", "2024-1-1", "+024-01-01"],
            ),
            ("byte", &["", "aGk=", "aG\nk="], &["aGk", "?"]),
            (
                "ipv4",
                &["1.2.3.4", "01.2.3.4", "::ffff:1.2.3.4"],
                &["1.2.3", "256.1.1.1", "::1", ""],
            ),
            ("ipv6", &["::1", "fe80::1"], &["1.2.3.4", "g::"]),
            (
                "cidr",
                &["10.0.0.0/8", "::/0"],
                &["10.0.0.0", "10.0.0.0/33", "::/129", "x/1", "1.1.1.1/"],
            ),
            (
                "mac",
                &["00:11:22:33:44:55", "0011.2233.4455"],
                &["00:11", "zz:11:22:33:44:55"],
            ),
            (
                "uuid",
                &[
                    "123e4567-e89b-12d3-a456-426614174000",
                    "123E4567E89B12D3A456426614174000",
                ],
                &["123", "123e4567--e89b-12d3-a456-42661417400", "-"],
            ),
            (
                "uuid4",
                &["123e4567-e89b-42d3-a456-426614174000"],
                &["123e4567-e89b-12d3-a456-426614174000"],
            ),
            (
                "uri",
                &[
                    "http://a/b?c=%zz",
                    "/x",
                    "mailto:a@b",
                    "https://h:1/",
                    "http://[::1]:80/",
                ],
                &[
                    "",
                    "a/b",
                    "http://a b/",
                    "/%zz",
                    "http://h:x/",
                    "ht tp://a",
                    "/\u{1}",
                ],
            ),
            (
                "email",
                &["a@b.c", "A <a@b>", "\"x y\"@b"],
                &["a", "@b", "a@", "a b@c"],
            ),
            (
                "hostname",
                &["a", "my-host", "example.com", "a.b.example.london"],
                &["-a", "a_b", "", "a..b", "1.2.3.4"],
            ),
            (
                "duration",
                &["1h2m", "1.5s", "0", "-3ms", "3 days", "2 weeks 1 min"],
                &["", "1", "1x", "h", "1.s.2x"],
            ),
            (
                "isbn10",
                &["0321751043", "0-321-75104-3"],
                &["0321751044", "03217510"],
            ),
            (
                "isbn",
                &["978-0321751041", "0321751043"],
                &["9780321751042"],
            ),
            (
                "creditcard",
                &["4111 1111 1111 1111"],
                &["4111111111111112", "1"],
            ),
            (
                "ssn",
                &["123-45-6789", "123456789"],
                &["123-456789-", "12-345-6789"],
            ),
            ("hexcolor", &["#fff", "A0B1C2"], &["#ff", "#ggg"]),
            (
                "rgbcolor",
                &["rgb(1, 2,255)"],
                &["rgb(1,2)", "rgb(1,2,256)", "rgb(01,2,3)"],
            ),
            ("bsonobjectid", &["0123456789abcdef01234567"], &["0123"]),
            ("k8s-short-name", &["a-b"], &["a.b", "A", "-a"]),
            ("k8s-long-name", &["a.b-c"], &["a..b", "A"]),
            ("password", &["", "x"], &[]),
        ];
        for (name, good, bad) in table {
            let Some(Format::Text(_, check)) = Format::of_text(name) else {
                panic!("{name}")
            };
            for text in *good {
                assert!(check(text), "{name}: {text:?}");
            }
            for text in *bad {
                assert!(!check(text), "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn names_are_normalised_and_unknown_ones_ignored() {
        assert_eq!(
            Format::of_text("datetime").map(Format::name),
            Some("date-time")
        );
        assert!(Format::of_text("int-or-string").is_none());
        assert_eq!(Format::of_integer("int32").map(Format::name), Some("int32"));
        assert!(Format::of_integer("double").is_none());
        assert_eq!(
            Format::of_number("double").map(Format::name),
            Some("double")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_format_panic(text in ".*") {
            for (_, check) in TEXT {
                check(&text);
            }
        }
    }
}
