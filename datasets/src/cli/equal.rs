//! `datasets equal`: do two answers mean the same?

use serde_json::json;

use super::Failure;
use super::rows::{RowFiles, annotate, language, text};
use crate::scores::answer;

/// Compare final answers.
///
/// Each line holds `gold` and `prediction` (an answer or a text that states one), perhaps `language` (`en`, the default,
/// or `vi`, where a comma is the decimal sign). It comes back with `equal` and with `extracted`, the answer that was
/// read from the prediction (null if none). In doubt two answers are not equal.
#[derive(Debug, Clone, clap::Args)]
pub struct EqualArgs {
    #[command(flatten)]
    files: RowFiles,
}

/// Runs it.
pub fn equal(args: &EqualArgs) -> Result<(), Failure> {
    annotate(&args.files, |row| {
        let (gold, prediction, language) = (text(row, "gold")?, text(row, "prediction")?, language(row)?);
        row.insert("equal".to_owned(), json!(answer::equal(&gold, &prediction, &language)));
        row.insert("extracted".to_owned(), json!(answer::extract(&prediction, &language)));
        Ok(())
    })
}
