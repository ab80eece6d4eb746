//! A Graphite that counts.

use std::io::Read as _;
use std::net::TcpStream;

use anyhow::Result;
use memchr::memrchr;

use super::Shared;

const READ_BYTES: usize = 1024 * 1024;

pub(super) fn serve(mut connection: TcpStream, shared: &Shared) -> Result<()> {
    let (mut buffer, mut filled) = (vec![0; READ_BYTES], 0);
    loop {
        let read = connection.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let whole = memrchr(b'\n', &buffer[..filled]).map_or(0, |end| end + 1);
        shared.arrivals().take(&buffer[..whole]);
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}
