//! The stages of a generated text.

use std::ops::Range;

use crate::trajectory::Stage;

/// Opens the last line of a trace.
pub const FINAL_ANSWER: &str = "Final Answer:";
/// A stage with fewer characters, trimmed, is as good as none.
pub const CHARACTERS_MIN: usize = 10;

/// Each tag that stands alone on its line, in order, with the byte range of the body after it: to the next tag, to the
/// `Final Answer:` line, or to the end.
pub fn sections(text: &str) -> Vec<(Stage, Range<usize>)> {
    let mut found: Vec<(Stage, Range<usize>)> = Vec::new();
    let (mut start, mut open) = (0, false);
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let trimmed = line.trim();
        let tag = Stage::ALL.into_iter().find(|stage| trimmed == stage.tag());
        if let Some(stage) = tag {
            found.push((stage, end..end));
            open = true;
        } else if trimmed.starts_with(FINAL_ANSWER) {
            open = false;
        } else if let Some((_, body)) = found.last_mut().filter(|_| open) {
            body.end = end;
        }
        start = end;
    }
    found
}

/// The body of each stage where it comes first; none where the tag is missing.
pub fn parse(text: &str) -> [Option<Range<usize>>; 4] {
    let mut stages = [const { None }; 4];
    for (stage, body) in sections(text) {
        let slot = &mut stages[stage.index()];
        if slot.is_none() {
            *slot = Some(body);
        }
    }
    stages
}

/// RFS-format: the longest run of stages that follow each other in order and hold [`CHARACTERS_MIN`] characters or more
/// after trimming, over four. A stage out of order, repeated or too short ends the run.
pub fn format_score(text: &str) -> f64 {
    let (mut longest, mut run) = (0u32, 0u32);
    let mut before: Option<Stage> = None;
    for (stage, body) in sections(text) {
        let filled = text[body].trim().chars().count() >= CHARACTERS_MIN;
        run = match (filled, before) {
            (false, _) => 0,
            (true, Some(before)) if stage > before => run + 1,
            (true, _) => 1,
        };
        before = filled.then_some(stage);
        longest = longest.max(run);
    }
    f64::from(longest.min(4)) / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &str = "ten letters and more";

    fn text(names: &[&str]) -> String {
        names.iter().map(|name| format!("#### {name} ####\n{BODY}\n\n")).collect()
    }

    #[test]
    fn bodies_end_before_the_next_tag_and_the_answer() {
        let text = "Question: q\n#### PLAN ####\nadd\n\n#### VERIFY ####\nok é\nFinal Answer: 3";
        let stages = parse(text);
        assert_eq!(stages[0], None);
        assert_eq!(&text[stages[1].clone().unwrap()], "add\n\n");
        assert_eq!(&text[stages[3].clone().unwrap()], "ok é\n");
    }

    #[test]
    fn the_format_score_counts_the_longest_run_in_order() {
        let cases: [(&[&str], f64); 6] = [
            (&["UNDERSTAND", "PLAN", "EXECUTE", "VERIFY"], 1.0),
            (&["UNDERSTAND", "EXECUTE", "VERIFY"], 0.75),
            (&["PLAN", "UNDERSTAND", "EXECUTE", "VERIFY"], 0.75),
            (&["VERIFY", "EXECUTE", "PLAN", "UNDERSTAND"], 0.25),
            (&["UNDERSTAND", "UNDERSTAND", "PLAN"], 0.5),
            (&[], 0.0),
        ];
        for (names, expected) in cases {
            assert_eq!(format_score(&text(names)), expected, "{names:?}");
        }
        let short = text(&["UNDERSTAND", "PLAN", "EXECUTE", "VERIFY"]).replacen(BODY, " 9 letters ", 1);
        assert_eq!(format_score(&short), 0.75);
    }

    proptest! {
        #[test]
        fn any_text_has_stages(text in "(#### (PLAN|VERIFY) ####|Final Answer:|\\PC|\n){0,30}") {
            for (_, body) in sections(&text) {
                prop_assert!(text.get(body).is_some());
            }
        }
    }
}
