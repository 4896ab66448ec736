//! The columns.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema};

/// Text columns that are never null, before `corrective`.
pub(super) const TEXTS: [&str; 10] =
    ["id", "source", "split", "question", "understand", "plan", "execute", "verify", "answer", "language"];

/// Fields of `planted`.
pub(super) fn planted() -> Fields {
    Fields::from(vec![
        Field::new("kind", DataType::Utf8, false),
        Field::new("calculation", DataType::UInt32, false),
        Field::new("right", DataType::Utf8, false),
        Field::new("wrong", DataType::Utf8, false),
    ])
}

/// Fields of one span of `weights`.
pub(super) fn span() -> Fields {
    Fields::from(vec![
        Field::new("start", DataType::UInt32, false),
        Field::new("end", DataType::UInt32, false),
        Field::new("weight", DataType::Float32, false),
    ])
}

/// The element of `weights`.
pub(super) fn span_item() -> Field {
    Field::new("item", DataType::Struct(span()), false)
}

/// The whole schema.
pub(super) fn schema() -> Arc<Schema> {
    let mut fields: Vec<Field> = TEXTS.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
    fields.push(Field::new("corrective", DataType::Boolean, false));
    fields.push(Field::new("planted", DataType::Struct(planted()), true));
    fields.push(Field::new("weights", DataType::List(Arc::new(span_item())), true));
    fields.push(Field::new("meta", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}
