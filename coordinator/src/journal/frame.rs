//! Frames: bytes to payloads. Total: any bytes give payloads, a torn tail, or an error with its place.

use coordinator_core::Digest;

/// First bytes of a journal.
pub(super) const MAGIC: &[u8; 8] = b"POLYAJ01";
/// What errors call this format.
pub(super) const FORMAT: &str = "POLYAJ01";
/// A record is never longer; a length beyond it is damage.
const PAYLOAD_MAX: usize = 256 << 20;
const LENGTH: usize = 4;
const HASH: usize = 32;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    Format,
    Broken(u64),
}

#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pub(super) payloads: Vec<(u64, &'a [u8])>,
    pub(super) head: Digest,
    pub(super) torn: u64,
}

/// The hash before the first frame.
pub(super) fn first() -> Digest {
    Digest::of(MAGIC)
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

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, FrameError> {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return Err(FrameError::Format) };
    let mut parsed = Parsed { payloads: vec![], head: first(), torn: 0 };
    while !rest.is_empty() {
        let at = (bytes.len() - rest.len()) as u64;
        let good = split(rest).filter(|(length, payload, hash)| chain(parsed.head, *length, payload).0 == **hash);
        let Some((_, payload, hash)) = good else {
            if a_frame_follows(parsed.head, rest) {
                return Err(FrameError::Broken(at));
            }
            parsed.torn = rest.len() as u64;
            return Ok(parsed);
        };
        parsed.head = Digest::from_bytes(hash).expect("a hash is 32 bytes");
        parsed.payloads.push((at, payload));
        rest = &rest[LENGTH + payload.len() + HASH..];
    }
    Ok(parsed)
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
