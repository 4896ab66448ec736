//! From byte spans to token stages: what a model is fed and what it learns of it.
//!
//! The stage of a token is the stage that its first byte is in; everything before the first tag is context. The one
//! function that says so is [`encode_as`]. Source: docs/architecture.md, "A trajectory".

use std::ops::Range;

use tokenizers::Tokenizer;
use unicode_normalization::UnicodeNormalization;

use crate::prompt::PromptForm;
use crate::tokenizer::END_OF_TEXT;
use crate::trajectory::{Stage, Trajectory};

/// A trajectory as tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The trajectory's id.
    pub id: String,
    /// Token ids; the last one ends the text.
    pub ids: Vec<u32>,
    /// Stage of each token; none for context.
    pub stages: Vec<Option<Stage>>,
    /// Multiplies the stage weight; 0: not learned.
    pub weights: Vec<f32>,
    /// Tokens of the VERIFY tag line, its line break included.
    pub verify_tag: Range<usize>,
    /// EXECUTE holds a planted error.
    pub corrective: bool,
}

impl Sample {
    /// Tokens that are learned.
    pub fn learned(&self) -> usize {
        self.weights.iter().filter(|weight| **weight > 0.0).count()
    }
}

/// Why a trajectory or a tokenizer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The tokenizer failed on a text.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// The tokenizer has no token that ends a text.
    #[error("the tokenizer has none of the end-of-text tokens {0}")]
    NoEnd(String),
    /// A stage's tag has tokens that depend on the text around it.
    #[error("the tag of {0} is tokenised differently in context; this tokenizer cannot be used for stages")]
    TagInContext(&'static str),
    /// Two stage names begin with the same token, so that a prediction cannot tell them apart.
    #[error("the names {0} and {1} begin with the same token; this tokenizer cannot be used for stages")]
    SameFirstToken(&'static str, &'static str),
    /// A stage teaches nothing.
    #[error("sample `{id}`: stage {stage} has no token of its own")]
    EmptyStage {
        /// Which sample.
        id: String,
        /// Which stage.
        stage: &'static str,
    },
    /// The base's chat template cannot ask the question.
    #[error("sample `{id}`: {reason}")]
    Prompt {
        /// Which sample.
        id: String,
        /// Why.
        reason: String,
    },
    /// The tag does not stand at its place.
    #[error("sample `{0}`: the VERIFY tag is not where its text says; does a stage's text contain a tag?")]
    MisplacedTag(String),
}

/// Token ids of a stage's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The whole line, its line break included.
    pub line: Vec<u32>,
    /// Index in `line` of the first token of the stage's name.
    pub name_at: usize,
}

impl Tag {
    /// The first token of the stage's name.
    pub fn name_token(&self) -> u32 {
        self.line[self.name_at]
    }
}

