//! Holdout questions that training data has seen: word 13-grams in common.
//!
//! A holdout question is contaminated if thirteen words in a row of it stand in a training question or solution as
//! well. Case, punctuation, signs and white space do not count, and the writing of LaTeX does not either. One with fewer
//! than thirteen words is contaminated only if a training question is the same problem
//! ([`normalise`]: signs and decimal points count there), because a few words in common say
//! nothing.
//!
//! Invariants: the counts are complete, only the list of pairs has a limit; memory holds the holdout's n-grams and no
//! training row; time is linear in the training texts. N-grams are compared by 64-bit hashes.
//! Source: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C, with its largest N for every set and
//! without its exemption of n-grams that stand in more than ten documents.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::split::normalise;
use crate::words::{Signs, hash, mix, words};

/// Words in an n-gram.
pub const NGRAM_WORDS: usize = 13;

/// A text of a row, under its field's name.
pub type Text<'a> = (&'static str, &'a str);

/// A place in a file's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The row's id.
    pub id: String,
    /// The row, from 0.
    pub row: u64,
    /// The field's name.
    pub field: &'static str,
    /// The first word of the n-gram in the field, from 0.
    pub word: u64,
}

/// A training row and a holdout question with words in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The first n-gram in common in the training row.
    pub train: Place,
    /// Where it first stands in the question.
    pub holdout: Place,
    /// How many n-grams of the training row stand in the question.
    pub shared: u64,
    /// The first one, or the whole question if it is short.
    pub ngram: String,
}

/// How much of a file is in the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Rows.
    pub rows: u64,
    /// Those that have something in common with the other file.
    pub contaminated: u64,
    /// The second by the first; 0 without rows.
    pub share: f64,
}

impl Counts {
    fn new(rows: u64, contaminated: u64) -> Self {
        Counts { rows, contaminated, share: if rows == 0 { 0.0 } else { contaminated as f64 / rows as f64 } }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Words in an n-gram.
    pub ngram_words: usize,
    /// Training rows.
    pub train: Counts,
    /// Holdout questions.
    pub holdout: Counts,
    /// Holdout questions with fewer words than an n-gram, which are compared as a whole.
    pub short: u64,
    /// In the order of training rows, then of holdout questions.
    pub pairs: Vec<Pair>,
    /// Whether there are more pairs than were to be listed.
    pub more_pairs: bool,
}

/// The holdout's questions, ready to be met by training rows.
#[derive(Debug)]
pub struct Holdout {
    ids: Vec<String>,
    /// N-gram, question, first word; sorted once all questions are here.
    ngrams: Vec<(u64, u32, u32)>,
    /// Short questions by their normalised text.
    short: HashMap<String, Vec<u32>>,
    short_count: u64,
}

impl Holdout {
    /// Without questions.
    pub fn new() -> Self {
        Holdout { ids: Vec::new(), ngrams: Vec::new(), short: HashMap::new(), short_count: 0 }
    }

    /// The next question.
    pub fn push(&mut self, id: &str, question: &str) {
        let number = self.ids.len() as u32;
        self.ids.push(id.to_owned());
        let normalised = normalise(question);
        let hashes = hashes(&normalised);
        if hashes.len() < NGRAM_WORDS {
            self.short.entry(normalised).or_default().push(number);
            self.short_count += 1;
        }
        self.ngrams.extend((0u32..).zip(ngrams(&hashes)).map(|(word, ngram)| (ngram, number, word)));
    }

