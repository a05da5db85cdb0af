//! The one way out to members: resolves by itself, checks each address, dials what it checked.
//!
//! A member's address comes from a tenant's kubeconfig. Without this check the hub would be a way
//! into its own machine and its cloud's metadata service. The check runs at each dial, after name
//! resolution, so a name that changes its mind later gains nothing. Redirects and proxies do not
//! exist on this path (see `tmc_runtime::https`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tmc_runtime::{Bounds, Connection, Credential, Dialer, Endpoint, Error, Fence};
use tokio::net::TcpStream;

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Suffix of hosts that are simulated members of this process.
pub const SIMULATED_SUFFIX: &str = ".sim.tmc.internal";

/// Why an address is not dialled. Found in the source chain of the [`io::Error`] of a refused dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// 0.0.0.0 and its like.
    #[error("the address is unspecified")]
    Unspecified,
    /// Loopback, while the hub is reachable from elsewhere.
    #[error(
        "the address is loopback, which is allowed only while the hub itself listens on loopback only"
    )]
    Loopback,
    /// Link-local.
    #[error("the address is link-local")]
    LinkLocal,
    /// A cloud's metadata service.
    #[error("the address is a metadata service")]
    Metadata,
    /// Multicast or broadcast.
    #[error("the address is multicast or broadcast")]
    Multicast,
    /// An address that hides another one in a way that cannot be checked.
    #[error("the address is a tunnel")]
    Tunnel,
    /// The hub itself.
    #[error("the address is a listener of the hub itself")]
    Hub,
}

/// What this hub listens on, which decides about loopback and is never dialled.
#[derive(Clone, Debug, Default)]
pub struct OwnListeners(Vec<SocketAddr>);

impl OwnListeners {
    /// The addresses that the hub listens on.
    pub fn new(listeners: Vec<SocketAddr>) -> Self {
        Self(listeners)
    }

    /// Whether nothing but this machine can reach the hub.
    fn loopback_only(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|address| address.ip().is_loopback())
    }

    fn has(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|own| {
            own.port() == address.port()
                && (own.ip() == address.ip()
                    // A listener on all addresses is on every loopback address, too.
                    || (own.ip().is_unspecified() && address.ip().is_loopback()))
        })
    }

    /// Whether an open connection leads back to this machine and to one of the listeners' ports:
    /// what the addresses alone cannot tell for a listener on all of them.
    fn leads_here(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        local.ip() == peer.ip() && self.0.iter().any(|own| own.port() == peer.port())
    }
}

/// Decides about one address.
///
/// # Errors
/// The first rule that the address, or the IPv4 address inside it, breaks.
pub fn check(address: SocketAddr, own: &OwnListeners) -> Result<(), Refused> {
    let ip = plain(address.ip())?;
    match ip {
        IpAddr::V4(ip) => check_v4(ip)?,
        IpAddr::V6(ip) => check_v6(ip)?,
    }
    if own.has(SocketAddr::new(ip, address.port())) {
        return Err(Refused::Hub);
    }
    if ip.is_loopback() && !own.loopback_only() {
        return Err(Refused::Loopback);
    }
    Ok(())
}

/// The address that packets will in the end go to: IPv4 inside IPv6 is taken out.
fn plain(ip: IpAddr) -> Result<IpAddr, Refused> {
    let IpAddr::V6(v6) = ip else { return Ok(ip) };
    let segments = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ok(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match segments {
        // Mapped, and translated (stateless).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        // Compatible (deprecated); `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if !(high == 0 && low <= 1) => v4(high, low),
        // NAT64, the well-known prefix. With another (64:ff9b:1::/48) the place of the address
        // depends on the network.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, ..] => Err(Refused::Tunnel),
        // 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo.
        [0x2001, 0, ..] => Err(Refused::Tunnel),
        _ => Ok(ip),
    }
}

fn check_v4(ip: Ipv4Addr) -> Result<(), Refused> {
    // Alibaba, Azure, Oracle; the common 169.254.169.254 is link-local.
    const METADATA: [Ipv4Addr; 3] = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    if METADATA.contains(&ip) || ip == Ipv4Addr::new(169, 254, 169, 254) {
        return Err(Refused::Metadata);
    }
    match ip.octets() {
        [0, ..] => Err(Refused::Unspecified),
        [169, 254, ..] => Err(Refused::LinkLocal),
        [224..=239, ..] | [255, 255, 255, 255] => Err(Refused::Multicast),
        _ => Ok(()),
    }
}

fn check_v6(ip: Ipv6Addr) -> Result<(), Refused> {
    // AWS; Google's is in the same manner `fd20:ce::254`.
    const METADATA: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    if METADATA.contains(&ip) {
        return Err(Refused::Metadata);
    }
    match ip.segments()[0] {
        _ if ip.is_unspecified() => Err(Refused::Unspecified),
        0xfe80..=0xfebf => Err(Refused::LinkLocal),
        0xff00..=0xffff => Err(Refused::Multicast),
        _ => Ok(()),
    }
}

/// Dials members, and nothing that [`check`] refuses.
pub struct CheckedDialer {
    own: OwnListeners,
}

impl CheckedDialer {
    /// A dialer of a hub with these listeners.
    pub fn new(own: OwnListeners) -> Self {
        Self { own }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        check(address, &self.own).map_err(refused)?;
        let connect = TcpStream::connect(address);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| {
                let text = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, text)
            })??;
        if self
            .own
            .leads_here(stream.local_addr()?, stream.peer_addr()?)
        {
            return Err(refused(Refused::Hub));
        }
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn refused(why: Refused) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[async_trait]
impl Dialer for CheckedDialer {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let lookup = tokio::net::lookup_host((host, port));
        let addresses = tokio::time::timeout(CONNECT_TIMEOUT, lookup)
            .await
            .map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time")
            })??;
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses.take(MAX_ADDRESSES) {
            match self.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// Simulated members that live in this process, by host name.
pub trait SimulatedMembers: Send + Sync + 'static {
    /// The member of a host under [`SIMULATED_SUFFIX`], if it exists and the credential is its own.
    /// Whoever can write a Secret can name a host: the credential decides, not the name.
    fn connect(&self, host: &str, credential: &Credential) -> Option<Connection>;
}

