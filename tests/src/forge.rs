//! A forger: changes records of a journal and chains it anew, so that only what the records say can give it away.

use std::path::Path;

use serde_json::Value;

/// Bytes before the first frame: format, number, previous head.
const HEADER: usize = 48;
const LENGTH: usize = 4;
const HASH: usize = 32;

/// Passes every record through `change` and writes the journal again with a whole chain.
pub fn forge(journal: &Path, mut change: impl FnMut(&mut Value)) {
    let bytes = std::fs::read(journal).expect("the journal can be read");
    let (header, mut rest) = bytes.split_at(HEADER);
    let (mut forged, mut head) = (header.to_vec(), header[HEADER - HASH..].to_vec());
    while let Some((length, more)) = rest.split_first_chunk::<LENGTH>() {
        let (payload, more) = more.split_at(u32::from_le_bytes(*length) as usize);
        let mut record: Value = serde_json::from_slice(payload).expect("a record is JSON");
        change(&mut record);
        let payload = serde_json::to_vec(&record).expect("JSON can be written");
        let length = (payload.len() as u32).to_le_bytes();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head).update(&length).update(&payload);
        head = hasher.finalize().as_bytes().to_vec();
        forged.extend([&length[..], &payload, &head].concat());
        rest = &more[HASH..];
    }
    std::fs::write(journal, forged).expect("the journal can be written");
}
