//! A TCP proxy in front of a server: a load balancer for `api`, and for PostgreSQL and RabbitMQ a way to be gone for one
//! test while all others go on.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Passed on.
    Open,
    /// Closed, the standing ones and the new ones, as when the server was killed.
    Cut,
    /// Taken, and never answered.
    Stalled,
}

/// A proxy with an address of its own.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    backends: Arc<Mutex<Vec<SocketAddr>>>,
    mode: Arc<watch::Sender<Mode>>,
    /// Connections that were made before this one are dead without a word.
    frozen_before: Arc<watch::Sender<usize>>,
    /// Those before this one were given up by the network.
    closed_before: Arc<watch::Sender<usize>>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    /// A proxy that spreads connections over `backends`, one after the other.
    ///
    /// # Panics
    /// When the machine has no free port.
    pub async fn start(backends: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let proxy = Self {
            address,
            backends: Arc::new(Mutex::new(backends)),
            mode: Arc::new(watch::Sender::new(Mode::Open)),
            frozen_before: Arc::new(watch::Sender::new(0)),
            closed_before: Arc::new(watch::Sender::new(0)),
            accepted: Arc::default(),
        };
        tokio::spawn(proxy.clone().run(listener));
        proxy
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the servers behind it.
    ///
    /// # Panics
    /// Never, but for a bug of its own.
    pub fn set_backends(&self, backends: Vec<SocketAddr>) {
        *self.backends.lock().expect("nobody panics with it") = backends;
    }

    /// The server is gone: standing connections are closed, new ones too.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// The server hangs: nothing is passed on, nothing is closed.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stalled);
    }

    /// The server's host has vanished and another has its address: standing connections hang for ever, new ones work.
    pub fn freeze_standing(&self) {
        self.frozen_before.send_replace(usize::MAX);
        self.frozen_before.send_replace(self.accepted.load(Ordering::SeqCst));
    }

    /// The network gives up the connections that were frozen: both ends hear of it at last.
    pub fn close_frozen(&self) {
        self.closed_before.send_replace(*self.frozen_before.borrow());
    }

    /// The server is back.
    pub fn restore(&self) {
        self.mode.send_replace(Mode::Open);
    }

    async fn run(self, listener: TcpListener) {
        loop {
            let (client, _) = listener.accept().await.expect("too many open files? A test may hold a few hundred");
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            let backend = {
                let backends = self.backends.lock().expect("nobody panics with it");
                backends.get(number % backends.len().max(1)).copied()
            };
            if let Some(backend) = backend {
                let mut frozen = self.frozen_before.subscribe();
                let (mode, mut closed) = (self.mode.subscribe(), self.closed_before.subscribe());
                tokio::spawn(async move {
                    let mut passing = Box::pin(pass(client, backend, mode));
                    tokio::select! {
                        () = &mut passing => return,
                        _ = frozen.wait_for(|before| number < *before && *before != usize::MAX) => {}
                    }
                    // Kept, and not moved: neither end hears anything.
                    let _ = closed.wait_for(|before| number < *before).await;
                    drop(passing);
                });
            }
        }
    }
}

async fn pass(mut client: TcpStream, backend: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let mut server = None;
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Cut => return,
            Mode::Stalled => {
                if mode.changed().await.is_err() {
                    return;
                }
            }
            Mode::Open => {
                let server = match &mut server {
                    Some(server) => server,
                    empty => match TcpStream::connect(backend).await {
                        Ok(stream) => empty.insert(stream),
                        Err(_) => return,
                    },
                };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                tokio::select! {
                    _ = copy_bidirectional(&mut client, server) => return,
                    changed = mode.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}
