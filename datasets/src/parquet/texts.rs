//! A column of texts that seldom repeat: what the library's writer makes of it, without its copies.
//!
//! A page grows in a buffer that is used again, is packed once, and lies in the column's bytes from then on. The file is
//! the same, byte for byte, as long as pages end at the same rows (a test).

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, EncodingMask, PageType, Type};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// Bytes of a page: small, so that it is packed while rows are made and not all at the end.
pub(super) const PAGE_BYTES: usize = 1 << 16;
/// Statistics hold no more bytes of a text.
const BOUND_MAX: usize = 64;

/// Packs pages; one for all columns.
pub(super) struct Packer {
    encoder: snap::raw::Encoder,
    packed: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> Self {
        Packer { encoder: snap::raw::Encoder::new(), packed: Vec::new() }
    }

    fn pack(&mut self, page: &[u8]) -> Result<Bytes> {
        let most = snap::raw::max_compress_len(page.len());
        if self.packed.len() < most {
            self.packed.resize(most, 0);
        }
        let packed = self.encoder.compress(page, &mut self.packed);
        let length = packed.map_err(|error| ParquetError::General(error.to_string()))?;
        Ok(Bytes::copy_from_slice(&self.packed[..length]))
    }
}

/// One column of a row group.
pub(super) struct TextColumn {
    column: ColumnDescPtr,
    page: TextPage,
    chunk: TrackedWrite<Vec<u8>>,
    pages: i32,
    texts: i64,
    text_bytes: i64,
    /// With their headers, before they were packed and after.
    page_bytes: [i64; 2],
    /// Of the whole column, and of its last page.
    bounds: Option<Bounds>,
    last: Option<Bounds>,
    is_ascending: bool,
    is_descending: bool,
    column_index: ColumnIndexBuilder,
    offset_index: OffsetIndexBuilder,
}

/// The smallest and the largest text.
type Bounds = [Vec<u8>; 2];

/// The page that grows: each text behind its length.
#[derive(Default)]
struct TextPage {
    bytes: Vec<u8>,
    texts: u32,
    /// Where the smallest and the largest text begin and end.
    bounds: [(usize, usize); 2],
}

impl TextPage {
    fn push(&mut self, text: &[u8]) {
        let place = (self.bytes.len() + size_of::<u32>(), self.bytes.len() + size_of::<u32>() + text.len());
        let [(min_start, min_end), (max_start, max_end)] = self.bounds;
        if self.texts == 0 {
            self.bounds = [place; 2];
        } else if *text < self.bytes[min_start..min_end] {
            self.bounds[0] = place;
        } else if *text > self.bytes[max_start..max_end] {
            self.bounds[1] = place;
        }
        self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(text);
        self.texts += 1;
    }

    fn bounds(&self) -> Bounds {
        self.bounds.map(|(start, end)| self.bytes[start..end].to_vec())
    }
}

impl TextColumn {
    /// A column of a group whose columns have that many bytes, packed.
    pub(super) fn new(column: ColumnDescPtr, room: usize) -> Self {
        TextColumn {
            column,
            page: TextPage { bytes: Vec::with_capacity(PAGE_BYTES), ..TextPage::default() },
            chunk: TrackedWrite::new(Vec::with_capacity(room)),
            pages: 0,
            texts: 0,
            text_bytes: 0,
            page_bytes: [0; 2],
            bounds: None,
            last: None,
            is_ascending: true,
            is_descending: true,
            column_index: ColumnIndexBuilder::new(Type::BYTE_ARRAY),
            offset_index: OffsetIndexBuilder::new(),
        }
    }

    /// One more row.
    pub(super) fn push(&mut self, text: &str, packer: &mut Packer) -> Result<()> {
        let is_full = self.page.bytes.len() + size_of::<u32>() + text.len() > PAGE_BYTES;
        if is_full && self.page.texts > 0 {
            self.end_page(packer)?;
        }
        self.page.push(text.as_bytes());
        Ok(())
    }

    /// Bytes of it, most of them packed.
    pub(super) fn bytes(&self) -> usize {
        self.chunk.bytes_written() + self.page.bytes.len()
    }

