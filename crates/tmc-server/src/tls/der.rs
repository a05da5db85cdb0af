//! Just enough DER to give a signed structure another subject and sign it again. The certificate
//! library keeps one value per attribute type, but a subject has one `O` for every group.

use rcgen::{KeyPair, SigningKey};

use super::TlsError;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;

/// Object identifiers 2.5.4.10 and 2.5.4.3, encoded.
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Position of the subject in the signed part of a certificate (version, serial, algorithm,
/// issuer, validity, subject, …).
pub(super) const CERTIFICATE_SUBJECT: usize = 5;
/// Position of the subject in the signed part of a request (version, subject, …).
pub(super) const REQUEST_SUBJECT: usize = 1;

/// Tag, length, content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// Splits the first element off: all of it, its content, and what follows.
fn split(input: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let first = *input.get(1)?;
    let (header, length) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let bytes = input.get(2..2 + count)?;
        (
            2 + count,
            bytes
                .iter()
                .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)),
        )
    };
    let end = header.checked_add(length)?;
    Some((
        input.get(..end)?,
        input.get(header..end)?,
        input.get(end..)?,
    ))
}

/// A subject of one user and any number of groups.
pub(super) fn subject(user: &str, groups: &[&str]) -> Vec<u8> {
    let attribute = |kind: [u8; 3], text: &str| {
        let pair = [
            element(OBJECT_IDENTIFIER, &kind),
            element(UTF8_STRING, text.as_bytes()),
        ];
        element(SET, &element(SEQUENCE, &pair.concat()))
    };
    let mut names: Vec<u8> = groups
        .iter()
        .flat_map(|group| attribute(ORGANIZATION, group))
        .collect();
    names.extend(attribute(COMMON_NAME, user));
    element(SEQUENCE, &names)
}

/// Replaces the subject of a certificate or request and signs it with `key`, which must be of the
/// algorithm that it was signed with before.
pub(super) fn with_subject(
    signed: &[u8],
    position: usize,
    subject: &[u8],
    key: &KeyPair,
) -> Result<Vec<u8>, TlsError> {
    let broken = || TlsError::Failed("the signed structure is not DER".into());
    let (_, outer, _) = split(signed).ok_or_else(broken)?;
    let (_, fields, rest) = split(outer).ok_or_else(broken)?;
    let (algorithm, _, _) = split(rest).ok_or_else(broken)?;
    let mut body = Vec::with_capacity(fields.len() + subject.len());
    let mut left = fields;
    for index in 0.. {
        if left.is_empty() {
            break;
        }
        let (whole, _, after) = split(left).ok_or_else(broken)?;
        body.extend_from_slice(if index == position { subject } else { whole });
        left = after;
    }
    let body = element(SEQUENCE, &body);
    let mut signature = vec![0];
    signature.extend(key.sign(&body)?);
    let parts = [body.as_slice(), algorithm, &element(BIT_STRING, &signature)];
    Ok(element(SEQUENCE, &parts.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_splits_again_at_every_length() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7u8; length];
            let mut bytes = element(SEQUENCE, &content);
            let size = bytes.len();
            bytes.push(1);
            let (whole, inner, rest) = split(&bytes).unwrap();
            assert_eq!((whole.len(), inner, rest), (size, &content[..], &[1u8][..]));
        }
    }

    #[test]
    fn broken_bytes_do_not_split() {
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 5, 1],
            &[0x30, 0x80],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
        ] {
            assert!(split(bad).is_none(), "{bad:?}");
        }
    }
}