/// No simulated members.
pub struct NoSimulatedMembers;

impl SimulatedMembers for NoSimulatedMembers {
    fn connect(&self, _: &str, _: &Credential) -> Option<Connection> {
        None
    }
}

/// Opens connections to members.
#[derive(Clone)]
pub struct Outbound {
    dialer: Arc<dyn Dialer>,
    simulated: Arc<dyn SimulatedMembers>,
    fence: Option<Fence>,
}

impl Outbound {
    /// For a hub with these listeners and simulated members.
    pub fn new(own: OwnListeners, simulated: Arc<dyn SimulatedMembers>) -> Self {
        Self {
            dialer: Arc::new(CheckedDialer::new(own)),
            simulated,
            fence: None,
        }
    }

    /// The same, for one term of a leader: nothing is written to a member once it has ended.
    #[must_use]
    pub fn fenced(mut self, fence: &Fence) -> Self {
        self.fence = Some(fence.clone());
        self
    }

    /// A connection to a member, of whose answers no more is read than [`Bounds::MEMBER`]. Nothing is
    /// sent yet.
    ///
    /// # Errors
    /// A sentence if the endpoint cannot be used, or names a simulated member that is not there.
    pub fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Error> {
        let connection = self.connect_unfenced(endpoint)?.bounded(Bounds::MEMBER);
        Ok(match &self.fence {
            Some(fence) => connection.fenced(fence),
            None => connection,
        })
    }