    fn end_page(&mut self, packer: &mut Packer) -> Result<()> {
        let bounds = self.page.bounds();
        let (texts, length) = (self.page.texts, self.page.bytes.len());
        let text_bytes = length as i64 - i64::from(texts) * size_of::<u32>() as i64;
        let data = Page::DataPage {
            buf: packer.pack(&self.page.bytes)?,
            num_values: texts,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = SerializedPageWriter::new(&mut self.chunk).write_page(CompressedPage::new(data, length))?;
        self.page.bytes.clear();
        self.page.texts = 0;
        self.pages += 1;
        self.texts += i64::from(texts);
        self.text_bytes += text_bytes;
        self.page_bytes[0] += written.uncompressed_size as i64;
        self.page_bytes[1] += written.compressed_size as i64;
        self.offset_index.append_row_count(texts.into());
        self.offset_index.append_unencoded_byte_array_data_bytes(Some(text_bytes));
        self.offset_index.append_offset_and_size(written.offset as i64, written.compressed_size as i32);
        self.column_index.append(false, lower(&bounds[0]).0, upper(&bounds[1]).0, 0, None);
        if let Some(last) = &self.last {
            self.is_ascending &= last[0] <= bounds[0] && last[1] <= bounds[1];
            self.is_descending &= last[0] >= bounds[0] && last[1] >= bounds[1];
        }
        self.bounds = Some(match self.bounds.take() {
            Some([min, max]) => [min.min(bounds[0].clone()), max.max(bounds[1].clone())],
            None => bounds.clone(),
        });
        self.last = Some(bounds);
        Ok(())
    }

    /// The column's bytes, and what the file's end says of them.
    pub(super) fn finish(mut self, packer: &mut Packer) -> Result<(Bytes, ColumnCloseResult)> {
        if self.page.texts > 0 {
            self.end_page(packer)?;
        }
        self.column_index.set_boundary_order(match (self.is_ascending, self.is_descending) {
            (true, _) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (false, false) => BoundaryOrder::UNORDERED,
        });
        let [(min, min_is_exact), (max, max_is_exact)] = match &self.bounds {
            Some([min, max]) => [lower(min), upper(max)],
            None => [(Vec::new(), true), (Vec::new(), true)],
        };
        let statistics = ValueStatistics::new(Some(min.into()), Some(max.into()), None, Some(0), false)
            .with_min_is_exact(min_is_exact)
            .with_max_is_exact(max_is_exact);
        let pages = PageEncodingStats { page_type: PageType::DATA_PAGE, encoding: Encoding::PLAIN, count: self.pages };
        let metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(Compression::SNAPPY)
            .set_encodings_mask(EncodingMask::new_from_encodings([Encoding::PLAIN, Encoding::RLE].iter()))
            .set_page_encoding_stats(vec![pages])
            .set_total_uncompressed_size(self.page_bytes[0])
            .set_total_compressed_size(self.page_bytes[1])
            .set_num_values(self.texts)
            .set_data_page_offset(0)
            .set_statistics(Statistics::ByteArray(statistics))
            .set_unencoded_byte_array_data_bytes(Some(self.text_bytes))
            .build()?;
        let bytes_written = self.chunk.bytes_written() as u64;
        let close = ColumnCloseResult {
            bytes_written,
            rows_written: self.texts as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(self.column_index.build()?),
            offset_index: Some(self.offset_index.build()),
        };
        Ok((self.chunk.into_inner()?.into(), close))
    }
}

/// No text of which this is the smallest is below it; and whether it is that text itself.
fn lower(text: &[u8]) -> (Vec<u8>, bool) {
    match beginning(text) {
        Some(beginning) => (beginning.as_bytes().to_vec(), false),
        None => (text.to_vec(), true),
    }
}

/// No text of which this is the largest is above it; and whether it is that text itself.
fn upper(text: &[u8]) -> (Vec<u8>, bool) {
    let after = |beginning: &str| {
        beginning.char_indices().rev().find_map(|(at, last)| {
            let next = char::from_u32(u32::from(last) + 1).filter(|next| next.len_utf8() == last.len_utf8())?;
            Some([&beginning[..at], next.encode_utf8(&mut [0; 4])].concat())
        })
    };
    match beginning(text).and_then(after) {
        Some(after) => (after.into_bytes(), false),
        None => (text.to_vec(), true),
    }
}

/// How a text begins that is too long for statistics.
fn beginning(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() > BOUND_MAX)?;
    Some(&text[..text.floor_char_boundary(BOUND_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_short_and_on_the_right_side() {
        let long = "é".repeat(40);
        let (low, high) = (lower(long.as_bytes()), upper(long.as_bytes()));
        assert_eq!(low, ("é".repeat(32).into_bytes(), false));
        assert_eq!(high, (("é".repeat(31) + "ê").into_bytes(), false));
        assert!(low.0.as_slice() < long.as_bytes() && high.0.as_slice() > long.as_bytes());
        assert_eq!(upper(b"short"), (b"short".to_vec(), true));
        // Nothing of these lengths comes after the last character.
        let last = "\u{10ffff}".repeat(20);
        assert_eq!(upper(last.as_bytes()), (last.clone().into_bytes(), true));
        assert_eq!(upper(("a".to_owned() + &last).as_bytes()), (b"b".to_vec(), false));
    }
}
