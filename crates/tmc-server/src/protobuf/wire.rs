//! The protobuf wire format: numbered fields, each a number or a run of bytes.

use super::{Malformed, Result, malformed};

/// A field's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raw<'a> {
    /// Wire types 0, 1 and 5.
    Number(u64),
    /// Wire type 2: text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// Fields of a message, in order; ends after the first that cannot be read.
pub(super) struct Fields<'a> {
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    fn read(&mut self) -> Result<(u32, Raw<'a>)> {
        let tag = varint(&mut self.left)?;
        let number =
            u32::try_from(tag >> 3).or_else(|_| malformed("a field number is too large"))?;
        let raw = match tag & 7 {
            0 => Raw::Number(varint(&mut self.left)?),
            1 => Raw::Number(self.fixed::<8>().map(u64::from_le_bytes)?),
            2 => {
                let length = varint(&mut self.left)?;
                Raw::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => Raw::Number(self.fixed::<4>().map(u32::from_le_bytes)?.into()),
            _ => return malformed("a field has an unknown wire type"),
        };
        Ok((number, raw))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.left.split_at_checked(length) {
            Some((taken, left)) => {
                self.left = left;
                Ok(taken)
            }
            None => malformed("it breaks off"),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?
            .try_into()
            .or_else(|_| malformed("it breaks off"))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Raw<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.left = &[];
        }
        Some(field)
    }
}

/// A base-128 number of at most ten bytes.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let Some((byte, left)) = bytes.split_first() else {
            return malformed("it breaks off");
        };
        *bytes = left;
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    malformed("a number is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_to_their_last_byte() {
        for (bytes, expected) in [
            (&[0x00][..], 0),
            (&[0x7f], 127),
            (&[0xac, 0x02], 300),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                u64::MAX,
            ),
        ] {
            let mut left = bytes;
            assert_eq!(varint(&mut left), Ok(expected));
            assert!(left.is_empty());
        }
        assert!(varint(&mut &[0x80][..]).is_err());
        assert!(varint(&mut &[0x80; 11][..]).is_err());
    }

    #[test]
    fn fields_of_every_wire_type_are_read_and_a_broken_one_ends_it() {
        let bytes = [
            0x08, 5, 0x12, 1, b'x', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0,
        ];
        let fields: Vec<_> = Fields::new(&bytes).collect::<Result<_>>().unwrap();
        let expected = [
            (1, Raw::Number(5)),
            (2, Raw::Bytes(b"x")),
            (3, Raw::Number(1)),
            (4, Raw::Number(2)),
        ];
        assert_eq!(fields, expected);
        for broken in [
            &[0x12, 9, 1][..],
            &[0x0b],
            &[0x1d, 1],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            let fields: Vec<_> = Fields::new(broken).collect();
            assert_eq!(fields.len(), 1);
            assert!(fields[0].is_err());
        }
    }
}
