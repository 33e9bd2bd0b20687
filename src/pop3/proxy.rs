//! The PROXY header, in which a load balancer sends the address of the device whose connection it passes on: version 1
//! (text) and version 2 (binary) of <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ppp::{v1, v2};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// How long the header may take. A load balancer sends it at once, but a packet may be lost (§2: at least three
/// seconds).
const PATIENCE: Duration = Duration::from_secs(5);
/// The most octets of a header. In version 2 there may be much besides the addresses (§2.2).
const LONGEST: usize = 4096;
/// The most octets of a header of version 1, with its CRLF (§2.1).
const LONGEST_TEXT: usize = 107;
/// How many octets a header of version 2 has before its addresses (§2.2).
const FIXED: usize = 16;

const TEXT: &[u8] = v1::PROTOCOL_PREFIX.as_bytes();
const BINARY: &[u8] = v2::PROTOCOL_PREFIX;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The connection was closed before any octet was received: load balancers check in this way whether a port is
    /// open.
    #[error("the connection was closed")]
    Closed,
    /// What came is not a header, or not a whole one.
    #[error("what it sent is not a PROXY header")]
    Malformed,
    /// No whole header came in time.
    #[error("no whole PROXY header came in time")]
    Late,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// Reads the header and no octet after it. Returns the device's address; `None` if the connection is the load
/// balancer's own (LOCAL), or if the load balancer does not know whose it is (UNKNOWN, or no IP address).
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Error> {
    timeout(PATIENCE, read_patiently(stream))
        .await
        .map_err(|_| Error::Late)?
}

async fn read_patiently(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Error> {
    let mut header = Vec::new();
    let mut piece = [0; 512];
    loop {
        // What follows the header stays in the socket for the session: it may be a TLS handshake.
        let came = stream.peek(&mut piece).await?;
        if came == 0 {
            return Err(if header.is_empty() {
                Error::Closed
            } else {
                Error::Malformed
            });
        }
        let before = header.len();
        header.extend_from_slice(&piece[..came]);
        let parsed = parse(&header);
        let taken = match parsed {
            Parsed::Header { octets, .. } => octets - before,
            Parsed::Incomplete | Parsed::Malformed => came,
        };
        stream.read_exact(&mut piece[..taken]).await?;
        match parsed {
            Parsed::Header { device, .. } => return Ok(device),
            Parsed::Incomplete => {}
            Parsed::Malformed => return Err(Error::Malformed),
        }
    }
}

/// What the octets received so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole header; `octets` is its length.
    Header {
        octets: usize,
        device: Option<SocketAddr>,
    },
    /// The start of a header.
    Incomplete,
    Malformed,
}

/// Whether a line of a device is a header of version 1, or the third line of a header of version 2. The first two lines
/// of version 2 are empty.
pub(super) fn is_header(line: &[u8]) -> bool {
    line == b"\0" || line.strip_prefix(TEXT).is_some_and(|rest| rest.starts_with(b" "))
}

pub(super) fn parse(octets: &[u8]) -> Parsed {
    let begins_with = |start: &[u8]| {
        let length = octets.len().min(start.len());
        octets[..length] == start[..length]
    };
    let parsed = if begins_with(BINARY) {
        binary(octets)
    } else if begins_with(TEXT) {
        text(octets)
    } else {
        None
    };
    parsed.unwrap_or(Parsed::Malformed)
}

/// Parses a header of version 1; `None` if `octets` are malformed.
fn text(octets: &[u8]) -> Option<Parsed> {
    let start = &octets[..octets.len().min(LONGEST_TEXT)];
    let Some(line_feed) = memchr::memchr(b'\n', start) else {
        return (start.len() < LONGEST_TEXT).then_some(Parsed::Incomplete);
    };
    let octets = line_feed + 1;
    let header = v1::Header::try_from(&start[..octets]).ok()?;
    let device = match header.addresses {
        v1::Addresses::Tcp4(tcp) => Some((tcp.source_address.into(), tcp.source_port)),
        v1::Addresses::Tcp6(tcp) => Some((tcp.source_address.into(), tcp.source_port)),
        v1::Addresses::Unknown => None,
    };
    Some(Parsed::Header {
        octets,
        device: device.map(canonical),
    })
}

