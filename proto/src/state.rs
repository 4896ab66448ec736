//! S_t, the digest of a training state: both sides can compute it from the state's files alone.

/// blake3 over the safetensors files of a state, in order: name and blake3 of the bytes, each with its length. The
/// adapters' configuration files are not part of it.
pub fn state_digest<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> [u8; 32] {
    let files = files.into_iter().filter(|(name, _)| name.ends_with(".safetensors"));
    state_digest_of_hashes(files.map(|(name, bytes)| (name, bytes.len() as u64, blake3::hash(bytes))))
}

/// The same from name, length and blake3 of each safetensors file, for whoever hashes them without having them whole.
pub fn state_digest_of_hashes<'a>(files: impl IntoIterator<Item = (&'a str, u64, blake3::Hash)>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"polya state 1");
    for (name, bytes, hash) in files {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&bytes.to_le_bytes());
        hasher.update(hash.as_bytes());
    }
    *hasher.finalize().as_bytes()
}
