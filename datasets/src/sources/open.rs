//! Files as they travel: plain, .gz or .zst, told by their first bytes and not by their names.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Opens a file for reading, unpacked.
///
/// # Errors
/// Those of opening and of a damaged .zst header; damage further on is an error of reading.
pub fn open(path: &Path) -> std::io::Result<Box<dyn BufRead + Send>> {
    reader(File::open(path)?)
}

/// The same for what is open already. Several gzip members or zstd frames in a row are one text, as `zcat` has it.
pub fn reader(source: impl Read + Send + 'static) -> std::io::Result<Box<dyn BufRead + Send>> {
    const SIZE: usize = 1 << 16;
    let mut source = BufReader::with_capacity(SIZE, source);
    let first = source.fill_buf()?;
    Ok(match first {
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(SIZE, flate2::bufread::MultiGzDecoder::new(source))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(BufReader::with_capacity(SIZE, zstd::Decoder::with_buffer(source)?)),
        _ => Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn read(bytes: Vec<u8>) -> std::io::Result<String> {
        let mut text = String::new();
        reader(Cursor::new(bytes))?.read_to_string(&mut text).map(|_| text)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn packed_and_plain_files_are_the_same_text() {
        let text = "một\nhai\n";
        assert_eq!(read(text.into()).unwrap(), text);
        assert_eq!(read([gzip("một\n"), gzip("hai\n")].concat()).unwrap(), text);
        assert_eq!(read(zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap(), text);
        assert_eq!(read(vec![]).unwrap(), "");
    }

    #[test]
    fn a_cut_file_is_an_error_not_a_shorter_text() {
        let packed = gzip(&"abc ".repeat(1_000));
        assert!(read(packed[..packed.len() - 9].to_vec()).is_err());
        let packed = zstd::encode_all("abc ".repeat(1_000).as_bytes(), 1).unwrap();
        assert!(read(packed[..packed.len() - 3].to_vec()).is_err());
    }
}
