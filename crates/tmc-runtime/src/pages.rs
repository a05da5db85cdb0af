//! Collections, page by page.

use bytes::Bytes;

use crate::answer::TooLong;
use crate::client::{Error, ListParams, ResourceClient};

/// Where a list without a page size starts to have one.
const LARGEST: u32 = 512;

/// Reads a collection page by page.
///
/// Servers page by count, whatever the objects weigh. So a page that is longer than an answer may be
/// is asked for again with half as many objects, down to one; pages grow back while they are short.
pub struct Pages<'a> {
    client: &'a ResourceClient,
    namespace: &'a str,
    params: ListParams,
    size: Size,
}

impl<'a> Pages<'a> {
    /// Starts where `params` say, with pages of at most `params.limit` objects. An empty namespace
    /// means all of them.
    pub fn new(client: &'a ResourceClient, namespace: &'a str, params: ListParams) -> Self {
        let size = Size::new(params.limit);
        Self {
            client,
            namespace,
            params,
            size,
        }
    }

    /// The page, as it came.
    ///
    /// # Errors
    /// See [`Error`]. An answer that is too long is one only if it has a single object.
    pub async fn read(&mut self) -> Result<Bytes, Error> {
        loop {
            self.params.limit = self.size.now;
            match self.client.page(self.namespace, &self.params).await? {
                Ok(page) => {
                    self.size.was_read(page.len());
                    return Ok(page);
                }
                Err(too_long) => self.size.shrink(too_long)?,
            }
        }
    }

    /// Goes on to the page behind this token.
    pub fn go_on(&mut self, continue_token: &str) {
        continue_token.clone_into(&mut self.params.continue_token);
    }
}

/// How many objects are asked for at once; 0 for all.
struct Size {
    now: u32,
    most: u32,
    /// How long answers may be, in bytes: known once one was longer.
    longest: Option<usize>,
}

impl Size {
    fn new(wanted: u32) -> Self {
        Self {
            now: wanted,
            most: if wanted == 0 { LARGEST } else { wanted },
            longest: None,
        }
    }

    fn shrink(&mut self, too_long: TooLong) -> Result<(), Error> {
        self.longest = Some(too_long.0);
        self.now = match self.now {
            0 => LARGEST,
            1 => return Err(too_long.into()),
            objects => objects / 2,
        };
        Ok(())
    }

    /// Twice as many objects like these must be far from too long.
    fn was_read(&mut self, bytes: usize) {
        if self.longest.is_some_and(|longest| bytes <= longest / 4) {
            self.now = self.now.saturating_mul(2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_shrink_to_one_object_and_grow_back_while_they_are_short() {
        let mut size = Size::new(5);
        size.was_read(1);
        assert_eq!(size.now, 5);
        for expected in [2, 1] {
            size.shrink(TooLong(100)).unwrap();
            assert_eq!(size.now, expected);
        }
        let error = size.shrink(TooLong(100)).unwrap_err();
        assert_eq!(error.to_string(), "the answer is longer than 100 bytes");
        size.was_read(26);
        assert_eq!(size.now, 1);
        for expected in [2, 4, 5, 5] {
            size.was_read(25);
            assert_eq!(size.now, expected);
        }
        let mut all = Size::new(0);
        assert_eq!(all.now, 0);
        all.shrink(TooLong(100)).unwrap();
        assert_eq!(all.now, LARGEST);
    }
}
