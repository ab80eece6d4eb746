//! Asks the kernel how many bytes a TCP peer has not acknowledged. The only unsafe code of the
//! workspace; it knows nothing about what the bytes mean.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes handed to the kernel, our FIN counted as one, that the peer's kernel has not acknowledged
/// (tcp(7), `SIOCOUTQ`).
pub(super) fn unacknowledged_bytes(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SIOCOUTQ is TIOCOUTQ by another name (linux/sockios.h); libc only has the latter everywhere.
    #[expect(
        unsafe_code,
        reason = "no crate wraps SIOCOUTQ; the descriptor is borrowed, so it is open, and the \
                  kernel writes one int through a pointer to one"
    )]
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    u64::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn counts_what_the_peer_has_no_room_for_and_reaches_zero_once_it_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let mut sender = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (mut reader, _) = listener.accept().expect("accept");
        sender.set_nonblocking(true).expect("nonblocking");
        assert_eq!(unacknowledged_bytes(&sender).expect("ask"), 0);

        let mut written = 0;
        while let Ok(bytes) = sender.write(&[b'x'; 65536]) {
            written += bytes;
        }
        assert!(unacknowledged_bytes(&sender).expect("ask") > 0);

        sender.shutdown(std::net::Shutdown::Write).expect("half-close");
        let mut text = Vec::new();
        reader.read_to_end(&mut text).expect("read");
        assert_eq!(text.len(), written);
        drop(reader);
        // The reader has read our FIN; only its acknowledgement may still be on its way.
        sender.set_nonblocking(false).expect("blocking");
        assert_eq!(sender.read(&mut [0]).expect("the answering FIN"), 0);
        assert_eq!(unacknowledged_bytes(&sender).expect("ask"), 0);
    }

    #[test]
    fn a_socket_that_is_not_tcp_is_an_error_or_a_number_never_a_panic() {
        let file = std::fs::File::open("/dev/null").expect("open");
        assert!(unacknowledged_bytes(&file).is_err());
    }
}
