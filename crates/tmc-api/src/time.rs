//! Points in time and spans as the API writes them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

static SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));
static MILLISECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// A point in time as objects carry it: RFC3339, UTC, whole seconds (the rest is cut on writing
/// **and** on making one, so that equality is equality on the wire).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(Timestamp);

impl Time {
    /// The second that a point in time lies in.
    pub fn new(at: Timestamp) -> Self {
        // Euclidean, so that times before 1970 are cut towards the past as well.
        let nanos = at.as_nanosecond();
        let whole = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
        Self(Timestamp::from_second(whole).unwrap_or(at))
    }

    /// The point in time.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self::new(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&SECONDS.timestamp_to_string(&self.0))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Timestamp::deserialize(deserializer).map(Self::new)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// A point in time as the syncer endpoints carry it: RFC3339, UTC, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MilliTime(Timestamp);

impl MilliTime {
    /// The millisecond that a point in time lies in.
    pub fn new(at: Timestamp) -> Self {
        Self(Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at))
    }

    /// The point in time.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for MilliTime {
    fn from(at: Timestamp) -> Self {
        Self::new(at)
    }
}

impl fmt::Display for MilliTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&MILLISECONDS.timestamp_to_string(&self.0))
    }
}

impl Serialize for MilliTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MilliTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Timestamp::deserialize(deserializer).map(Self::new)
    }
}

/// A span of time as Go writes it (`30s`, `1m30s`, `250ms`); never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span(Duration);

/// A text that is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("\"{0}\" is not a duration such as \"30s\", \"10m\" or \"1h30m\"")]
pub struct SpanError(String);

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Go's longest duration; what is longer cannot be read by Go clients.
const MAX_NANOS: u128 = i64::MAX as u128;
/// Digits after the point beyond which a fraction says nothing any more (hours to nanoseconds).
const MAX_FRACTION: usize = 18;

impl Span {
    /// A span of this length.
    pub const fn new(length: Duration) -> Self {
        Self(length)
    }

    /// Whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Its length.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Whether it has no length.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for Span {
    fn from(length: Duration) -> Self {
        Self(length)
    }
}

/// One number and unit, and what follows.
fn component(text: &str) -> Option<(u128, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u128>().ok()
        }
    };
    let fraction = &fraction[..fraction.len().min(MAX_FRACTION)];
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let total = digits(whole)? * nanos + digits(fraction)? * nanos / scale;
    (total <= MAX_NANOS).then_some((total, rest))
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let refuse = || SpanError(text.chars().take(64).collect());
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(refuse());
        }
        let mut total = 0u128;
        while !rest.is_empty() {
            let (nanos, tail) = component(rest).ok_or_else(refuse)?;
            total += nanos;
            if total > MAX_NANOS {
                return Err(refuse());
            }
            rest = tail;
        }
        let nanos = u64::try_from(total).map_err(|_| refuse())?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

/// Seconds or less with their fraction, without trailing zeros.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: (u128, &str)) -> fmt::Result {
    let (size, name) = unit;
    write!(f, "{}", nanos / size)?;
    let rest = nanos % size;
    if rest > 0 {
        let width = size.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: u128 = 1_000_000_000;
        let nanos = self.0.as_nanos();
        match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => return write_decimal(f, nanos, (1, "ns")),
            1_000..1_000_000 => return write_decimal(f, nanos, (1_000, "µs")),
            1_000_000..SECOND => return write_decimal(f, nanos, (1_000_000, "ms")),
            _ => {}
        }
        let (hours, minutes) = (nanos / (3_600 * SECOND), nanos / (60 * SECOND) % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write_decimal(f, nanos % (60 * SECOND), (SECOND, "s"))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 64,
            "pattern": r"^\+?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_whole_seconds_of_utc() {
        let at: Timestamp = "2026-03-01T12:30:45.987654321+02:00".parse().unwrap();
        let time = Time::new(at);
        assert_eq!(
            serde_json::to_string(&time).unwrap(),
            "\"2026-03-01T10:30:45Z\""
        );
        let back: Time = serde_json::from_str("\"2026-03-01T10:30:45.5Z\"").unwrap();
        assert_eq!(back, time);
        assert!(serde_json::from_str::<Time>("\"yesterday\"").is_err());
    }

    #[test]
    fn a_time_before_the_epoch_is_cut_towards_the_past() {
        let at = Timestamp::from_millisecond(-1).unwrap();
        assert_eq!(Time::new(at).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn the_endpoints_times_have_milliseconds() {
        let at: Timestamp = "2026-03-01T10:30:45.1239Z".parse().unwrap();
        assert_eq!(MilliTime::new(at).to_string(), "2026-03-01T10:30:45.123Z");
        let text = serde_json::to_string(&MilliTime::new(at)).unwrap();
        assert_eq!(
            serde_json::from_str::<MilliTime>(&text).unwrap(),
            MilliTime::new(at)
        );
    }

    #[test]
    fn spans_are_read_and_written_as_go_does() {
        for (text, canonical) in [
            ("30s", "30s"),
            ("10m", "10m0s"),
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1h30m5.5s", "1h30m5.5s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("+5s", "5s"),
            (".5s", "500ms"),
            ("1.s", "1s"),
            ("250ms", "250ms"),
            ("1500us", "1.5ms"),
            ("15µs", "15µs"),
            ("7ns", "7ns"),
            ("0.1h", "6m0s"),
        ] {
            let span: Span = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(span.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse::<Span>().unwrap(), span);
        }
    }

    #[test]
    fn what_is_no_span_is_refused() {
        let endless = "9".repeat(50) + "h";
        for text in [
            "", "+", "5", "s", ".s", "-5s", "5x", "1..5s", "1 s", "3000000h", "5s ", "1h-5m",
            &endless,
        ] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
