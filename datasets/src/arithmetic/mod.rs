//! Sums in text: exact numbers, expressions, and `expression = value` wherever it stands.
//!
//! Everything here takes any text, model output included: it never panics, and what it does is bounded by the text's
//! length and the limits stated beside each function.

pub mod calculation;
pub mod exact;
pub mod expression;
pub(crate) mod marks;
pub mod number;
pub mod plain;
pub(crate) mod reading;
pub(crate) mod words;

pub use calculation::Stated;
pub use exact::Exact;
pub use expression::{Expression, ExpressionError, Operator};
