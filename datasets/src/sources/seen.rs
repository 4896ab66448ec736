//! The problems met so far and where each was first: some thousands in memory, more of them on disk.
//!
//! Memory does not grow with their number. On disk they lie in an unnamed temporary file, a table of slots: each in the
//! first free one from where its hash points. (The file may go on behind the table's last slot.)

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;

use hashbrown::HashTable;

/// Hash of a normalised question.
pub(super) type Key = [u8; 16];
/// File, line and byte. The line is counted from 1.
pub(super) type Seat = (u32, u64, u64);

/// No more are held in memory: what fills 16,384 buckets.
const NEAR: usize = 14_336;
/// The first size of the table on disk, and how it grows.
const SLOTS: u64 = 1 << 16;
const GROWTH: u64 = 4;
/// So many slots are read at once; a search seldom goes on.
const WINDOW: usize = 16;

/// See the module.
pub(super) struct Seen {
    near: HashTable<Entry>,
    far: Option<Far>,
}

impl Seen {
    /// None seen yet.
    pub(super) fn new() -> Self {
        Seen { near: HashTable::with_capacity(NEAR), far: None }
    }

    /// Where the problem was first; if that is here, it is remembered. Errors are those of the temporary folder.
    pub(super) fn first(&mut self, key: Key, seat: Seat) -> Result<Option<Seat>, Error> {
        let entry = Entry::new(key, seat);
        if let Some(far) = &mut self.far {
            return far.first(&entry);
        }
        if let Some(known) = self.near.find(entry.hash(), |other| other.key() == key) {
            return Ok(Some(known.seat()));
        }
        if self.near.len() < NEAR {
            self.near.insert_unique(entry.hash(), entry, Entry::hash);
            return Ok(None);
        }
        let mut far = Far::new(SLOTS)?;
        for known in std::mem::take(&mut self.near) {
            far.first(&known)?;
        }
        self.far.insert(far).first(&entry)
    }
}

/// A key and a place as they lie on disk. One of zeros is a free slot: its line would be 0.
#[derive(Clone, Copy)]
struct Entry([u8; Self::SIZE]);

impl Entry {
    const SIZE: usize = 36;

    fn new(key: Key, (file, line, byte): Seat) -> Self {
        let mut bytes = [0; Self::SIZE];
        bytes[..16].copy_from_slice(&key);
        bytes[16..20].copy_from_slice(&file.to_le_bytes());
        bytes[20..28].copy_from_slice(&line.to_le_bytes());
        bytes[28..].copy_from_slice(&byte.to_le_bytes());
        Entry(bytes)
    }

    fn key(&self) -> &[u8] {
        &self.0[..16]
    }

    /// The key is a hash already.
    fn hash(&self) -> u64 {
        self.number(0)
    }

    fn seat(&self) -> Seat {
        let file = u32::from_le_bytes(self.0[16..20].try_into().expect("four bytes"));
        (file, self.number(20), self.number(28))
    }

    fn is_free(&self) -> bool {
        self.number(20) == 0
    }

    fn number(&self, from: usize) -> u64 {
        u64::from_le_bytes(self.0[from..from + 8].try_into().expect("eight bytes"))
    }
}

/// The table on disk.
struct Far {
    file: File,
    slots: u64,
    filled: u64,
}

impl Far {
    fn new(slots: u64) -> Result<Self, Error> {
        Ok(Far { file: tempfile::tempfile()?, slots, filled: 0 })
    }

    fn first(&mut self, entry: &Entry) -> Result<Option<Seat>, Error> {
        // Fuller, the searches would become long.
        if self.filled * 2 > self.slots {
            self.grow()?;
        }
        let mut slot = ((u128::from(entry.hash()) * u128::from(self.slots)) >> 64) as u64;
        loop {
            for other in self.window(slot)?.0 {
                if other.is_free() {
                    self.file.write_all_at(&entry.0, slot * Entry::SIZE as u64)?;
                    self.filled += 1;
                    return Ok(None);
                }
                if other.key() == entry.key() {
                    return Ok(Some(other.seat()));
                }
                slot += 1;
            }
        }
    }

    /// The slots from one on, and how many of them are in the file: those behind its end are free.
    fn window(&self, slot: u64) -> Result<([Entry; WINDOW], usize), Error> {
        let mut bytes = [0; WINDOW * Entry::SIZE];
        let mut length = 0;
        while length < bytes.len() {
            match self.file.read_at(&mut bytes[length..], slot * Entry::SIZE as u64 + length as u64) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut entries = [Entry([0; Entry::SIZE]); WINDOW];
        for (entry, bytes) in entries.iter_mut().zip(bytes.chunks_exact(Entry::SIZE)) {
            entry.0.copy_from_slice(bytes);
        }
        Ok((entries, length.div_ceil(Entry::SIZE)))
    }

    /// A larger table, filled in the order of the smaller one, which is that of the hashes: it is written from its start
    /// to its end.
    fn grow(&mut self) -> Result<(), Error> {
        let mut larger = Far::new(self.slots * GROWTH)?;
        let mut slot = 0;
        loop {
            let (entries, held) = self.window(slot)?;
            for entry in entries.iter().filter(|entry| !entry.is_free()) {
                larger.first(entry)?;
            }
            if held < WINDOW {
                break;
            }
            slot += WINDOW as u64;
        }
        *self = larger;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_found_where_it_was_first_however_many_there_are() {
        let mut seen = Seen::new();
        let key = |number: u64| {
            let mut key = [0; 16];
            key.copy_from_slice(&blake3::hash(&(number / 2).to_le_bytes()).as_bytes()[..16]);
            key
        };
        let seat = |number: u64| ((number % 7) as u32, number + 1, number * 1_000);
        let mut met = 0;
        // In memory, on disk, and on disk after growing.
        for count in [NEAR as u64, 3 * NEAR as u64, 3 * SLOTS] {
            for number in met..count {
                let first = (number % 2 == 1).then(|| seat(number - 1));
                assert_eq!(seen.first(key(number), seat(number)).unwrap(), first);
            }
            met = count;
            for number in 0..met {
                assert_eq!(seen.first(key(number), (9, 9, 9)).unwrap(), Some(seat(number / 2 * 2)));
            }
        }
        assert!(seen.far.is_some_and(|far| far.slots > SLOTS && far.filled == 3 * SLOTS / 2));
    }

    #[test]
    fn a_slot_behind_the_last_one_is_found_again() {
        let mut far = Far::new(4).unwrap();
        let key = |number: u8| {
            let mut key = [0xff; 16];
            key[15] = number;
            key
        };
        for number in 0..3 {
            assert_eq!(far.first(&Entry::new(key(number), (0, 1 + u64::from(number), 0))).unwrap(), None);
        }
        for round in 0..2 {
            for number in 0..40 {
                let first = (round > 0 || number < 3).then(|| (0, 1 + u64::from(number), 0));
                assert_eq!(far.first(&Entry::new(key(number), (0, 1 + u64::from(number), 0))).unwrap(), first);
            }
        }
    }
}
