//! Kubernetes quantities, exact (`k8s.io/apimachinery/pkg/api/resource`).
//!
//! A quantity is a whole number of nano-units and the format in which it is printed. There is no
//! floating point: what cannot be represented is rounded away from zero when parsed, as Kubernetes
//! does, and arithmetic either is exact or says that it overflowed.
//!
//! Printing is always canonical. (Go's type keeps a few spellings that are not, such as `1.500`.)

mod parse;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// Nano-units in a unit.
const UNIT: i128 = 1_000_000_000;
/// Nano-units in a milli-unit.
const MILLI: i128 = 1_000_000;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12M`: suffixes `n u m k M G T P E`.
    #[default]
    DecimalSi,
    /// `12Mi`: suffixes `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// An exact amount of a resource.
///
/// Compared, ordered and hashed by value alone: `1Ki` equals `1024`. The magnitude is at most
/// `i128::MAX` nano-units (1.7 × 10²⁹ units); values with a binary suffix are capped at `2⁶³-1`
/// units when parsed, as in Kubernetes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// There is nothing.
    #[error("a quantity must not be empty; write a number such as 500m, 2 or 1Gi")]
    Empty,
    /// There is no number where one must be.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', and {0:?} has no number"
    )]
    NoNumber(String),
    /// A character that cannot be there.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', but {text:?} has {character:?} in it"
    )]
    Character {
        /// What was given, shortened.
        text: String,
        /// The first character that does not fit.
        character: char,
    },
    /// The suffix is not one.
    #[error(
        "unable to parse quantity's suffix: {0:?} is none of n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or an exponent such as e3"
    )]
    Suffix(String),
    /// More than can be represented.
    #[error("the quantity {0:?} is too large")]
    TooLarge(String),
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole number of units.
    pub const fn new(units: i64, format: Format) -> Self {
        Self {
            nanos: units as i128 * UNIT,
            format,
        }
    }

    /// A whole number of thousandths of a unit.
    pub const fn from_milli(milli: i64, format: Format) -> Self {
        Self {
            nanos: milli as i128 * MILLI,
            format,
        }
    }

    /// A whole number of billionths of a unit.
    pub const fn from_nanos(nanos: i128, format: Format) -> Self {
        Self { nanos, format }
    }

    /// Reads a quantity: a decimal number with a suffix `n u m k M G T P E`, `Ki Mi Gi Ti Pi Ei`, an
    /// exponent `e3`, or none. Fractions of a nano-unit are rounded away from zero.
    ///
    /// # Errors
    /// Says which part of the text cannot be read, or that the value is too large.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }

    /// The value in nano-units.
    pub const fn nanos(&self) -> i128 {
        self.nanos
    }

    /// How it is written.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The same value, written in another format.
    #[must_use]
    pub const fn with_format(self, format: Format) -> Self {
        Self {
            nanos: self.nanos,
            format,
        }
    }

    /// Whether it is nothing.
    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below zero.
    pub const fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whole units, rounded away from zero; saturates at the bounds of `i64`.
    pub fn value(&self) -> i64 {
        self.scaled(UNIT)
    }

    /// Thousandths of a unit, rounded away from zero; saturates at the bounds of `i64`.
    pub fn milli_value(&self) -> i64 {
        self.scaled(MILLI)
    }

    fn scaled(&self, nanos: i128) -> i64 {
        let scaled = divide_away_from_zero(self.nanos, nanos);
        i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
    }

    /// The value as a floating-point number, for display and ratios; loses precision beyond 2⁵³.
    pub fn as_f64(&self) -> f64 {
        let (units, rest) = (self.nanos / UNIT, self.nanos % UNIT);
        units as f64 + rest as f64 / UNIT as f64
    }

    /// The sum; `None` on overflow. Nothing plus something takes the format of the something.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let nanos = self.nanos.checked_add(other.nanos)?;
        Some(Self {
            nanos,
            format: self.format_with(other),
        })
    }

    /// The difference; `None` on overflow. Formats as in [`Quantity::checked_add`].
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let nanos = self.nanos.checked_sub(other.nanos)?;
        Some(Self {
            nanos,
            format: self.format_with(other),
        })
    }

    /// The product with a whole number; `None` on overflow.
    #[must_use]
    pub fn checked_mul(self, factor: i64) -> Option<Self> {
        let nanos = self.nanos.checked_mul(i128::from(factor))?;
        Some(Self {
            nanos,
            format: self.format,
        })
    }

    /// So many hundredths of it, fractions of a nano-unit rounded away from zero; `None` on
    /// overflow.
    #[must_use]
    pub fn checked_percent(self, percent: u32) -> Option<Self> {
        let (hundreds, rest) = (self.nanos / 100, self.nanos % 100);
        let percent = i128::from(percent);
        let rest = divide_away_from_zero(rest * percent, 100);
        let nanos = hundreds.checked_mul(percent)?.checked_add(rest)?;
        Some(Self {
            nanos,
            format: self.format,
        })
    }

    /// The sum of many; `None` on overflow. The sum of none is [`Quantity::ZERO`].
    #[must_use]
    pub fn checked_sum(quantities: impl IntoIterator<Item = Self>) -> Option<Self> {
        quantities
            .into_iter()
            .try_fold(Self::ZERO, Self::checked_add)
    }

    fn format_with(self, other: Self) -> Format {
        if self.is_zero() {
            other.format
        } else {
            self.format
        }
    }
}

