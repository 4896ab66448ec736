//! Four stages in free text: `#### PLAN ####`, `### Plan`, `**2. PLAN:**`, `<PLAN>…</PLAN>`, Vietnamese names, inside
//! chat wrappers and code fences.

use super::reasons::{Reason, Refusal};
use crate::trajectory::Stage;

/// Names of the stages, in capitals.
const NAMES: [(Stage, &[&str]); 4] = [
    (
        Stage::Understand,
        &["UNDERSTAND", "UNDERSTANDING", "HIỂU", "HIỂU ĐỀ", "HIỂU BÀI TOÁN", "TÌM HIỂU ĐỀ", "PHÂN TÍCH ĐỀ"],
    ),
    (Stage::Plan, &["PLAN", "PLANNING", "KẾ HOẠCH", "LẬP KẾ HOẠCH", "LÊN KẾ HOẠCH"]),
    (Stage::Execute, &["EXECUTE", "EXECUTION", "THỰC HIỆN", "THỰC THI", "TIẾN HÀNH", "GIẢI"]),
    (Stage::Verify, &["VERIFY", "VERIFICATION", "KIỂM TRA", "XÁC MINH", "KIỂM CHỨNG", "THỬ LẠI"]),
];
/// What may follow a name in a heading.
const ENDINGS: [&str; 6] = [" STAGE", " PHASE", " STEP", " THE PROBLEM", " BÀI TOÁN", " KẾT QUẢ"];

/// The bodies of the four stages, trimmed. What stands before the first heading is no stage.
pub fn stages(text: &str) -> Result<[String; 4], Refusal> {
    let mut found: Vec<(Stage, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        if is_wrapper(line) {
            continue;
        }
        match heading(line) {
            Some(Heading::Opens(stage, rest)) => found.push((stage, vec![rest])),
            Some(Heading::Closes) => {}
            None => {
                if let Some((_, body)) = found.last_mut() {
                    body.push(line);
                }
            }
        }
    }
    if let Some(missing) = Stage::ALL.iter().find(|stage| found.iter().all(|(other, _)| other != *stage)) {
        return Err(Reason::StageMissing.because(missing.name()));
    }
    if found.iter().map(|(stage, _)| *stage).ne(Stage::ALL) {
        let order: Vec<&str> = found.iter().map(|(stage, _)| stage.name()).collect();
        return Err(Reason::StagesOutOfOrder.because(order.join(", ")));
    }
    let bodies: Vec<String> = found.iter().map(|(_, body)| body.join("\n").trim().to_owned()).collect();
    bodies.try_into().map_err(|_| Reason::StagesOutOfOrder.because("not four"))
}

/// Lines of chat templates and code fences say nothing.
fn is_wrapper(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("```") || line.starts_with("<|") && line.ends_with("|>") || line == "<|im_start|>assistant"
}

enum Heading<'a> {
    Opens(Stage, &'a str),
    Closes,
}

fn heading(line: &str) -> Option<Heading<'_>> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("</").and_then(|rest| rest.strip_suffix('>')) {
        return stage_of(name).map(|_| Heading::Closes);
    }
    if let Some((name, rest)) = line.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        let stage = stage_of(name)?;
        let rest = rest.trim();
        let close = rest.rfind("</").filter(|_| rest.ends_with('>')).unwrap_or(rest.len());
        return Some(Heading::Opens(stage, &rest[..close]));
    }
    let decorated = line.starts_with(['#', '*', '_', '[', '=']);
    let bare = line.trim_start_matches(['#', '*', '_', '[', '=', ' ']);
    let bare = without_number(bare).trim_start_matches(['*', '_', '[', ' ']);
    let end = bare.find([':', '*', '#', ']', '=', '_', '—', '–']).unwrap_or(bare.len());
    let stage = stage_of(&bare[..end])?;
    let rest = bare[end..].trim_start_matches(|c: char| ":*#]=_—– ".contains(c)).trim_end();
    let rest = rest.trim_end_matches(['#', '=']).trim_end();
    // A bare word opens a stage only if its line holds nothing else: `Plan: buy two` may be a sentence.
    (decorated || rest.is_empty()).then_some(Heading::Opens(stage, rest))
}