    fn connect_unfenced(&self, endpoint: &Endpoint) -> Result<Connection, Error> {
        if endpoint.host().ends_with(SIMULATED_SUFFIX) {
            return self
                .simulated
                .connect(endpoint.host(), endpoint.credential())
                .ok_or_else(|| {
                    Error::Transport("no simulated member has this host and credential".into())
                });
        }
        Connection::https(endpoint, Arc::clone(&self.dialer))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::net::TcpListener;

    use super::*;

    fn own(list: &[&str]) -> OwnListeners {
        OwnListeners::new(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[rstest]
    #[case("0.0.0.0", Refused::Unspecified)]
    #[case("0.1.2.3", Refused::Unspecified)]
    #[case("::", Refused::Unspecified)]
    #[case("::ffff:0.0.0.0", Refused::Unspecified)]
    #[case("127.0.0.1", Refused::Loopback)]
    #[case("127.9.9.9", Refused::Loopback)]
    #[case("::1", Refused::Loopback)]
    #[case("::ffff:127.0.0.1", Refused::Loopback)]
    #[case("::127.0.0.1", Refused::Loopback)]
    #[case("64:ff9b::127.0.0.1", Refused::Loopback)]
    #[case("2002:7f00:1::", Refused::Loopback)]
    #[case("169.254.0.1", Refused::LinkLocal)]
    #[case("fe80::1", Refused::LinkLocal)]
    #[case("febf::1", Refused::LinkLocal)]
    #[case("::ffff:169.254.7.7", Refused::LinkLocal)]
    #[case("169.254.169.254", Refused::Metadata)]
    #[case("::ffff:169.254.169.254", Refused::Metadata)]
    #[case("::ffff:0:169.254.169.254", Refused::Metadata)]
    #[case("64:ff9b::a9fe:a9fe", Refused::Metadata)]
    #[case("2002:a9fe:a9fe::1", Refused::Metadata)]
    #[case("fd00:ec2::254", Refused::Metadata)]
    #[case("fd20:ce::254", Refused::Metadata)]
    #[case("100.100.100.200", Refused::Metadata)]
    #[case("168.63.129.16", Refused::Metadata)]
    #[case("192.0.0.192", Refused::Metadata)]
    #[case("224.0.0.1", Refused::Multicast)]
    #[case("239.255.255.255", Refused::Multicast)]
    #[case("255.255.255.255", Refused::Multicast)]
    #[case("ff02::1", Refused::Multicast)]
    #[case("64:ff9b:1::1", Refused::Tunnel)]
    #[case("2001:0:1::1", Refused::Tunnel)]
    fn an_address_that_leads_astray_is_refused(#[case] ip: &str, #[case] why: Refused) {
        let address = SocketAddr::new(ip.parse().unwrap(), 6443);
        assert_eq!(check(address, &own(&["192.0.2.1:6443"])), Err(why));
    }

    #[rstest]
    #[case("10.0.0.1:6443")]
    #[case("192.168.1.1:443")]
    #[case("203.0.113.5:443")]
    #[case("[2001:db8::1]:443")]
    #[case("[fd00::1]:443")]
    #[case("[::ffff:10.0.0.1]:443")]
    fn a_usual_address_passes(#[case] address: &str) {
        assert_eq!(
            check(address.parse().unwrap(), &own(&["192.0.2.1:6443"])),
            Ok(())
        );
    }

    #[rstest]
    #[case(&["127.0.0.1:6443"], "127.0.0.1:7443", Ok(()))]
    #[case(&["127.0.0.1:6443", "[::1]:6443"], "[::1]:7443", Ok(()))]
    #[case(&["127.0.0.1:6443"], "127.0.0.1:6443", Err(Refused::Hub))]
    #[case(&["127.0.0.1:6443"], "[::ffff:127.0.0.1]:6443", Err(Refused::Hub))]
    #[case(&["127.0.0.1:6443", "192.0.2.1:6443"], "127.0.0.1:7443", Err(Refused::Loopback))]
    #[case(&["0.0.0.0:6443"], "127.0.0.1:7443", Err(Refused::Loopback))]
    #[case(&["0.0.0.0:6443"], "127.0.0.1:6443", Err(Refused::Hub))]
    #[case(&["192.0.2.1:6443"], "192.0.2.1:6443", Err(Refused::Hub))]
    #[case(&["192.0.2.1:6443"], "192.0.2.1:7443", Ok(()))]
    #[case(&[], "127.0.0.1:7443", Err(Refused::Loopback))]
    fn loopback_and_the_hub_depend_on_what_the_hub_listens_on(
        #[case] listeners: &[&str],
        #[case] address: &str,
        #[case] expected: Result<(), Refused>,
    ) {
        assert_eq!(check(address.parse().unwrap(), &own(listeners)), expected);
    }

    #[test]
    fn a_connection_back_to_a_listener_on_all_addresses_is_found_out() {
        let own = own(&["0.0.0.0:6443"]);
        let at = |text: &str| text.parse().unwrap();
        assert!(own.leads_here(at("192.0.2.7:40000"), at("192.0.2.7:6443")));
        assert!(!own.leads_here(at("192.0.2.7:40000"), at("192.0.2.7:7443")));
        assert!(!own.leads_here(at("192.0.2.7:40000"), at("192.0.2.8:6443")));
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_its_address_checked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let near = CheckedDialer::new(own(&["127.0.0.1:1"]));
        assert!(near.dial("localhost", port).await.is_ok());
        let far = CheckedDialer::new(own(&["192.0.2.1:1"]));
        let error = far.dial("localhost", port).await.unwrap_err();
        let why = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Refused>());
        assert_eq!(why, Some(&Refused::Loopback));
        // Other spellings of the same address.
        for host in ["127.1", "2130706433", "0x7f000001"] {
            assert!(far.dial(host, port).await.is_err(), "{host}");
        }
    }

    #[tokio::test]
    async fn a_simulated_member_is_reached_by_name_and_credential_only() {
        struct One;
        impl SimulatedMembers for One {
            fn connect(&self, host: &str, credential: &Credential) -> Option<Connection> {
                let known = matches!(credential, Credential::Token(token) if token == "right");
                let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
                    Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::empty()))
                });
                (host == "a.sim.tmc.internal" && known).then(|| Connection::in_process(service))
            }
        }
        let outbound = Outbound::new(own(&["127.0.0.1:1"]), Arc::new(One));
        for (host, token, found) in [
            ("a.sim.tmc.internal", "right", true),
            ("a.sim.tmc.internal", "wrong", false),
            ("b.sim.tmc.internal", "right", false),
        ] {
            let credential = Credential::Token(token.into());
            let endpoint =
                Endpoint::new(&format!("https://{host}"), Vec::new(), credential).unwrap();
            assert_eq!(outbound.connect(&endpoint).is_ok(), found, "{host} {token}");
        }
    }
}
