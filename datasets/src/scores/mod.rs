//! Scores: pure functions over text. Answers, the stage format, faithfulness to a teacher, self-verification.
//!
//! [`score_problem`], [`score_probe`] and [`score_control`] judge one generated text each; [`summarise`] makes the
//! figures of `evaluation/final.json` from the verdicts. Nothing here panics on any text, and all randomness (the
//! bootstrap) is a function of a seed. Source: docs/architecture.md, "The scores".

pub mod answer;
pub mod derivation;
pub mod interval;
pub mod rfs;
pub mod stages;
pub mod summary;
pub mod svr;

pub use interval::Figure;
pub use rfs::Agreement;
pub use summary::{StageFigures, Summary, SvrFigures, TokenCount, paired_accuracy, summarise};
pub use svr::{ControlVerdict, ProbeVerdict, ProblemVerdict, score_control, score_probe, score_problem};
