//! The checksum of bodies, on the wire and in the spool.

/// CRC32C (Castagnoli) of `bytes`: RFC 3720, section 12.1, calls it that of iSCSI.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_rfc() {
        // RFC 3720, appendix B.4, whose bytes are in the order of the wire.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }

    /// Long ones go another way through the processor than short ones.
    #[test]
    fn in_one_piece_of_any_length_it_is_what_it_is_bit_by_bit() {
        let bytes: Vec<u8> = (0..5000u32).map(|index| (index * 31 % 251) as u8).collect();
        for length in [0, 1, 7, 63, 64, 255, 256, 1023, 4097, 5000] {
            assert_eq!(crc32c(&bytes[..length]), bit_by_bit(&bytes[..length]), "{length}");
        }
    }

    fn bit_by_bit(bytes: &[u8]) -> u32 {
        const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (REVERSED_POLYNOMIAL * (crc & 1)))
        })
    }
}
