//! `datasets score`: what a student's trace is worth beside the teacher's.

use serde_json::json;

use super::Failure;
use super::rows::{RowFiles, annotate, language, text};
use crate::scores::svr;
use crate::trajectory::Stage;

/// Score traces against a teacher's.
///
/// Each line holds `question`, `teacher` and `student` (canonical traces) and `answer`, perhaps `language`. It comes back
/// with `correct`, `rfs_format` (share of the stages in order), `rfs` (precision, recall and F1 of the derivations that the
/// student shares with the teacher; null where the teacher calculates nothing) and `stages` (which of the four are there).
#[derive(Debug, Clone, clap::Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    files: RowFiles,
}

/// Runs it.
pub fn score(args: &ScoreArgs) -> Result<(), Failure> {
    annotate(&args.files, |row| {
        let [question, teacher, student, answer] =
            ["question", "teacher", "student", "answer"].map(|name| text(row, name));
        let verdict = svr::judge(&question?, &teacher?, &answer?, &student?, &language(row)?);
        let rfs = match verdict.rfs {
            Some(rfs) => json!(rfs),
            None => json!({ "precision": null, "recall": null, "f1": null }),
        };
        let stages = Stage::ALL.map(|stage| (stage.name().to_lowercase(), json!(verdict.stages[stage.index()])));
        row.insert("correct".to_owned(), json!(verdict.correct));
        row.insert("rfs_format".to_owned(), json!(verdict.rfs_format));
        row.insert("rfs".to_owned(), rfs);
        row.insert("stages".to_owned(), stages.into_iter().collect());
        Ok(())
    })
}
