use std::time::Duration;

use farebox_testkit::{Direction, FaultProxy, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

/// Sends everything back, and says goodbye when its client has finished.
struct Echo {
    proxy: FaultProxy,
    _task: JoinSet<()>,
}

async fn echo() -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.into_split();
                if tokio::io::copy(&mut from, &mut to).await.is_ok() {
                    let _ = to.write_all(b"bye").await;
                }
            });
        }
    });
    Echo { proxy, _task: task }
}

impl Echo {
    async fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.proxy.addr()).await.unwrap();
        assert_eq!(say(&mut stream, b"hello").await, b"hello");
        stream
    }
}

async fn say(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).await.unwrap();
    let mut back = vec![0; bytes.len()];
    timeout(LONG, stream.read_exact(&mut back)).await.unwrap().unwrap();
    back
}

#[tokio::test]
async fn bytes_pass_and_are_captured() {
    let echo = echo().await;
    let mut stream = echo.connect().await;
    echo.proxy.start_capture();
    let big = vec![7; 1 << 20];
    assert_eq!(say_big(&mut stream, &big).await, big);
    let captured = echo.proxy.captured();
    assert!(captured.up == big && captured.down == big);
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"bye", "a client that has finished still gets its answer");
    eventually(LONG, "the connection to be gone", || async { echo.proxy.connections() == 0 }).await;
}

async fn say_big(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; bytes.len()];
    let both = async { tokio::join!(to.write_all(bytes), from.read_exact(&mut back)) };
    let (wrote, read) = timeout(LONG, both).await.unwrap();
    wrote.unwrap();
    read.unwrap();
    back
}

#[tokio::test]
async fn latency_is_added_both_ways() {
    let echo = echo().await;
    let mut stream = echo.connect().await;
    echo.proxy.set_latency(Duration::from_millis(60));
    let started = Instant::now();
    say(&mut stream, b"slow").await;
    assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_cut_closes_what_is_open_and_only_that() {
    let echo = echo().await;
    let mut stream = echo.connect().await;
    echo.proxy.cut();
    let mut byte = [0];
    let read = timeout(LONG, stream.read(&mut byte)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    echo.connect().await;
    echo.proxy.set_refuse(true);
    let mut refused = TcpStream::connect(echo.proxy.addr()).await.unwrap();
    let read = timeout(LONG, refused.read(&mut byte)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn a_blackhole_holds_one_way_and_lets_go() {
    let echo = echo().await;
    let mut stream = echo.connect().await;
    echo.proxy.set_blackhole(Direction::Down, true);
    stream.write_all(b"held").await.unwrap();
    let mut back = [0; 4];
    assert!(timeout(SHORT, stream.read_exact(&mut back)).await.is_err());
    echo.proxy.set_blackhole(Direction::Down, false);
    let mut stream = stream;
    timeout(LONG, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"held");
}

#[tokio::test]
async fn a_half_close_ends_one_way() {
    let echo = echo().await;
    let mut stream = echo.connect().await;
    echo.proxy.half_close(Direction::Up);
    let mut rest = Vec::new();
    timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"bye", "the server saw the end of its input, the client its answer");
    let mut stream = echo.connect().await;
    echo.proxy.half_close(Direction::Down);
    let mut byte = [0];
    assert_eq!(timeout(LONG, stream.read(&mut byte)).await.unwrap().unwrap(), 0);
}
