//! `QuickXorHash`: the one hash that every kind of drive gives.
//!
//! Byte `i` of the content is xored into a register of 160 bits at bit `11·i mod 160`, so bytes
//! that are 160 apart always meet in the same place. They are xored onto each other first, which
//! the compiler does many at a time, and spread over the register once, at the end.

use std::fs::File;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::buffer::spare_capacity;

use crate::tree::QuickXorHash;

/// After so many bytes the bit position repeats: 11 and 160 have no common factor.
const PERIOD: usize = 160;

/// How far the position moves with each byte.
const SHIFT: usize = 11;

/// How much of a file is read at once: enough that the calls do not show, little enough to stay
/// in a processor's own cache, and to come from the allocator's own store: from 128 KiB on it asks
/// the kernel for fresh pages each time.
pub(crate) const PIECE: usize = 64 * 1024;

/// The hash of bytes that come in pieces.
#[derive(Clone, Debug)]
pub struct QuickXor {
    lanes: [u8; PERIOD],
    /// Which lane the next byte meets.
    at: usize,
    length: u64,
}

impl Default for QuickXor {
    fn default() -> Self {
        Self {
            lanes: [0; PERIOD],
            at: 0,
            length: 0,
        }
    }
}

impl QuickXor {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let at = self.at;
        let (head, rest) = bytes.split_at(bytes.len().min((PERIOD - at) % PERIOD));
        xor(&mut self.lanes[at..], head);
        for block in rest.chunks(PERIOD) {
            xor(&mut self.lanes, block);
        }
        self.at = (at + bytes.len()) % PERIOD;
        self.length += bytes.len() as u64;
    }

    /// How many bytes it has taken.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The hash of all bytes taken.
    #[must_use]
    pub fn finish(&self) -> QuickXorHash {
        let mut register = [0u8; 20];
        for (i, lane) in self.lanes.iter().enumerate() {
            let bit = SHIFT * i % PERIOD;
            let [low, high] = (u16::from(*lane) << (bit % 8)).to_le_bytes();
            register[bit / 8] ^= low;
            register[(bit / 8 + 1) % 20] ^= high; // past bit 159 it goes on at bit 0
        }
        xor(&mut register[12..], &self.length.to_le_bytes());
        QuickXorHash(register)
    }
}

fn xor(onto: &mut [u8], bytes: &[u8]) {
    for (lane, byte) in onto.iter_mut().zip(bytes) {
        *lane ^= byte;
    }
}

/// The hash of a file's first `size` bytes.
///
/// # Errors
/// The file cannot be read, or is shorter.
pub fn quick_xor_of(file: &File, size: u64) -> io::Result<QuickXorHash> {
    let mut hash = QuickXor::new();
    each_piece(file, Some(size), |piece| hash.update(piece))?;
    Ok(hash.finish())
}

/// Shows a file's bytes piece by piece, up to `size` or, without one, to its end. The file's own
/// position is not used: others may be reading through the same descriptor.
pub(super) fn each_piece(
    file: &File,
    size: Option<u64>,
    mut show: impl FnMut(&[u8]),
) -> io::Result<u64> {
    let mut piece = Vec::with_capacity(PIECE);
    let mut at = 0;
    loop {
        let left = size.map_or(u64::MAX, |size| size - at);
        let want = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        if want == 0 {
            return Ok(at);
        }
        piece.clear();
        match rustix::io::pread(file, spare_capacity(&mut piece), at) {
            Ok(0) if size.is_some() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => return Ok(at),
            Ok(read) => {
                let read = read.min(want); // the file may go on behind what is asked for
                show(&piece[..read]);
                at += read as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The hash as Graph writes it.
#[must_use]
pub fn to_base64(hash: &QuickXorHash) -> String {
    STANDARD.encode(hash.0)
}

/// The hash from Graph's text; `None` when the text is no such hash.
#[must_use]
pub fn from_base64(text: &str) -> Option<QuickXorHash> {
    STANDARD
        .decode(text)
        .ok()?
        .try_into()
        .ok()
        .map(QuickXorHash)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use proptest::prelude::*;

    fn of(bytes: &[u8]) -> String {
        let mut hash = QuickXor::new();
        hash.update(bytes);
        to_base64(&hash.finish())
    }

    #[test]
    fn the_known_hashes_come_out() {
        assert_eq!(of(b""), "AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        assert_eq!(of(b"a"), "YQAAAAAAAAAAAAAAAQAAAAAAAAA=");
        assert_eq!(of(b"hello world"), "aCgDG9jwBhDc4Q1yawMZAAAAAAA=");
        assert_eq!(
            of(b"The quick brown fox jumps over the lazy dog"),
            "bMSlbysmxJL6S75XwfMcQZOpcr4="
        );
        assert_eq!(of(&[0; 1000]), "AAAAAAAAAAAAAAAA6AMAAAAAAAA=");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(of(&all.repeat(4)), "h7xr2dbCayZCQYR9KKhlwDuT4UI=");
        assert_eq!(of(&vec![b'x'; 1 << 20]), "FKMYxShGMYpRjGIU29jWNraxjW0=");
    }

    #[test]
    fn a_hash_survives_its_text_and_other_texts_are_refused() {
        let hash = QuickXorHash(*b"exactly twenty bytes");
        assert_eq!(from_base64(&to_base64(&hash)), Some(hash));
        assert_eq!(from_base64(""), None);
        assert_eq!(from_base64("AAAA"), None);
        assert_eq!(from_base64("not base64 at all!"), None);
    }

    #[test]
    fn a_file_is_hashed_up_to_the_size_and_not_beyond() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"hello world and more", 0).unwrap();
        let hash = quick_xor_of(&file, 11).unwrap();
        assert_eq!(to_base64(&hash), "aCgDG9jwBhDc4Q1yawMZAAAAAAA=");
        let short = quick_xor_of(&file, 21).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// The definition, word for word: a second opinion.
    fn by_the_book(bytes: &[u8]) -> [u8; 20] {
        let mut register = [0u8; 20];
        for (i, byte) in bytes.iter().enumerate() {
            for bit in 0..8 {
                if byte >> bit & 1 == 1 {
                    let at = (11 * i + bit) % 160;
                    register[at / 8] ^= 1 << (at % 8);
                }
            }
        }
        for (i, byte) in (bytes.len() as u64).to_le_bytes().iter().enumerate() {
            register[12 + i] ^= byte;
        }
        register
    }

    proptest! {
        #[test]
        fn pieces_hash_like_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            cuts in proptest::collection::vec(1usize..400, 0..20),
        ) {
            let mut hash = QuickXor::new();
            let mut rest = bytes.as_slice();
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                hash.update(piece);
                rest = behind;
            }
            hash.update(rest);
            prop_assert_eq!(hash.finish().0, by_the_book(&bytes));
            prop_assert_eq!(hash.length(), bytes.len() as u64);
        }
    }
}
