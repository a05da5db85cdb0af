//! A connection whose credential can be replaced while it is in use.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{Connection, Upgrades};

/// Replaces what a connection goes over. Cheap to clone.
///
/// # Guarantees
/// A request goes over what is current when it is sent; answers under way, watches among them, end
/// over what they began with.
#[derive(Clone, Debug)]
pub struct Switch(Arc<RwLock<Connection>>);

impl Switch {
    /// A switch that stands on `current`, and the connection that goes over it.
    pub fn new(current: Connection) -> (Self, Connection) {
        let base = current.base_path().to_owned();
        let switch = Self(Arc::new(RwLock::new(current)));
        let shared = switch.clone();
        let upgrades: Upgrades = Arc::new(move |request| {
            let upgrades = shared.0.read().0.upgrades.clone();
            match upgrades {
                Some(upgrades) => upgrades(request),
                None => Box::pin(std::future::ready(Err("a server in this process".into()))),
            }
        });
        let upgrades = switch.0.read().can_upgrade().then_some(upgrades);
        let shared = switch.clone();
        let connection = Connection::upgradable(base, upgrades, move |request| {
            let transport = Arc::clone(&shared.0.read().0.transport);
            transport(request)
        });
        (switch, connection)
    }

    /// Goes over another connection to the same server from now on.
    pub fn set(&self, next: Connection) {
        *self.0.write() = next;
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    fn server(name: &'static str) -> Connection {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let body = format!("{name} {}", request.uri().path());
            Ok::<_, std::io::Error>(Response::new(Body::from(body.into_bytes())))
        });
        Connection::in_process(service)
    }

    async fn ask(connection: &Connection) -> String {
        let request = Request::get("/version").body(Body::empty()).unwrap();
        let answer = connection
            .client("/clusters/c")
            .send(request)
            .await
            .unwrap();
        let body = answer.into_body().collect_bytes().await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn requests_go_over_what_is_current_and_keep_their_path() {
        let (switch, connection) = Switch::new(server("one"));
        assert_eq!(ask(&connection).await, "one /clusters/c/version");
        switch.set(server("two"));
        assert_eq!(ask(&connection).await, "two /clusters/c/version");
    }
}
