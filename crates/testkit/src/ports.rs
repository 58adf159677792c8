use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that a system gives to whoever asks for any, and to connections.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;
/// How far the first ports of two processes lie apart that follow each other.
const OF_A_PROCESS: u32 = 101;

/// A port of the loopback address on which nobody listens, and which nobody gets who asks for any: it stays free until it is
/// used, and while a server on it is started again.
pub fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = process::id().wrapping_mul(OF_A_PROCESS);
    let port = |_| {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        u16::try_from(FIRST + next % COUNT).ok()
    };
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..COUNT).filter_map(port).find(free).ok_or_else(|| io::ErrorKind::AddrInUse.into())
}
