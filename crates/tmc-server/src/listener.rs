//! The network side: accepts connections, does TLS, learns who the peer is once per connection,
//! serves HTTP/1.1 and HTTP/2, and drains on shutdown.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::Service;

use crate::authn::ExpiredPeer;
use crate::config::ListenerConfig;
use crate::service::{ListenerStop, Server, ServerService};
use crate::surface::{InProcessIdentity, PeerExpires, PeerIdentity, Response};
use crate::tls::{Peer, peer};

/// Wait after an `accept` that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Protocol of a connection, as agreed by ALPN; without TLS both are understood.
#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
    Either,
}

impl Server {
    /// Serves a listening socket until `stop` fires, then lets requests under way finish (watches
    /// end within `watch_drain`, everything else is cut after `drain_timeout`). Without `tls` it
    /// speaks plain HTTP: for tests, never for a socket that others can reach.
    ///
    /// # Errors
    /// Only if the socket cannot be used at all; what goes wrong on a connection ends that one.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        listener.local_addr()?;
        let front = Arc::new(Front {
            service: self.service(),
            builder: builder(&self.inner.config.listener),
            config: self.inner.config.listener.clone(),
            tls: tls.map(TlsAcceptor::from),
            stop: stop.clone(),
            cut: CancellationToken::new(),
        });
        // Also when this future is dropped: no connection outlives its server.
        let cut = front.cut.clone().drop_guard();
        let room = Arc::new(Semaphore::new(front.config.max_connections));
        let connections = TaskTracker::new();
        loop {
            let (stream, place) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accept(&listener, &room) => accepted,
            };
            let front = front.clone();
            let place = Place {
                _held: Arc::new((place, connections.token())),
                cut: front.cut.clone(),
            };
            tokio::spawn(async move {
                let cut = front.cut.clone();
                tokio::select! {
                    () = front.connection(stream, place) => {}
                    () = cut.cancelled() => {}
                }
            });
        }
        // Closed before the drain: a new connection is refused rather than left hanging.
        drop(listener);
        connections.close();
        if tokio::time::timeout(front.config.drain_timeout, connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                open = connections.len(),
                "connections did not drain in time"
            );
        }
        drop(cut);
        connections.wait().await;
        Ok(())
    }
}

/// The next connection, with its place; errors of single connections are no reason to stop.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let place = room.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn builder(config: &ListenerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(64 * 1024)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .max_send_buf_size(config.send_buffer)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(config.keep_alive)
        .keep_alive_timeout(config.keep_alive);
    builder
}

/// What every connection of one listener shares.
struct Front {
    service: ServerService,
    builder: auto::Builder<TokioExecutor>,
    config: ListenerConfig,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Front {
    async fn connection(&self, stream: TcpStream, place: Place) {
        // A socket option that cannot be set costs latency, not correctness.
        let _ = stream.set_nodelay(true);
        let remote = stream.peer_addr().ok();
        let Some(acceptor) = &self.tls else {
            return self
                .http(stream, Protocol::Either, self.requests(remote, None, place))
                .await;
        };
        let handshake =
            tokio::time::timeout(self.config.handshake_timeout, acceptor.accept(stream));
        let stream = tokio::select! {
            () = self.stop.cancelled() => return,
            outcome = handshake => match outcome {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(?remote, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(?remote, "TLS handshake took too long");
                    return;
                }
            },
        };
        let (_, session) = stream.get_ref();
        let protocol = match session.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let identity = session
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(|der| peer(der));
        self.http(stream, protocol, self.requests(remote, identity, place))
            .await;
    }

    fn requests(&self, remote: Option<SocketAddr>, peer: Option<Peer>, place: Place) -> Requests {
        Requests {
            service: self.service.clone(),
            peer,
            remote: remote.map(RemoteAddress),
            stop: ListenerStop(self.stop.clone()),
            place,
            seen: Arc::default(),
        }
    }

    /// Serves one connection to its end, to its first request's deadline, or to the drain.
    async fn http<S>(&self, stream: S, protocol: Protocol, requests: Requests)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = match protocol {
            Protocol::Http1 => self.builder.clone().http1_only(),
            Protocol::Http2 => self.builder.clone().http2_only(),
            Protocol::Either => self.builder.clone(),
        };
        let seen = requests.seen.clone();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), requests);
        tokio::pin!(connection);
        let silent = tokio::time::sleep(self.config.header_timeout);
        tokio::pin!(silent);
        let (mut waiting, mut draining) = (true, false);
        loop {
            tokio::select! {
                outcome = connection.as_mut() => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                () = silent.as_mut(), if waiting => {
                    if !seen.load(Ordering::Relaxed) {
                        return;
                    }
                    waiting = false;
                }
                () = self.stop.cancelled(), if !draining => {
                    connection.as_mut().graceful_shutdown();
                    draining = true;
                    if !seen.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        }
    }
}

/// Where a request came from; a request extension.
#[derive(Clone, Copy, Debug)]
pub struct RemoteAddress(pub SocketAddr);

/// The requests of one connection: marks each with what the listener knows of its peer.
struct Requests {
    service: ServerService,
    peer: Option<Peer>,
    remote: Option<RemoteAddress>,
    stop: ListenerStop,
    place: Place,
    seen: Arc<AtomicBool>,
}

/// A connection's place among those of its listener. Who goes on with the connection after HTTP
/// holds it, so that the connection still counts and the listener's end waits for it; `cut` says
/// when it waits no longer.
#[derive(Clone)]
pub(crate) struct Place {
    _held: Arc<(Option<OwnedSemaphorePermit>, TaskTrackerToken)>,
    pub(crate) cut: CancellationToken,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.seen.store(true, Ordering::Relaxed);
        let extensions = request.extensions_mut();
        // Nothing on the network can set it; this says so to the reader and to the next change.
        extensions.remove::<InProcessIdentity>();
        extensions.insert(self.stop.clone());
        extensions.insert(self.place.clone());
        if let Some(remote) = self.remote {
            extensions.insert(remote);
        }
        match &self.peer {
            // Connections live long: the certificate must still be good at each request.
            Some(peer) if peer.expires > SystemTime::now() => {
                extensions.insert(PeerIdentity(peer.user.clone()));
                extensions.insert(PeerExpires(peer.expires));
            }
            Some(_) => {
                extensions.insert(ExpiredPeer);
            }
            None => {}
        }
        self.service.clone().call(request)
    }
}
