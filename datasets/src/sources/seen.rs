//! The problems met so far and where each was first, nearly all of it on disk.
//!
//! In memory a problem costs 5 to 10 bytes: a table of numbers, whose keys and places lie in an unnamed temporary file.

use std::fs::File;
use std::io::{Error, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use hashbrown::HashTable;

/// Hash of a normalised question.
pub(super) type Key = [u8; 16];
/// File, line and byte.
pub(super) type Seat = (u32, u64, u64);

/// Bytes of a key and a place in the file.
const ENTRY: usize = 36;
/// So many entries are written at once.
const WAITING: usize = 4_096;
/// The first size of the table.
const CAPACITY: usize = 7_168;

/// See the module.
pub(super) struct Seen {
    table: HashTable<u32>,
    file: File,
    /// Entries in the file; those after them wait.
    written: usize,
    waiting: Vec<u8>,
}

impl Seen {
    /// None seen yet. Errors are those of the temporary folder.
    pub(super) fn new() -> Result<Self, Error> {
        let table = HashTable::with_capacity(CAPACITY);
        Ok(Seen { table, file: tempfile::tempfile()?, written: 0, waiting: Vec::new() })
    }

    /// Where the problem was first; if that is here, it is remembered.
    pub(super) fn first(&mut self, key: Key, seat: Seat) -> Result<Option<Seat>, Error> {
        let mut failed = None;
        let found = self.table.find(hash(&key), |number| match self.entry(*number as usize) {
            Ok(entry) => entry.starts_with(&key),
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(number) = found {
            return self.entry(*number as usize).map(|entry| Some(seat_of(&entry)));
        }
        if self.table.len() == self.table.capacity() {
            self.grow()?;
        }
        let number = u32::try_from(self.table.len()).map_err(|_| Error::other("more problems than can be numbered"))?;
        self.waiting.extend_from_slice(&key);
        self.waiting.extend_from_slice(&seat.0.to_le_bytes());
        self.waiting.extend_from_slice(&seat.1.to_le_bytes());
        self.waiting.extend_from_slice(&seat.2.to_le_bytes());
        insert(&mut self.table, &key, number);
        if self.waiting.len() == WAITING * ENTRY {
            self.file.write_all(&self.waiting)?;
            self.written += WAITING;
            self.waiting.clear();
        }
        Ok(None)
    }

    fn entry(&self, number: usize) -> Result<[u8; ENTRY], Error> {
        let mut entry = [0; ENTRY];
        match number.checked_sub(self.written) {
            Some(waiting) => entry.copy_from_slice(&self.waiting[waiting * ENTRY..(waiting + 1) * ENTRY]),
            None => self.file.read_exact_at(&mut entry, (number * ENTRY) as u64)?,
        }
        Ok(entry)
    }

    /// A table of twice the size, filled by reading the file from its start.
    fn grow(&mut self) -> Result<(), Error> {
        self.table = HashTable::with_capacity(self.table.capacity() * 2);
        self.file.seek(SeekFrom::Start(0))?;
        let mut block = vec![0; WAITING * ENTRY];
        let mut numbers = 0..;
        for _ in 0..self.written / WAITING {
            self.file.read_exact(&mut block)?;
            block.chunks_exact(ENTRY).zip(&mut numbers).for_each(|(entry, at)| insert(&mut self.table, entry, at));
        }
        self.waiting.chunks_exact(ENTRY).zip(&mut numbers).for_each(|(entry, at)| insert(&mut self.table, entry, at));
        Ok(())
    }
}

/// The table has room: it is never rehashed, which would ask for the hash of an entry by its number.
fn insert(table: &mut HashTable<u32>, entry: &[u8], number: u32) {
    debug_assert!(table.len() < table.capacity());
    table.insert_unique(hash(entry), number, |_| 0);
}

/// The key is a hash already.
fn hash(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key[..8]);
    u64::from_le_bytes(first)
}

fn seat_of(entry: &[u8; ENTRY]) -> Seat {
    let file = u32::from_le_bytes(entry[16..20].try_into().expect("four bytes"));
    let number = |from: usize| u64::from_le_bytes(entry[from..from + 8].try_into().expect("eight bytes"));
    (file, number(20), number(28))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_found_where_it_was_first_however_many_there_are() {
        let mut seen = Seen::new().unwrap();
        let key = |number: u64| {
            let mut key = [0; 16];
            key.copy_from_slice(&blake3::hash(&(number / 2).to_le_bytes()).as_bytes()[..16]);
            key
        };
        let seat = |number: u64| ((number % 7) as u32, number + 1, number * 1_000);
        let count = 5 * CAPACITY as u64;
        for number in 0..count {
            let first = (number % 2 == 1).then(|| seat(number - 1));
            assert_eq!(seen.first(key(number), seat(number)).unwrap(), first);
        }
        for number in 0..count {
            assert_eq!(seen.first(key(number), (9, 9, 9)).unwrap(), Some(seat(number / 2 * 2)));
        }
    }
}