    /// Ready for training rows, of whose pairs so many are listed.
    pub fn check(mut self, pairs_max: usize) -> Check {
        self.ngrams.sort_unstable();
        let mut starts = HashMap::new();
        for (at, (ngram, ..)) in (0u32..).zip(&self.ngrams) {
            starts.entry(*ngram).or_insert(at);
        }
        let is_hit = vec![false; self.ids.len()];
        let is_known = vec![false; self.ngrams.len()];
        Check { holdout: self, starts, is_known, is_hit, rows: 0, hit_rows: 0, pairs: vec![], pairs_max, more: false }
    }
}

impl Default for Holdout {
    fn default() -> Self {
        Self::new()
    }
}

/// A check in progress: training rows one after the other, then the report.
#[derive(Debug)]
pub struct Check {
    holdout: Holdout,
    /// Where each n-gram's entries start. Only looked up: its order reaches nothing.
    starts: HashMap<u64, u32>,
    /// By start: whether the n-gram's questions are marked already.
    is_known: Vec<bool>,
    is_hit: Vec<bool>,
    rows: u64,
    hit_rows: u64,
    pairs: Vec<Pair>,
    pairs_max: usize,
    more: bool,
}

/// The first meeting of a training row with a question, and how many there were.
struct Meeting {
    field: &'static str,
    word: u64,
    holdout_word: u64,
    ngram: String,
    shared: u64,
}

impl Check {
    /// The next training row, its question and its solution's texts.
    pub fn push(&mut self, id: &str, question: &str, solution: &[Text<'_>]) {
        let row = self.rows;
        self.rows += 1;
        let mut met: BTreeMap<u32, Meeting> = BTreeMap::new();
        let mut is_hit = false;
        let normalised = normalise(question);
        for number in self.holdout.short.get(&normalised).into_iter().flatten() {
            is_hit = true;
            self.is_hit[*number as usize] = true;
            let ngram = normalised.clone();
            met.insert(*number, Meeting { field: "question", word: 0, holdout_word: 0, ngram, shared: 1 });
        }
        is_hit |= self.meet("question", &normalised, &mut met);
        for (field, text) in solution {
            is_hit |= self.meet(field, &normalise(text), &mut met);
        }
        self.hit_rows += u64::from(is_hit);
        for (number, meeting) in met {
            if self.pairs.len() == self.pairs_max {
                self.more = true;
                return;
            }
            let Meeting { field, word, holdout_word, ngram, shared } = meeting;
            let train = Place { id: id.to_owned(), row, field, word };
            let (id, row) = (self.holdout.ids[number as usize].clone(), u64::from(number));
            let holdout = Place { id, row, field: "question", word: holdout_word };
            self.pairs.push(Pair { train, holdout, shared, ngram });
        }
    }

    /// Marks the questions that a text meets; whether there is one. Once no more pairs are listed, the questions of an
    /// n-gram are gone through only the first time, so that a template in every row of both files costs no more than
    /// its words.
    fn meet(&mut self, field: &'static str, normalised: &str, met: &mut BTreeMap<u32, Meeting>) -> bool {
        let is_listing = self.pairs.len() < self.pairs_max;
        let hashes = hashes(normalised);
        let mut is_hit = false;
        for (word, ngram) in (0u64..).zip(ngrams(&hashes)) {
            let Some(start) = self.starts.get(&ngram).map(|start| *start as usize) else { continue };
            is_hit = true;
            if !is_listing {
                self.more = true;
                if self.is_known[start] {
                    continue;
                }
            }
            self.is_known[start] = true;
            let mut last = None;
            for (_, number, holdout_word) in self.holdout.ngrams[start..].iter().take_while(|entry| entry.0 == ngram) {
                self.is_hit[*number as usize] = true;
                // A question that has it twice has it.
                if is_listing && last.replace(*number) != Some(*number) {
                    let first = || {
                        let ngram = words(normalised, Signs::Dropped).skip(word as usize).take(NGRAM_WORDS);
                        let ngram = ngram.collect::<Vec<_>>().join(" ");
                        Meeting { field, word, holdout_word: u64::from(*holdout_word), ngram, shared: 0 }
                    };
                    met.entry(*number).or_insert_with(first).shared += 1;
                }
            }
        }
        is_hit
    }

    /// The sum.
    pub fn report(self) -> Report {
        let hit = self.is_hit.iter().filter(|hit| **hit).count() as u64;
        Report {
            ngram_words: NGRAM_WORDS,
            train: Counts::new(self.rows, self.hit_rows),
            holdout: Counts::new(self.is_hit.len() as u64, hit),
            short: self.holdout.short_count,
            pairs: self.pairs,
            more_pairs: self.more,
        }
    }
}

/// Hashes of a normalised text's words in lower case.
fn hashes(normalised: &str) -> Vec<u64> {
    // Only formulas have capitals left.
    words(&normalised.to_lowercase(), Signs::Dropped).map(hash).collect()
}

fn ngrams(hashes: &[u64]) -> impl Iterator<Item = u64> {
    hashes.windows(NGRAM_WORDS).map(|words| words.iter().fold(0, |hash, word| mix(hash ^ word)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LONG: &str = "Mara stacks 14 red bricks on each of 6 shelves, then takes 2.5 dozen away. How many stay?";

    fn report(holdout: &[&str], train: &[(&str, &str)], pairs_max: usize) -> Report {
        let mut all = Holdout::new();
        (0..).zip(holdout).for_each(|(row, question): (u32, _)| all.push(&format!("h{row}"), question));
        let mut check = all.check(pairs_max);
        for (row, (question, solution)) in (0u32..).zip(train) {
            check.push(&format!("t{row}"), question, &[("execute", *solution)]);
        }
        check.report()
    }

    #[test]
    fn thirteen_words_in_a_row_are_found_with_their_place() {
        let thirteen = "14 RED bricks; on each of 6 shelves -- then takes 2.5 dozen away";
        let found = report(&["Something else.", LONG], &[("What?", ""), ("Why?", &format!("So: {thirteen}."))], 9);
        assert_eq!(found.holdout, Counts { rows: 2, contaminated: 1, share: 0.5 });
        assert_eq!(found.train, Counts { rows: 2, contaminated: 1, share: 0.5 });
        let [pair] = &found.pairs[..] else { panic!("{found:?}") };
        assert_eq!((pair.train.row, pair.train.field, pair.train.word), (1, "execute", 1));
        assert_eq!((pair.holdout.row, pair.holdout.id.as_str(), pair.holdout.word), (1, "h1", 2));
        assert_eq!(
            (pair.shared, pair.ngram.as_str()),
            (1, "14 red bricks on each of 6 shelves then takes 2.5 dozen away")
        );
        // One word less, or one that differs.
        for other in [thirteen.replace("14 ", ""), thirteen.replace("2.5", "25"), thirteen.replace("RED", "old")] {
            assert_eq!(report(&[LONG], &[("Why?", &other)], 9).holdout.contaminated, 0, "{other}");
        }
    }

    #[test]
    fn a_short_question_counts_only_as_a_whole() {
        let short = r"Find $x^{2} - 3$ for $x = 2$.";
        let found = report(&[short, LONG], &[(r"find $x^2-3$ for $x=2$", "")], 9);
        assert_eq!((found.short, found.holdout.contaminated, found.pairs.len()), (1, 1, 1));
        assert_eq!(found.pairs[0].ngram, "find $x^2-3$ for $x=2$");
        for other in
            [(r"Find $x^2 + 3$ for $x = 2$.", ""), ("Tell me.", short), ("Find $x^2 - 3$ for $x = 2$. Why?", "")]
        {
            assert_eq!(report(&[short], &[other], 9).holdout.contaminated, 0, "{other:?}");
        }
        assert_eq!(report(&[""], &[("", "")], 9).holdout.contaminated, 1);
        assert_eq!(report(&[], &[(LONG, "")], 9).holdout.share, 0.0);
    }

    #[test]
    fn the_list_ends_but_the_counts_do_not() {
        let holdout = [LONG, LONG, "another", LONG];
        let found = report(&holdout, &[(LONG, LONG); 5], 4);
        assert_eq!((found.holdout.contaminated, found.train.contaminated), (3, 5));
        assert_eq!((found.pairs.len(), found.more_pairs), (4, true));
        assert!(!report(&holdout, &[(LONG, "")], 3).more_pairs);
        let none = report(&holdout, &[(LONG, LONG), ("another", "")], 0);
        assert_eq!((none.holdout.contaminated, none.pairs.len(), none.more_pairs), (4, 0, true));
    }

    proptest! {
        #[test]
        fn the_counts_are_those_of_comparing_all_with_all(
            holdout in prop::collection::vec(prop::collection::vec(0u8..2, 0..24), 0..12),
            train in prop::collection::vec(prop::collection::vec(0u8..2, 0..24), 0..12),
            pairs_max in 0usize..30,
        ) {
            let text = |words: &Vec<u8>| words.iter().map(|word| format!("w{word} ").replace('w', ["a", "b"][usize::from(*word)])).collect::<String>();
            let (holdout, train): (Vec<_>, Vec<_>) = (holdout.iter().map(text).collect(), train.iter().map(text).collect());
            let grams = |text: &String| -> BTreeSet<Vec<String>> {
                let all: Vec<String> = words(text, Signs::Dropped).map(str::to_owned).collect();
                if all.len() < NGRAM_WORDS { return BTreeSet::new() }
                all.windows(NGRAM_WORDS).map(<[String]>::to_vec).collect()
            };
            let is_short = |text: &String| words(text, Signs::Dropped).count() < NGRAM_WORDS;
            let meets = |h: &String, t: &String| !grams(h).is_disjoint(&grams(t)) || (is_short(h) && h == t);
            let hit = holdout.iter().filter(|h| train.iter().any(|t| meets(h, t))).count();
            let hit_rows = train.iter().filter(|t| holdout.iter().any(|h| meets(h, t))).count();
            let pairs = train.iter().map(|t| holdout.iter().filter(|h| meets(h, t)).count()).sum::<usize>();
            let questions: Vec<&str> = holdout.iter().map(String::as_str).collect();
            let rows: Vec<(&str, &str)> = train.iter().map(|text| (text.as_str(), "")).collect();
            let found = report(&questions, &rows, pairs_max);
            prop_assert_eq!((found.holdout.contaminated, found.train.contaminated), (hit as u64, hit_rows as u64));
            prop_assert_eq!((found.pairs.len(), found.more_pairs), (pairs.min(pairs_max), pairs > pairs_max));
        }
    }
}
