//! Files as memory.

use std::fs::File;
use std::path::Path;

/// Maps a file; its pages come in when they are read and can go again without being written.
pub(crate) fn map(path: &Path) -> std::io::Result<memmap2::Mmap> {
    let file = File::open(path)?;
    // SAFETY: the map is read only. Whoever shortens the file meanwhile ends this process by a signal, whoever changes it
    // changes what is loaded: the same as for a file that is read in pieces.
    unsafe { memmap2::Mmap::map(&file) }
}
