//! How much an informer may keep.

use std::io;

use serde_json::Value;

use crate::bounds::Budget;

/// There is no room for an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full(Budget);

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the server has more than is kept of a resource, {} objects or {} bytes; remove some of them",
            self.0.objects, self.0.bytes
        )
    }
}

/// What is used of a budget; without one, whatever comes has room.
pub(super) struct Room {
    budget: Option<Budget>,
    objects: usize,
    bytes: usize,
}

impl Room {
    pub(super) fn new(budget: Option<Budget>) -> Self {
        Self {
            budget,
            objects: 0,
            bytes: 0,
        }
    }

    /// A room of the same size with nothing in it.
    pub(super) fn empty(&self) -> Self {
        Self::new(self.budget)
    }

    /// Bytes that an object takes: not counted without a budget.
    pub(super) fn weigh(&self, object: &Value) -> usize {
        let mut length = Length(0);
        match self.budget {
            // What is counted cannot fail.
            Some(_) => serde_json::to_writer(&mut length, object).map_or(usize::MAX, |()| length.0),
            None => 0,
        }
    }

    /// Takes an object of these bytes in, in the place of one of `before` bytes if there was one.
    pub(super) fn take(&mut self, before: Option<usize>, bytes: usize) -> Result<(), Full> {
        let objects = self.objects + usize::from(before.is_none());
        let bytes = (self.bytes - before.unwrap_or(0)).saturating_add(bytes);
        if let Some(budget) = self.budget
            && (objects > budget.objects || bytes > budget.bytes)
        {
            return Err(Full(budget));
        }
        (self.objects, self.bytes) = (objects, bytes);
        Ok(())
    }

    /// An object of these bytes is gone.
    pub(super) fn free(&mut self, bytes: usize) {
        self.objects -= 1;
        self.bytes -= bytes;
    }
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_room_is_full_by_number_or_by_weight_and_has_room_again_for_what_left() {
        let mut room = Room::new(Some(Budget {
            objects: 2,
            bytes: 10,
        }));
        assert_eq!(room.weigh(&json!({"a": "é"})), r#"{"a":"é"}"#.len());
        room.take(None, 4).unwrap();
        room.take(None, 4).unwrap();
        room.take(None, 0).unwrap_err();
        room.take(Some(4), 7).unwrap_err();
        room.take(Some(4), 6).unwrap();
        room.free(6);
        room.take(None, 7).unwrap_err();
        room.take(None, 6).unwrap();
        let mut endless = Room::new(None);
        endless.take(None, usize::MAX).unwrap();
        endless.take(None, usize::MAX).unwrap();
    }
}
