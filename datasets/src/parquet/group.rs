//! A row group that is being written: texts that seldom repeat go into columns of our own making, all else into the
//! library's.

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder, StructBuilder, UInt32Builder};
use arrow_array::{ArrayRef, BooleanArray, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::Result;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnDescPtr;

use super::schema::{planted, schema, span, span_item};
use super::texts::{Packer, TextColumn};
use crate::trajectory::Trajectory;

/// A row group has no more encoded bytes and a piece, so that what a writer holds does not grow with the file.
pub(super) const GROUP_BYTES: usize = 2 << 20;
/// Between two looks at a group's size so many bytes of text are added, or one row.
pub(super) const PIECE_BYTES: usize = 1 << 19;

type TextOf = fn(&Trajectory) -> &str;

/// The columns of our own making: a dictionary of them costs time and saves nothing.
pub(super) const TEXT_COLUMNS: [(&str, TextOf); 6] = [
    ("id", |row| &row.id),
    ("question", |row| &row.question),
    ("understand", |row| &row.understand),
    ("plan", |row| &row.plan),
    ("execute", |row| &row.execute),
    ("verify", |row| &row.verify),
];

/// Makes the groups of a file.
pub(super) struct Groups {
    factory: ArrowRowGroupWriterFactory,
    columns: Vec<ColumnDescPtr>,
}

impl Groups {
    pub(super) fn new(factory: ArrowRowGroupWriterFactory, columns: &[ColumnDescPtr]) -> Self {
        Groups { factory, columns: columns.to_vec() }
    }

    /// The group with this place in the file.
    pub(super) fn begin(&self, index: usize) -> Result<Group> {
        let mut leaves = self.columns.iter().zip(self.factory.create_column_writers(index)?);
        let schema = schema();
        let columns = schema.fields().iter().map(|field| {
            let own = TEXT_COLUMNS.into_iter().find(|(name, _)| name == field.name());
            let mut leaves = leaves.by_ref().take(leaves_of(field));
            match (own, leaves.next()) {
                (Some((_, of)), Some((column, _))) => {
                    Column::Text(of, Box::new(TextColumn::new(column.clone(), GROUP_BYTES / TEXT_COLUMNS.len())))
                }
                (_, first) => {
                    let writers = first.into_iter().chain(leaves).map(|(_, writer)| writer).collect();
                    Column::Library(field.clone(), writers)
                }
            }
        });
        Ok(Group { columns: columns.collect() })
    }
}

/// So many columns of the file a field has.
fn leaves_of(field: &Field) -> usize {
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().map(|field| leaves_of(field)).sum(),
        DataType::List(item) => leaves_of(item),
        _ => 1,
    }
}

/// See the module.
pub(super) struct Group {
    columns: Vec<Column>,
}

enum Column {
    Text(TextOf, Box<TextColumn>),
    Library(Arc<Field>, Vec<ArrowColumnWriter>),
}

impl Group {
    /// Adds rows.
    pub(super) fn write(&mut self, rows: &[&Trajectory], packer: &mut Packer) -> Result<()> {
        for column in &mut self.columns {
            match column {
                Column::Text(of, column) => rows.iter().try_for_each(|row| column.push(of(row), packer))?,
                Column::Library(field, writers) => {
                    let leaves = compute_leaves(field, &array(field.name(), rows))?;
                    writers.iter_mut().zip(&leaves).try_for_each(|(writer, leaf)| writer.write(leaf))?;
                }
            }
        }
        Ok(())
    }

    /// Encoded bytes, most of them packed.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |column: &Column| match column {
            Column::Text(_, column) => column.bytes(),
            Column::Library(_, writers) => writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum(),
        };
        self.columns.iter().map(bytes).sum()
    }

    /// Puts it into the file.
    pub(super) fn finish(self, file: &mut SerializedFileWriter<impl Write + Send>, packer: &mut Packer) -> Result<()> {
        let mut group = file.next_row_group()?;
        for column in self.columns {
            match column {
                Column::Text(_, column) => {
                    let (bytes, close) = column.finish(packer)?;
                    group.append_column(&bytes, close)?;
                }
                Column::Library(_, writers) => {
                    writers.into_iter().try_for_each(|writer| writer.close()?.append_to_row_group(&mut group))?;
                }
            }
        }
        group.close().map(drop)
    }
}

/// Bytes of a row's texts.
pub(super) fn text_bytes(row: &Trajectory) -> usize {
    TEXT_COLUMNS.iter().map(|(_, of)| of(row).len()).sum::<usize>() + row.answer.len() + row.meta.len()
}

/// The values of a column that is the library's.
pub(super) fn array(name: &str, rows: &[&Trajectory]) -> ArrayRef {
    let texts = |of: TextOf| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|row| of(row)))) };
    match name {
        "source" => texts(|row| &row.source),
        "split" => texts(|row| &row.split),
        "answer" => texts(|row| &row.answer),
        "language" => texts(|row| &row.language),
        "meta" => texts(|row| &row.meta),
        "corrective" => Arc::new(rows.iter().map(|row| Some(row.corrective)).collect::<BooleanArray>()),
        "planted" => planted_column(rows),
        "weights" => weights_column(rows),
        other => unreachable!("no column is called {other}"),
    }
}

fn planted_column(rows: &[&Trajectory]) -> ArrayRef {
    if rows.iter().all(|row| row.planted.is_none()) {
        return Arc::new(StructArray::new_null(planted(), rows.len()));
    }
    let mut builder = StructBuilder::from_fields(planted(), rows.len());
    for row in rows {
        let planted = row.planted.as_ref();
        let texts = [(0, planted.map(|p| &p.kind)), (2, planted.map(|p| &p.right)), (3, planted.map(|p| &p.wrong))];
        for (index, value) in texts {
            let field = builder.field_builder::<StringBuilder>(index).expect("the schema says text");
            field.append_value(value.map_or("", String::as_str));
        }
        let field = builder.field_builder::<UInt32Builder>(1).expect("the schema says an integer");
        field.append_value(planted.map_or(0, |planted| planted.calculation));
        builder.append(planted.is_some());
    }
    Arc::new(builder.finish())
}

fn weights_column(rows: &[&Trajectory]) -> ArrayRef {
    let mut builder = ListBuilder::new(StructBuilder::from_fields(span(), 0)).with_field(span_item());
    for row in rows {
        for weight in row.weights.iter().flatten() {
            let values = builder.values();
            values.field_builder::<UInt32Builder>(0).expect("the schema says an integer").append_value(weight.start);
            values.field_builder::<UInt32Builder>(1).expect("the schema says an integer").append_value(weight.end);
            values.field_builder::<Float32Builder>(2).expect("the schema says a float").append_value(weight.weight);
            values.append(true);
        }
        builder.append(row.weights.is_some());
    }
    Arc::new(builder.finish())
}
