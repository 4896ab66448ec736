//! A mutation fuzzer: pieces of a corpus are cut, joined, repeated, flipped and sprinkled with what breaks parsers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use polya_datasets::synthesize::Random;
use serde_json::Value;

/// Executions where nobody asks for more.
const QUICK: u64 = 3_000;
/// Between two cases of a corpus file.
const SEPARATOR: &[u8] = b"\n%%\n";
/// No mutant gets longer.
const LENGTH_MAX: usize = 4_096;

/// What parsers stumble over.
const DICTIONARY: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<<",
    b">>",
    b"=",
    b"####",
    b"#### PLAN ####\n",
    b"#### VERIFY ####",
    b"\\boxed{",
    b"\\frac",
    b"\\sqrt{",
    b"$",
    b"1e400",
    b"-",
    b"/0",
    b"99999999999999999999",
    b"0.",
    b".5",
    b",",
    b"%",
    b"^",
    b"(",
    b")",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"A.",
    b"D.",
    "\u{2028}".as_bytes(),
    "\u{0302}".as_bytes(),
    "đ".as_bytes(),
    "½".as_bytes(),
    "−".as_bytes(),
    "🍰".as_bytes(),
    "×".as_bytes(),
    b"Final Answer:",
    b"```",
    b"**",
    b"</PLAN>",
    b"<VERIFY>",
];

/// Runs every case of `tests/corpus/NAME.txt` as it is, then mutants of them. The first that panics fails the test, with
/// the seed and the bytes.
pub(crate) fn fuzz(name: &str, target: impl Fn(&[u8])) {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"));
    let (executions, seed) = (number("POLYA_FUZZ").unwrap_or(QUICK), number("POLYA_SEED").unwrap_or(1));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(format!("{name}.txt"));
    let cases = cases(&std::fs::read(&path).expect("the corpus is committed"));
    let documents: Vec<Value> = cases.iter().filter_map(|case| serde_json::from_slice(case).ok()).collect();
    let (begun, mut slowest) = (Instant::now(), (Duration::ZERO, vec![]));
    for execution in 0..executions {
        let input = match cases.get(execution as usize) {
            Some(case) => case.clone(),
            None => mutant(&cases, &documents, &mut Random::new([seed, execution, name.len() as u64])),
        };
        let started = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| target(&input))).is_ok();
        assert!(ended, "{name}: seed {seed}, execution {execution}: {}", input.escape_ascii());
        let took = started.elapsed();
        if took > slowest.0 {
            slowest = (took, input);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (longest, input) = slowest;
    println!(
        "{name}: {executions} executions, seed {seed}, {seconds:.0} s; the longest {longest:?}: {}",
        input.escape_ascii()
    );
}

fn cases(file: &[u8]) -> Vec<Vec<u8>> {
    let mut cases = vec![];
    let mut rest = file;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        cases.push(rest[..at].to_vec());
        rest = &rest[at + SEPARATOR.len()..];
    }
    assert!(!cases.is_empty() && rest.is_empty(), "cases end in a separator");
    cases
}

/// A case with its bytes changed, which is seldom JSON any more; else a document with one of its texts changed, so that
/// what reads the text is reached.
fn mutant(cases: &[Vec<u8>], documents: &[Value], random: &mut Random) -> Vec<u8> {
    if documents.is_empty() || random.chance(0.5) {
        let case = random.choose(cases).clone();
        return changed(case, cases, random);
    }
    let mut document = random.choose(documents).clone();
    let mut texts = Vec::new();
    collect_texts(&mut document, &mut texts);
    if !texts.is_empty() {
        let at = random.range(0, texts.len() as i64 - 1) as usize;
        let bytes = changed(std::mem::take(texts[at]).into_bytes(), cases, random);
        *texts[at] = String::from_utf8_lossy(&bytes).into_owned();
    }
    serde_json::to_vec(&document).expect("a document is JSON")
}

fn collect_texts<'v>(value: &'v mut Value, texts: &mut Vec<&'v mut String>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter_mut().for_each(|item| collect_texts(item, texts)),
        Value::Object(fields) => fields.values_mut().for_each(|field| collect_texts(field, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn changed(mut bytes: Vec<u8>, cases: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.range(0, 5) {
        let at = random.range(0, bytes.len() as i64) as usize;
        let end = (at + random.range(0, 24) as usize).min(bytes.len());
        match random.range(0, 6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let piece = bytes[at..end].to_vec();
                let times = random.range(1, 20) as usize;
                drop(bytes.splice(at..at, piece.repeat(times)));
            }
            2 => {
                let other = random.choose(cases);
                let from = random.range(0, other.len() as i64) as usize;
                let to = (from + random.range(0, 64) as usize).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << random.range(0, 7),
            4 if at < bytes.len() => bytes[at] = b'0' + random.range(0, 9) as u8,
            5 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, random.choose(DICTIONARY).iter().copied())),
        }
    }
    bytes.truncate(LENGTH_MAX);
    bytes
}