fn divide_away_from_zero(value: i128, divisor: i128) -> i128 {
    value / divisor + (value % divisor).signum()
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

/// The canonical form: no fraction, the largest suffix with which nothing is lost. A binary format
/// is kept for whole numbers of at least 1024 only.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.nanos / UNIT;
        let whole = self.nanos % UNIT == 0;
        match self.format {
            _ if self.nanos == 0 => f.write_str("0"),
            Format::BinarySi if whole && units.unsigned_abs() >= 1024 => write_binary(f, units),
            Format::BinarySi | Format::DecimalSi => {
                let (number, exponent) = decimal(self.nanos, 18);
                let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                let suffix = usize::try_from(exponent / 3 + 3)
                    .ok()
                    .and_then(|i| suffixes.get(i));
                write!(f, "{number}{}", suffix.unwrap_or(&""))
            }
            Format::DecimalExponent => match decimal(self.nanos, 27) {
                (number, 0) => write!(f, "{number}"),
                (number, exponent) => write!(f, "{number}e{exponent}"),
            },
        }
    }
}

/// The number and the largest exponent, a multiple of 3 up to `max`, that lose nothing.
fn decimal(nanos: i128, max: i32) -> (i128, i32) {
    let (mut number, mut exponent) = (nanos, -9);
    while exponent < max && number % 1000 == 0 {
        number /= 1000;
        exponent += 3;
    }
    (number, exponent)
}

fn write_binary(f: &mut fmt::Formatter<'_>, units: i128) -> fmt::Result {
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let mut suffix = suffixes.next().unwrap_or("");
    let mut number = units;
    while number.unsigned_abs() >= 1024 && number % 1024 == 0 {
        let Some(larger) = suffixes.next() else { break };
        suffix = larger;
        number /= 1024;
    }
    write!(f, "{number}{suffix}")
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a string or a number; blanks around the text are ignored, as in Kubernetes.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity such as \"500m\", \"1Gi\" or 2")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        Quantity::parse(text.trim()).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, units: i64) -> Result<Quantity, E> {
        Ok(Quantity::new(units, Format::DecimalSi))
    }

    fn visit_u64<E: de::Error>(self, units: u64) -> Result<Quantity, E> {
        Ok(Quantity::from_nanos(
            i128::from(units) * UNIT,
            Format::DecimalSi,
        ))
    }

    fn visit_f64<E: de::Error>(self, units: f64) -> Result<Quantity, E> {
        // The shortest text that reads back as this number: what the document said.
        Quantity::parse(&units.to_string()).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests;
