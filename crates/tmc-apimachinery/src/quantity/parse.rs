//! Reading quantities, exactly and in time linear in the text, whatever it is.

use super::{Format, Quantity, QuantityError, UNIT};

/// Most digits that may matter: `i128::MAX` has 39.
const MAX_DIGITS: usize = 39;

/// A scale and the format that it implies.
#[derive(Clone, Copy)]
enum Suffix {
    Decimal { exponent: i64, format: Format },
    Binary { bits: u32 },
}

/// A text, taken apart: `-12.5Ki`.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    let parts = split(text)?;
    let suffix = suffix(parts.suffix)?;
    let magnitude = match suffix {
        Suffix::Decimal { exponent, .. } => decimal(&parts, exponent),
        Suffix::Binary { bits } => Some(binary(&parts, bits)),
    };
    let magnitude = magnitude.ok_or_else(|| QuantityError::TooLarge(shortened(text)))?;
    let format = match suffix {
        Suffix::Decimal { format, .. } => format,
        // A fraction of a unit has no binary form.
        Suffix::Binary { .. } if magnitude != 0 && magnitude < UNIT => Format::DecimalSi,
        Suffix::Binary { .. } => Format::BinarySi,
    };
    let nanos = if parts.negative {
        -magnitude
    } else {
        magnitude
    };
    Ok(Quantity { nanos, format })
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Empty);
    }
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = digits(unsigned);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if let Some(character) = suffix.chars().find(|c| !is_suffix_character(*c)) {
        return Err(QuantityError::Character {
            text: shortened(text),
            character,
        });
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(QuantityError::NoNumber(shortened(text)));
    }
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    Ok(Parts {
        negative,
        whole,
        fraction,
        suffix,
    })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn is_suffix_character(c: char) -> bool {
    c.is_ascii_digit() || "eEinumkKMGTP+-".contains(c)
}

fn suffix(text: &str) -> Result<Suffix, QuantityError> {
    let si = |exponent| {
        Ok(Suffix::Decimal {
            exponent,
            format: Format::DecimalSi,
        })
    };
    let binary = |bits| Ok(Suffix::Binary { bits });
    match text {
        "n" => si(-9),
        "u" => si(-6),
        "m" => si(-3),
        "" => si(0),
        "k" => si(3),
        "M" => si(6),
        "G" => si(9),
        "T" => si(12),
        "P" => si(15),
        "E" => si(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = text
                .strip_prefix(['e', 'E'])
                .and_then(|e| e.parse::<i32>().ok());
            let exponent = exponent.ok_or_else(|| QuantityError::Suffix(shortened(text)))?;
            let format = Format::DecimalExponent;
            Ok(Suffix::Decimal {
                exponent: exponent.into(),
                format,
            })
        }
    }
}

/// `whole.fraction × 10^exponent` in nano-units, rounded up; `None` if too large.
fn decimal(parts: &Parts<'_>, exponent: i64) -> Option<i128> {
    let digits = || {
        parts
            .whole
            .bytes()
            .chain(parts.fraction.bytes())
            .map(|b| b - b'0')
    };
    let leading_zeros = digits().take_while(|d| *d == 0).count();
    let significant = parts.whole.len() + parts.fraction.len() - leading_zeros;
    if significant == 0 {
        return Some(0);
    }
    // How many of the significant digits stand before the point, counted in nano-units.
    let whole = i64::try_from(parts.whole.len()).ok()? - i64::try_from(leading_zeros).ok()?;
    let places = whole + exponent + 9;
    let Ok(places) = usize::try_from(places) else {
        // Less than one nano-unit, but something.
        return Some(1);
    };
    if places > MAX_DIGITS {
        return None;
    }
    let mut nanos: i128 = 0;
    let significant_digits = digits().skip(leading_zeros);
    for digit in significant_digits.chain(std::iter::repeat(0)).take(places) {
        nanos = nanos.checked_mul(10)?.checked_add(digit.into())?;
    }
    // The last digit of a fraction is not a zero, so what is left over is something; the zeros at
    // the end of a whole number may be left over too and are nothing.
    let rest = digits().skip(leading_zeros + places).any(|d| d != 0);
    nanos.checked_add(rest.into())
}

/// `whole.fraction × 2^bits` in nano-units, rounded up; at most `2⁶³-1` units.
fn binary(parts: &Parts<'_>, bits: u32) -> i128 {
    const MAX: i128 = i64::MAX as i128 * UNIT;
    let scale = UNIT << bits;
    let Some(whole) = parts.whole_number().and_then(|n| n.checked_mul(scale)) else {
        return MAX;
    };
    // Horner's rule from the last digit on: exact, because a floor of floors is the floor.
    let (mut nanos, mut inexact) = (0, false);
    for digit in parts.fraction.bytes().rev() {
        let sum = i128::from(digit - b'0') * scale + nanos;
        nanos = sum / 10;
        inexact |= sum % 10 != 0;
    }
    (whole.saturating_add(nanos + i128::from(inexact))).min(MAX)
}

impl Parts<'_> {
    /// The digits before the point; `None` if they are more than any cap.
    fn whole_number(&self) -> Option<i128> {
        if self.whole.is_empty() {
            Some(0)
        } else {
            self.whole.parse().ok()
        }
    }
}
