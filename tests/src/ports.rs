//! Ports that stay free while their server is down.
//!
//! A port that the kernel chose for `bind(0)` may go to any outgoing connection once it is closed;
//! a client that dials it on loopback may even get it itself and be connected to itself. So servers
//! that are stopped and started take ports below the kernel's range, and a lock on a file keeps
//! them from tests that run at the same time.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::time::Duration;

use rustix::process::getuid;

use crate::wait::until;

const LOWEST: u16 = 10_000;
const BIND_LIMIT: Duration = Duration::from_secs(5);
const LOCKS: &str = "packetboat-ports";

/// A port of 127.0.0.1 that nobody else in these tests gets while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Finds one that is free now, for TCP and for UDP.
    ///
    /// # Panics
    /// If there is none.
    pub fn free() -> Self {
        let range = outside_the_kernels_range();
        let span = range.end - range.start;
        let first = u16::try_from(std::process::id() * 37 % u32::from(span)).expect("less than a u16");
        (0..span)
            .map(|step| range.start + (first + step) % span)
            .find_map(Self::take)
            .expect("one port of many thousands is free")
    }

    fn take(number: u16) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("{LOCKS}-{}", getuid().as_raw()));
        std::fs::create_dir_all(&folder).expect("the folder of port locks can be made");
        let lock = File::create(folder.join(number.to_string())).expect("a port lock can be made");
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: lock })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Listens on it. A process that another thread is just starting may hold the socket that looked whether
    /// the port is free, until it becomes what it is to be; so it is tried for a while.
    pub fn listen(&self) -> TcpListener {
        until(BIND_LIMIT, "a free port", || TcpListener::bind(self.address()))
    }

    /// 127.0.0.1 and its number.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn outside_the_kernels_range() -> Range<u16> {
    let kernels = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest_of_kernel = kernels.split_whitespace().next().and_then(|low| low.parse().ok());
    match lowest_of_kernel {
        Some(low) if low > LOWEST + 1000 => LOWEST..low,
        _ => LOWEST..32_768,
    }
}
