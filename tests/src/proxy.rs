//! A TCP proxy in front of a server: a load balancer for `api`, and for PostgreSQL and RabbitMQ a way to be gone for one
//! test while all others go on.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};

/// What is read before it is passed on.
const BUFFER_BYTES: usize = 16 * 1_024;

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

async fn pass(client: TcpStream, backend: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut cut = mode.clone();
    tokio::select! {
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
        _ = pass_uncut(client, backend, mode) => {}
    }
}

async fn pass_uncut(mut client: TcpStream, backend: SocketAddr, mode: watch::Receiver<Mode>) -> io::Result<()> {
    flowing(&mut mode.clone()).await;
    let mut server = TcpStream::connect(backend).await?;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    tokio::try_join!(pass_on(from_client, to_server, mode.clone()), pass_on(from_server, to_client, mode)).map(drop)
}

/// Passes on one direction. However often it stalls, no byte is lost: TCP would not lose one either.
async fn pass_on(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut mode: watch::Receiver<Mode>) -> io::Result<()> {
    let mut bytes = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut bytes).await?;
        flowing(&mut mode).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}

async fn flowing(mode: &mut watch::Receiver<Mode>) {
    // The sender lives as long as the proxy; without one nothing is stalled any more.
    let _ = mode.wait_for(|mode| *mode != Mode::Stalled).await;
}
