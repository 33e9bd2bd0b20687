//! Ports for the servers that tests start.

use std::{
    mem,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 at which nobody listens, and which the system gives to nobody else until the process of the test
/// ends: neither to a program that asks for any port, nor to a connection that goes out. A server that names the port
/// and sets `SO_REUSEADDR`, as servers do, can listen at it: two sockets with this option may be bound to one port as
/// long as not both of them listen.
pub(crate) fn free_port() -> u16 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // A socket that is bound, but does not listen, is what reserves a port.
    mem::forget(socket);
    address.port()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn it_is_reserved_for_the_server_that_names_it() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        other.bind(&address.into()).unwrap_err();
        // The standard library sets SO_REUSEADDR.
        let server = TcpListener::bind(address).unwrap();
        TcpListener::bind(address).unwrap_err();
        drop(server);
        TcpListener::bind(address).unwrap();
    }
}
