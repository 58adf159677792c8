use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How many pieces a slow direction holds before its sender feels it.
const IN_FLIGHT: usize = 256;
const READ_BYTES: usize = 64 << 10;
const CAPTURE_BYTES: usize = 16 << 20;
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What a proxy saw while capturing, all connections one after the other as the bytes came.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    pub up: Vec<u8>,
    pub down: Vec<u8>,
}

/// The faults in force; every change reaches the open connections too.
#[derive(Clone, Debug, Default)]
struct Faults {
    target: Option<SocketAddr>,
    latency: Duration,
    hold_up: bool,
    hold_down: bool,
    refuse: bool,
    capture: bool,
    /// Counters: a connection that sees one grow does it once.
    cuts: u64,
    half_closes_up: u64,
    half_closes_down: u64,
}

impl Faults {
    fn holds(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.hold_up,
            Direction::Down => self.hold_down,
        }
    }

    fn half_closes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Up => self.half_closes_up,
            Direction::Down => self.half_closes_down,
        }
    }
}

/// A TCP proxy on the loopback address whose faults are set while it runs. Dropping it cuts everything.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    faults: Arc<watch::Sender<Faults>>,
    captured: Arc<Mutex<Captured>>,
    open: watch::Receiver<usize>,
    _task: JoinSet<()>,
}

impl FaultProxy {
    pub async fn start(target: SocketAddr) -> io::Result<FaultProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let faults = Arc::new(watch::Sender::new(Faults { target: Some(target), ..Faults::default() }));
        let captured = Arc::<Mutex<Captured>>::default();
        let (count, open) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, faults.subscribe(), Arc::clone(&captured), count));
        Ok(FaultProxy { addr, faults, captured, open, _task: task })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        *self.open.borrow()
    }

    /// For connections from now on.
    pub fn set_target(&self, target: SocketAddr) {
        self.faults.send_modify(|f| f.target = Some(target));
    }

    /// Every byte arrives so much later, each way; the order stays.
    pub fn set_latency(&self, latency: Duration) {
        self.faults.send_modify(|f| f.latency = latency);
    }

    /// Connections stay open, and nothing comes through this way. What is held goes on when the hole closes.
    pub fn set_blackhole(&self, direction: Direction, on: bool) {
        self.faults.send_modify(|f| match direction {
            Direction::Up => f.hold_up = on,
            Direction::Down => f.hold_down = on,
        });
    }

    /// New connections are closed at once.
    pub fn set_refuse(&self, on: bool) {
        self.faults.send_modify(|f| f.refuse = on);
    }

    /// Closes every open connection, both ways.
    pub fn cut(&self) {
        self.faults.send_modify(|f| f.cuts += 1);
    }

    /// Ends this way of every open connection, as if the sender had finished; the other way stays.
    pub fn half_close(&self, direction: Direction) {
        self.faults.send_modify(|f| match direction {
            Direction::Up => f.half_closes_up += 1,
            Direction::Down => f.half_closes_down += 1,
        });
    }

    /// Starts with nothing and keeps what passes, up to 16 MiB each way.
    pub fn start_capture(&self) {
        *self.captured.lock().unwrap_or_else(PoisonError::into_inner) = Captured::default();
        self.faults.send_modify(|f| f.capture = true);
    }

    /// What has been captured so far.
    pub fn captured(&self) -> Captured {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(
    listener: TcpListener,
    faults: watch::Receiver<Faults>,
    captured: Arc<Mutex<Captured>>,
    count: watch::Sender<usize>,
) {
    let mut connections = JoinSet::new();
    let count = Arc::new(count);
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let now = faults.borrow().clone();
        let (Some(target), false) = (now.target, now.refuse) else { continue };
        let (faults, captured) = (faults.clone(), Arc::clone(&captured));
        let open = Counted::new(&count);
        connections.spawn(async move {
            let _open = open;
            // The receiver was cloned before the connection came: a cut from now on is seen.
            let cut = cut(faults.clone(), now.cuts);
            tokio::select! {
                () = relay(client, target, &now, faults, captured) => {}
                () = cut => {}
            }
        });
    }
}

/// One more connection, until it is dropped.
struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(count: &Arc<watch::Sender<usize>>) -> Counted {
        count.send_modify(|n| *n += 1);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

async fn cut(mut faults: watch::Receiver<Faults>, before: u64) {
    // An error means that the proxy is gone, which is a cut as well.
    let _ = faults.wait_for(|f| f.cuts != before).await;
}

async fn relay(
    client: TcpStream,
    target: SocketAddr,
    at_start: &Faults,
    faults: watch::Receiver<Faults>,
    captured: Arc<Mutex<Captured>>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let way = |direction| Way {
        direction,
        half_closes: at_start.half_closes(direction),
        faults: faults.clone(),
        captured: Arc::clone(&captured),
    };
    tokio::join!(way(Direction::Up).run(from_client, to_server), way(Direction::Down).run(from_server, to_client));
}

/// One direction of one connection.
struct Way {
    direction: Direction,
    half_closes: u64,
    faults: watch::Receiver<Faults>,
    captured: Arc<Mutex<Captured>>,
}

impl Way {
    async fn run(self, from: OwnedReadHalf, to: OwnedWriteHalf) {
        let (pieces, due) = mpsc::channel(IN_FLIGHT);
        let (direction, before, mut closing) = (self.direction, self.half_closes, self.faults.clone());
        let latency = self.faults.clone();
        let write = async move {
            let mut to = to;
            let half_closed = async {
                let _ = closing.wait_for(|f| f.half_closes(direction) != before).await;
            };
            tokio::select! {
                () = self.write(due, &mut to) => {}
                () = half_closed => {}
            }
            // What a peer sees of either: this way has ended.
            let _ = to.shutdown().await;
        };
        tokio::join!(read(from, pieces, latency), write);
    }

    async fn write(mut self, mut due: mpsc::Receiver<(Instant, Bytes)>, to: &mut OwnedWriteHalf) {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            let direction = self.direction;
            let Ok(capture) = self.faults.wait_for(|f| !f.holds(direction)).await.map(|f| f.capture) else {
                return;
            };
            if capture {
                self.keep(&bytes);
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }

    fn keep(&self, bytes: &[u8]) {
        let mut captured = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match self.direction {
            Direction::Up => &mut captured.up,
            Direction::Down => &mut captured.down,
        };
        let room = CAPTURE_BYTES.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }
}

async fn read(mut from: OwnedReadHalf, pieces: mpsc::Sender<(Instant, Bytes)>, faults: watch::Receiver<Faults>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(1..) => {
                let at = Instant::now() + faults.borrow().latency;
                if pieces.send((at, buffer.split().freeze())).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => return,
        }
    }
}