/// Ids of a text, without special tokens.
pub fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, TokenError> {
    let encoding = tokenizer.encode(text, false).map_err(|error| TokenError::Tokenizer(error.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}

/// The token that ends a text: the first known one that the tokenizer has.
pub fn end_of_text(tokenizer: &Tokenizer) -> Result<u32, TokenError> {
    const KNOWN: [&str; 4] = [END_OF_TEXT, "<|im_end|>", "</s>", "<|end_of_text|>"];
    let found = KNOWN.iter().find_map(|token| tokenizer.token_to_id(token));
    found.ok_or_else(|| TokenError::NoEnd(KNOWN.join(", ")))
}

/// The stages' tags in a tokenizer, or why it cannot be used.
pub fn tags(tokenizer: &Tokenizer) -> Result<[Tag; 4], TokenError> {
    let mut tags = Vec::with_capacity(4);
    for stage in Stage::ALL {
        let line = ids(tokenizer, &format!("{}\n", stage.tag()))?;
        let name_at = ids(tokenizer, "####")?.len();
        for (before, after) in [("a.\n\n", "1. b"), ("12\n\n", "- c"), (")\n\n", "Given"), ("x\n", "y")] {
            if !stands_alone(tokenizer, before, &format!("{}\n", stage.tag()), after, &line)? {
                return Err(TokenError::TagInContext(stage.name()));
            }
        }
        tags.push(Tag { line, name_at });
    }
    for (i, a) in Stage::ALL.iter().enumerate() {
        for b in &Stage::ALL[i + 1..] {
            if tags[a.index()].name_token() == tags[b.index()].name_token() {
                return Err(TokenError::SameFirstToken(a.name(), b.name()));
            }
        }
    }
    tags.try_into().map_err(|_| TokenError::NoEnd(String::new()))
}

/// Whether a tag's line has the same tokens between two texts as it has alone, none of them shared with a neighbour.
pub(crate) fn stands_alone(
    tokenizer: &Tokenizer,
    before: &str,
    tag: &str,
    after: &str,
    line: &[u32],
) -> Result<bool, TokenError> {
    let text = format!("{before}{tag}{after}");
    let encoding = tokenizer.encode(text, false).map_err(|error| TokenError::Tokenizer(error.to_string()))?;
    let begins_at = |byte: usize| encoding.get_offsets().iter().position(|(start, _)| *start == byte);
    let (first, next) = (begins_at(before.len()), begins_at(before.len() + tag.len()));
    Ok(matches!((first, next), (Some(first), Some(next)) if encoding.get_ids()[first..next] == *line))
}

/// Tokenises a trajectory in the plain form. See [`encode_as`].
pub fn encode(tokenizer: &Tokenizer, verify: &Tag, end: u32, trajectory: &Trajectory) -> Result<Sample, TokenError> {
    encode_as(&PromptForm::Plain, tokenizer, verify, end, trajectory)
}

/// Tokenises a trajectory and says what each token is. `end` is the token that ends the text, VERIFY's last.
pub fn encode_as(
    form: &PromptForm,
    tokenizer: &Tokenizer,
    verify: &Tag,
    end: u32,
    trajectory: &Trajectory,
) -> Result<Sample, TokenError> {
    let prompt_error =
        |error: crate::prompt::PromptError| TokenError::Prompt { id: trajectory.id.clone(), reason: error.to_string() };
    let (canonical, longer) = form.canonical(trajectory).map_err(prompt_error)?;
    let normal: String = canonical.text.nfc().collect();
    let (canonical, longer) = if normal == canonical.text {
        (canonical, longer)
    } else {
        form.canonical(&normalised(trajectory)).map_err(prompt_error)?
    };
    let encoding =
        tokenizer.encode(canonical.text.as_str(), false).map_err(|error| TokenError::Tokenizer(error.to_string()))?;
    let mut token_ids = encoding.get_ids().to_vec();
    let stage_at = |byte: usize| Stage::ALL.into_iter().find(|stage| canonical.stages[stage.index()].contains(&byte));
    let mut stages: Vec<Option<Stage>> = encoding.get_offsets().iter().map(|(start, _)| stage_at(*start)).collect();
    let mut weights: Vec<f32> = encoding
        .get_offsets()
        .iter()
        .zip(&stages)
        .map(|((start, _), stage)| match stage {
            None => 0.0,
            // Spans count the bytes of the canonical text.
            Some(stage) => weight(trajectory, *stage, start.strict_add_signed(-longer)),
        })
        .collect();
    token_ids.push(end);
    stages.push(Some(Stage::Verify));
    weights.push(weight(trajectory, Stage::Verify, usize::MAX));
    let first = stages.iter().position(|stage| *stage == Some(Stage::Verify)).unwrap_or(token_ids.len());
    let verify_tag = first..first + verify.line.len();
    if token_ids.get(verify_tag.clone()) != Some(verify.line.as_slice()) {
        return Err(TokenError::MisplacedTag(trajectory.id.clone()));
    }
    let sample = Sample {
        id: trajectory.id.clone(),
        ids: token_ids,
        stages,
        weights,
        verify_tag,
        corrective: trajectory.corrective,
    };
    for stage in Stage::ALL {
        let learned = |(s, w): (&Option<Stage>, &f32)| *s == Some(stage) && *w > 0.0;
        let masked = trajectory.corrective && stage == Stage::Execute;
        if !masked && !sample.stages.iter().zip(&sample.weights).any(learned) {
            return Err(TokenError::EmptyStage { id: sample.id, stage: stage.name() });
        }
    }
    Ok(sample)
}

fn weight(trajectory: &Trajectory, stage: Stage, byte: usize) -> f32 {
    match stage {
        Stage::Execute if trajectory.corrective => 0.0,
        _ => {
            let spans = trajectory.weights.as_deref().unwrap_or(&[]);
            spans.iter().find(|s| (s.start as usize..s.end as usize).contains(&byte)).map_or(1.0, |span| span.weight)
        }
    }
}

/// The same trajectory in NFC, as tokenizers want it: offsets then refer to the text that is really tokenised.
fn normalised(trajectory: &Trajectory) -> Trajectory {
    let nfc = |text: &str| text.nfc().collect::<String>();
    Trajectory {
        question: nfc(&trajectory.question),
        understand: nfc(&trajectory.understand),
        plan: nfc(&trajectory.plan),
        execute: nfc(&trajectory.execute),
        verify: nfc(&trajectory.verify),
        answer: nfc(&trajectory.answer),
        ..trajectory.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesize::{STEPS, synthesize};
    use crate::tokenizer;

    #[test]
    fn stages_partition_the_learned_tokens_in_order() {
        let tokenizer = tokenizer::train(1, 500, 1024, &[]).unwrap();
        let tags = tags(&tokenizer).unwrap();
        let end = end_of_text(&tokenizer).unwrap();
        for index in 0..500 {
            let mut trajectory = synthesize(2, index, STEPS);
            trajectory.understand.push_str(" Số táo 🍎, e\u{302}\u{309}.");
            let sample = encode(&tokenizer, &tags[3], end, &trajectory).unwrap();
            let order: Vec<usize> = sample.stages.iter().map(|stage| stage.map_or(0, |s| s.index() + 1)).collect();
            assert!(order.is_sorted() && (0..=4).all(|stage| order.contains(&stage)));
            for stage in Stage::ALL {
                let first = sample.stages.iter().position(|s| *s == Some(stage)).unwrap();
                let line = &tags[stage.index()].line;
                assert_eq!(&sample.ids[first..first + line.len()], line.as_slice());
            }
            assert_eq!(sample.ids.last(), Some(&end));
        }
    }

    #[test]
    fn a_wrong_execute_is_context() {
        let tokenizer = tokenizer::train(1, 500, 1024, &[]).unwrap();
        let (tags, end) = (tags(&tokenizer).unwrap(), end_of_text(&tokenizer).unwrap());
        let trajectory = Trajectory { corrective: true, ..synthesize(2, 3, STEPS) };
        let sample = encode(&tokenizer, &tags[3], end, &trajectory).unwrap();
        for (stage, weight) in sample.stages.iter().zip(&sample.weights) {
            assert_eq!(*weight > 0.0, !matches!(stage, None | Some(Stage::Execute)));
        }
    }
}