/// Without `2.`, `2)`, `Step 2:`, `Bước 2.`, `Stage 2 -` in front.
fn without_number(text: &str) -> &str {
    let lower = text.to_lowercase();
    let word = ["step", "stage", "phase", "bước", "giai đoạn"].iter().find(|word| lower.starts_with(**word));
    let rest = word.and_then(|word| text.get(word.len()..)).unwrap_or(text).trim_start();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return text;
    }
    let rest = rest[digits..].trim_start();
    match rest.strip_prefix(['.', ')', ':', '-', '–']) {
        Some(rest) => rest.trim_start(),
        None if word.is_some() => rest,
        None => text,
    }
}

fn stage_of(name: &str) -> Option<Stage> {
    let name = name.trim().to_uppercase();
    let name = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name).trim();
    NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(stage, _)| *stage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bodies(text: &str) -> Vec<String> {
        stages(text).unwrap().to_vec()
    }

    #[test]
    fn headings_of_every_form_are_read() {
        let forms = [
            "#### UNDERSTAND ####\na\n\n#### PLAN ####\nb\n#### EXECUTE ####\nc\n#### VERIFY ####\nd",
            "<UNDERSTAND>\na\n</UNDERSTAND>\n<PLAN>b</PLAN>\n<EXECUTE>\nc\n</EXECUTE>\n<VERIFY>\nd\n</VERIFY>",
            "Sure!\n```\n### Understand\na\n### Plan\nb\n### execute\nc\n### Verify\nd\n```",
            "**1. Understand:** a\n**2. PLAN**\nb\n**3. Execution:**\nc\n**Step 4: Verification**\nd",
            "<|im_start|>assistant\nUNDERSTAND:\na\nPLAN:\nb\nEXECUTE:\nc\nVERIFY:\nd\n<|im_end|>",
            "## Hiểu đề\na\n## Lập kế hoạch\nb\n## Thực hiện\nc\n## Kiểm tra\nd",
            "**Bước 1: Hiểu bài toán**\na\n**Bước 2: Kế hoạch**\nb\n**Bước 3: Giải**\nc\n**Bước 4: Kiểm tra kết quả**\nd",
            "## Understand the problem\na\n## Planning\nb\n## Execute\nc\n## Verify\nd",
        ];
        for form in forms {
            assert_eq!(bodies(form), ["a", "b", "c", "d"], "{form}");
        }
    }

    #[test]
    fn a_sentence_is_no_heading() {
        let text = "### UNDERSTAND\nPlan: buy two.\nVerify this.\n### PLAN\nb\n### EXECUTE\nc\n### VERIFY\nd";
        assert_eq!(bodies(text)[0], "Plan: buy two.\nVerify this.");
    }

    #[test]
    fn what_is_missing_or_out_of_order_is_named() {
        let reason = |text: &str| stages(text).unwrap_err();
        assert_eq!(reason("### PLAN\nb").reason, Reason::StageMissing);
        assert_eq!(reason("").detail, "UNDERSTAND");
        let wrong = "### PLAN\nb\n### UNDERSTAND\na\n### EXECUTE\nc\n### VERIFY\nd";
        assert_eq!(reason(wrong).reason, Reason::StagesOutOfOrder);
        let twice = "### UNDERSTAND\na\n### PLAN\nb\n### PLAN\nb\n### EXECUTE\nc\n### VERIFY\nd";
        assert_eq!(reason(twice).reason, Reason::StagesOutOfOrder);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n|#### |PLAN|VERIFY|</|<|>|\\*\\*|Bước ){0,50}") {
            let _ = stages(&text);
        }
    }
}