/// Parses a header of version 2; `None` if `octets` are malformed.
fn binary(octets: &[u8]) -> Option<Parsed> {
    let Some(fixed) = octets.get(..FIXED) else {
        return Some(Parsed::Incomplete);
    };
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > LONGEST {
        return None;
    }
    let Some(whole) = octets.get(..length) else {
        return Some(Parsed::Incomplete);
    };
    let header = v2::Header::try_from(whole).ok()?;
    let device = match (header.command, header.addresses) {
        (v2::Command::Local, _) => None,
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some((ip.source_address.into(), ip.source_port)),
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some((ip.source_address.into(), ip.source_port)),
        (v2::Command::Proxy, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
    };
    Some(Parsed::Header {
        octets: length,
        device: device.map(canonical),
    })
}

fn canonical((address, port): (IpAddr, u16)) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    /// A header of version 2.
    fn binary_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [BINARY, &[0x20 | command, family], &length, addresses].concat()
    }

    fn ipv4() -> [u8; 12] {
        [192, 0, 2, 7, 10, 0, 0, 1, 0xdd, 0xd5, 0, 110]
    }

    /// Headers, and whose connection each says it is.
    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let ipv6 = |start: [u8; 16]| [&start[..], &[0; 16], &[0xdd, 0xd5, 0, 110]].concat();
        let mut documentation = [0; 16];
        documentation[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];
        let with_more = [&ipv4()[..], &[3, 0, 4, 1, 2, 3, 4], &[4, 1, 0], &[0; 256]].concat();
        vec![
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 56789 110\r\n".to_vec(),
                Some("192.0.2.7:56789"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 56789 110\r\n".to_vec(),
                Some("[2001:db8::7]:56789"),
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.7 ::1 56789 110\r\n".to_vec(),
                Some("192.0.2.7:56789"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary_header(1, 0x11, &ipv4()), Some("192.0.2.7:56789")),
            (binary_header(1, 0x11, &with_more), Some("192.0.2.7:56789")),
            (binary_header(1, 0x21, &ipv6(documentation)), Some("[2001:db8::]:56789")),
            (binary_header(1, 0x21, &ipv6(mapped)), Some("192.0.2.7:56789")),
            (binary_header(0, 0x00, &[]), None),
            (binary_header(0, 0x11, &ipv4()), None),
            (binary_header(1, 0x00, &[]), None),
            (binary_header(1, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn headers_whole_and_cut() {
        for (header, expected) in headers() {
            let device = expected.map(|text| text.parse().unwrap());
            let octets = header.len();
            for end in 0..octets {
                let parsed = parse(&header[..end]);
                assert_eq!(parsed, Parsed::Incomplete, "{}", header[..end].escape_ascii());
            }
            for after in [&b""[..], b"\r\n", b"USER eva\r\n", b"\x16\x03\x01", BINARY] {
                let parsed = parse(&[&header, after].concat());
                assert_eq!(parsed, Parsed::Header { octets, device }, "{}", header.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_not_a_header() {
        let long_line = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
        let wrong: &[&[u8]] = &[
            b"USER eva\r\n",
            b"proxy TCP4 192.0.2.7 10.0.0.1 56789 110\r\n",
            b"PROXY\r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56789 110\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56789 70000\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 56789 110\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 56789 110\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 56789 110\r\n",
            &long_line,
            b"\x16\x03\x01\x02\x00",
            b"\r\n\r\n\0\r\nQUIT\r\n",
            &binary_header(2, 0x11, &ipv4()),
            &binary_header(1, 0x11, &ipv4()[..8]),
            &binary_header(1, 0x41, &ipv4()),
            &[BINARY, &[0x11, 0x11, 0, 12], &ipv4()].concat(),
            // Too long to be waited for.
            &[BINARY, &[0x21, 0x11, 0xff, 0xff]].concat(),
        ];
        for octets in wrong {
            assert_eq!(parse(octets), Parsed::Malformed, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn headers_among_the_lines_of_a_device() {
        for (header, _) in headers() {
            let mut lines = header
                .split(|&octet| octet == b'\n')
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            assert!(lines.any(is_header), "{}", header.escape_ascii());
        }
        for line in [&b""[..], b"PROXY", b"PROXYING TCP4", b"USER PROXY TCP4", b"\0\0"] {
            assert!(!is_header(line), "{}", line.escape_ascii());
        }
    }

    /// The two ends of a connection.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let balancer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        balancer.set_nodelay(true).unwrap();
        (balancer, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn nothing_after_the_header_is_read() {
        for (header, expected) in headers() {
            let (mut balancer, mut ours) = connected().await;
            let sent = [&header, &b"USER eva\r\n"[..]].concat();
            let send = async {
                for octet in sent {
                    balancer.write_all(&[octet]).await.unwrap();
                    tokio::task::yield_now().await;
                }
                balancer.shutdown().await.unwrap();
            };
            let read = async {
                let device = read(&mut ours).await.unwrap();
                assert_eq!(device.map(|device| device.to_string()).as_deref(), expected);
                let mut rest = String::new();
                ours.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "USER eva\r\n");
            };
            tokio::join!(send, read);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_in_the_place_of_a_header() {
        for start in [&b""[..], b"PROXY TCP4 192.0.2.7", &BINARY[..5]] {
            let (mut balancer, mut ours) = connected().await;
            balancer.write_all(start).await.unwrap();
            assert!(matches!(read(&mut ours).await, Err(Error::Late)));
        }
    }

    #[tokio::test]
    async fn the_end_in_the_place_of_a_header() {
        let (balancer, mut ours) = connected().await;
        drop(balancer);
        assert!(matches!(read(&mut ours).await, Err(Error::Closed)));
        let (mut balancer, mut ours) = connected().await;
        balancer.write_all(b"PROXY TCP4").await.unwrap();
        drop(balancer);
        assert!(matches!(read(&mut ours).await, Err(Error::Malformed)));
    }

    proptest! {
        #[test]
        fn any_octets(rest in prop::collection::vec(0_u8.., 0..200), start in 0_usize..3) {
            let octets = [[&b""[..], b"PROXY ", BINARY][start], &rest[..]].concat();
            if let Parsed::Header { octets: length, .. } = parse(&octets) {
                prop_assert!(length <= octets.len());
            }
        }
    }
}
