//! What a hub refuses, and what it is slow with.

use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Default)]
pub(crate) struct Faults {
    /// Method, resource, subresource, and the code of the answer.
    refuses: Mutex<Option<(Method, String, &'static str, u16)>>,
    refused: Mutex<Vec<Instant>>,
    slow: Mutex<Option<(String, Duration)>>,
    /// Resource, and the code of the answer.
    refuses_lists: Mutex<(String, u16)>,
}

impl Faults {
    /// From now on such requests for a named object, or to create one, are answered with a code.
    pub(crate) fn refuse(
        &self,
        method: Method,
        resource: &str,
        subresource: &'static str,
        code: u16,
    ) {
        *self.refuses.lock() = Some((method, resource.to_owned(), subresource, code));
    }

    /// Refuses nothing any more; gives when something was.
    pub(crate) fn relent(&self) -> Vec<Instant> {
        *self.refuses.lock() = None;
        std::mem::take(&mut self.refused.lock())
    }

    /// From now on lists of a resource are answered with a code; of the resource "" none are.
    pub(crate) fn refuse_lists(&self, resource: &str, code: u16) {
        *self.refuses_lists.lock() = (resource.to_owned(), code);
    }

    /// From now on lists of a resource take this long.
    pub(crate) fn slow_down(&self, resource: &str, by: Duration) {
        *self.slow.lock() = Some((resource.to_owned(), by));
    }

    /// The code of the answer to a request, if it is refused. Resource, name and subresource.
    pub(crate) async fn meet(&self, method: &Method, about: (&str, &str, &str)) -> Option<u16> {
        let (resource, name, subresource) = about;
        let is_list = *method == Method::GET && name.is_empty();
        let slow = self.slow.lock().clone();
        if let Some((_, by)) = slow.filter(|(slow, _)| is_list && slow == resource) {
            tokio::time::sleep(by).await;
        }
        let (unlisted, code) = self.refuses_lists.lock().clone();
        if is_list && unlisted == resource {
            return Some(code);
        }
        let refuses = self.refuses.lock().clone();
        let (.., code) = refuses.filter(|(refused, of, part, _)| {
            !is_list && refused == method && of == resource && *part == subresource
        })?;
        self.refused.lock().push(Instant::now());
        Some(code)
    }
}
