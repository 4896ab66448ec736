//! Frames: bytes to payloads. Total: any bytes give a payload, the end, a torn tail, or damage with its place.

use coordinator_core::Digest;

/// First bytes of every segment: the format and its version.
pub(super) const MAGIC: &[u8; 8] = b"POLYAJ02";
/// Bytes of the format's name without the version.
const NAME: usize = 6;
/// Bytes before the first frame: magic, number of the segment, head of the one before.
pub(super) const HEADER: usize = MAGIC.len() + 8 + HASH;
/// A record is never longer; a length beyond it is damage.
const PAYLOAD_MAX: usize = 256 << 20;
const LENGTH: usize = 4;
const HASH: usize = 32;

/// What a segment's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// From 1.
    pub(super) number: u64,
    /// Head of the chain before its first frame.
    pub(super) previous: Digest,
}

/// Why a header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Another version of the format, by name.
    Version(String),
    NotAJournal,
}

impl Header {
    /// The header of a run's first segment.
    pub(super) fn first() -> Self {
        Header { number: 1, previous: Digest::of(MAGIC) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        [&MAGIC[..], &self.number.to_le_bytes(), &self.previous.0].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some((magic, rest)) = bytes.split_first_chunk::<8>() else { return Err(HeaderError::NotAJournal) };
        if magic != MAGIC {
            let is_ours = magic[..NAME] == MAGIC[..NAME];
            let name = String::from_utf8_lossy(magic).into_owned();
            return Err(if is_ours { HeaderError::Version(name) } else { HeaderError::NotAJournal });
        }
        let Some((number, rest)) = rest.split_first_chunk::<8>() else { return Err(HeaderError::NotAJournal) };
        let previous = rest.get(..HASH).and_then(Digest::from_bytes).ok_or(HeaderError::NotAJournal)?;
        Ok(Header { number: u64::from_le_bytes(*number), previous })
    }
}

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A whole frame: its payload, the head of the chain after it and where the next one begins.
    Frame { payload: &'a [u8], head: Digest, end: usize },
    /// Nothing more.
    End,
    /// So many bytes that a crash left of a frame.
    Torn(u64),
    /// A damaged frame with a whole one behind it.
    Broken,
}

fn chain(previous: Digest, length: [u8; LENGTH], payload: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0);
    hasher.update(&length);
    hasher.update(payload);
    Digest(*hasher.finalize().as_bytes())
}

/// The bytes of a frame and the new head.
pub(super) fn encode(previous: Digest, payload: &[u8]) -> (Vec<u8>, Digest) {
    let length = u32::try_from(payload.len()).expect("records are far smaller than 4 GiB").to_le_bytes();
    let head = chain(previous, length, payload);
    ([&length[..], payload, &head.0].concat(), head)
}

/// A frame at the start of `bytes`: payload and hash, if there are enough bytes.
fn split(bytes: &[u8]) -> Option<([u8; LENGTH], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let size = u32::from_le_bytes(*length) as usize;
    if size > PAYLOAD_MAX || rest.len() < size + HASH {
        return None;
    }
    Some((*length, &rest[..size], &rest[size..size + HASH]))
}

/// The frame that begins at byte `at` of a segment, chained to `head`.
pub(super) fn next(bytes: &[u8], at: usize, head: Digest) -> Next<'_> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Next::End;
    }
    let good = split(rest).filter(|(length, payload, hash)| chain(head, *length, payload).0 == **hash);
    match good {
        Some((_, payload, hash)) => {
            let head = Digest::from_bytes(hash).expect("a hash is 32 bytes");
            Next::Frame { payload, head, end: at + LENGTH + payload.len() + HASH }
        }
        None if a_frame_follows(head, rest) => Next::Broken,
        None => Next::Torn(rest.len() as u64),
    }
}

/// Whether a whole frame stands anywhere behind the first byte: its chain value is the 32 bytes before it, so it can be
/// recognised without knowing where the damaged one was meant to end. A torn tail holds at most one frame, so it has
/// none behind.
fn a_frame_follows(head: Digest, bytes: &[u8]) -> bool {
    let is_good = |previous: Digest, bytes: &[u8]| {
        split(bytes).is_some_and(|(length, payload, hash)| chain(previous, length, payload).0 == *hash)
    };
    // Only the damaged frame's own hash may be wrong: then the next frame is chained to what it should have been.
    if let Some((length, payload, _)) = split(bytes)
        && is_good(chain(head, length, payload), &bytes[LENGTH + payload.len() + HASH..])
    {
        return true;
    }
    (HASH..bytes.len()).any(|start| {
        let Some((length, payload, hash)) = split(&bytes[start..]) else { return false };
        // Cheap first: only plausible records are hashed.
        payload.first() == Some(&b'{')
            && Digest::from_bytes(&bytes[start - HASH..start])
                .is_some_and(|previous| chain(previous, length, payload).0 == *hash)
    })
}
