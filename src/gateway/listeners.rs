//! The listeners of a gateway: binds, changes and closes them according to the configuration.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::task::JoinHandle;

use super::{Error, configured::Configured};
use crate::{
    config::{self, Certificate, ClientCertificates, ListenerTls, Secret},
    pop3::{
        Listener, Settings,
        listener::{Gate, SessionControl},
    },
    tls::Acceptor,
};

#[derive(Debug)]
pub(super) struct Listeners {
    open: Vec<Open>,
    /// Sockets that systemd has opened for this process. Each stays open as long as the process lives.
    inherited: Vec<TcpListener>,
    /// The key of session tickets: `[state] key` as it was at the start. A reload does not change it.
    key: Option<Secret>,
}

#[derive(Debug)]
struct Open {
    /// The address as configured; its port may be 0.
    address: SocketAddr,
    listener: Arc<Listener>,
    accepting: Option<JoinHandle<()>>,
}

/// A step for each configured listener, in the order of `[[listener]]`.
#[derive(Debug)]
pub(super) struct Plan(Vec<Planned>);

#[derive(Debug)]
enum Planned {
    /// The open listener at this index gets other settings.
    Kept(usize, Settings),
    New(Open),
}

impl Listeners {
    /// Begins without open listeners. `inherited` are sockets that listen already; `key` is the key of session tickets.
    pub(super) fn new(inherited: Vec<TcpListener>, key: Option<Secret>) -> Self {
        Self {
            open: Vec::new(),
            inherited,
            key,
        }
    }

    /// The bound addresses, in the order of `[[listener]]`.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.open.iter().map(|open| open.listener.address()).collect()
    }

    /// Binds the listeners of `configured` that are not open yet. Open listeners stay as they are until
    /// [`Self::carry_out`].
    pub(super) fn plan(&self, configured: &Configured) -> Result<Plan, Error> {
        let Configured { config, service, .. } = configured;
        let mut acceptors = Vec::new();
        let mut left: Vec<usize> = (0..self.open.len()).collect();
        let planned = config.listeners.iter().map(|listener| {
            let acceptor = self.acceptor(&config.tls, listener, &mut acceptors)?;
            let settings = Settings::new(listener, acceptor, service.clone());
            let address = listener.address;
            match left.iter().position(|&index| self.open[index].address == address) {
                Some(position) => Ok(Planned::Kept(left.remove(position), settings)),
                None => match self.bind(address, settings) {
                    Ok(listener) => Ok(Planned::New(Open {
                        address,
                        listener: Arc::new(listener),
                        accepting: None,
                    })),
                    Err(source) => Err(self.not_bound(address, source)),
                },
            }
        });
        planned.collect::<Result<_, _>>().map(Plan)
    }

    /// The acceptor for `listener`; `None` without TLS. `made` has the acceptors of earlier listeners: if one of them
    /// fits, it is shared.
    fn acceptor(
        &self,
        certificates: &[Certificate],
        listener: &config::Listener,
        made: &mut Vec<(Way, Arc<Acceptor>)>,
    ) -> Result<Option<Arc<Acceptor>>, Error> {
        if listener.tls == ListenerTls::Off {
            return Ok(None);
        }
        if certificates.is_empty() {
            let address = listener.address;
            return Err(Error::NoCertificate { address });
        }
        let way = Way {
            is_legacy: listener.tls.is_legacy(),
            clients: listener.client_certificates,
        };
        let acceptor = match made.iter().find(|(other, _)| *other == way) {
            Some((_, acceptor)) => acceptor.clone(),
            None => {
                let acceptor = Acceptor::for_listener(certificates, listener, self.key.as_ref())?;
                let acceptor = Arc::new(acceptor);
                made.push((way, acceptor.clone()));
                acceptor
            }
        };
        Ok(Some(acceptor))
    }

    fn bind(&self, address: SocketAddr, settings: Settings) -> io::Result<Listener> {
        let is_here = |socket: &&TcpListener| socket.local_addr().is_ok_and(|bound| bound == address);
        match self.inherited.iter().find(is_here) {
            Some(socket) => Listener::inherit(socket.try_clone()?, settings),
            None => Listener::bind(address, settings),
        }
    }

    fn not_bound(&self, address: SocketAddr, source: io::Error) -> Error {
        let is_ours = |open: &&Open| open.listener.address().port() == address.port();
        match self.open.iter().find(is_ours) {
            Some(open) if source.kind() == io::ErrorKind::AddrInUse => Error::BindBesideOurs {
                address,
                ours: open.listener.address(),
            },
            _ => Error::Bind { address, source },
        }
    }

    /// Closes the listeners that are not in `plan`, changes those that are, and adds the new ones. Warns of inherited
    /// sockets that no listener uses then.
    pub(super) async fn carry_out(&mut self, Plan(plan): Plan) {
        let mut before: Vec<_> = self.open.drain(..).map(Some).collect();
        for planned in plan {
            match planned {
                Planned::New(open) => {
                    tracing::info!(address = %open.listener.address(), tls = %open.listener.tls(), "listening");
                    self.open.push(open);
                }
                Planned::Kept(index, settings) => {
                    // The plan has each index once, so the listener is still there.
                    if let Some(open) = before[index].take() {
                        open.listener.change(settings);
                        self.open.push(open);
                    }
                }
            }
        }
        for open in before.into_iter().flatten() {
            let address = open.listener.address();
            open.close().await;
            tracing::info!(%address, "no longer listening");
        }
        self.warn_of_unused();
    }

    /// Starts accepting at the listeners that do not accept yet.
    pub(super) fn accept(&mut self, gate: &Gate, sessions: &SessionControl) {
        for open in self.open.iter_mut().filter(|open| open.accepting.is_none()) {
            let accepting = open.listener.clone().run(gate.clone(), sessions.clone());
            open.accepting = Some(tokio::spawn(accepting));
        }
    }

    /// Closes all listeners. When this returns, their addresses are free again, except those of inherited sockets.
    pub(super) async fn close(&mut self) {
        for open in self.open.drain(..) {
            open.close().await;
        }
    }

    /// Warns of inherited sockets that no listener uses. They stay open: a later reload may need them, and the process
    /// may no longer be allowed to bind their addresses.
    fn warn_of_unused(&self) {
        for socket in &self.inherited {
            if let Ok(address) = socket.local_addr()
                && !self.addresses().contains(&address)
            {
                tracing::warn!(
                    %address,
                    "systemd has opened a socket that no [[listener]] has as its address: devices that connect there wait in vain"
                );
            }
        }
    }
}

impl Open {
    /// Stops accepting. When this returns, the address is free again, unless the socket was inherited.
    async fn close(self) {
        self.listener.close();
        if let Some(accepting) = self.accepting {
            // The task fails only if it panics, which is logged.
            let _ = accepting.await;
        }
    }
}

/// The settings on which an acceptor depends. Two listeners with equal values share an acceptor.
#[derive(PartialEq)]
struct Way {
    is_legacy: bool,
    clients: ClientCertificates,
}
