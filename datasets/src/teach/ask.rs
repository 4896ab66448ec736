//! The asking: threads take samples off one list and ask for them, at the pace, within the budget, with attempts.
//!
//! An answer is in the journal before it is counted. Whoever ends the asking (a signal, the budget, an error that no
//! attempt can help) lets what is on its way come back first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::TeachError;
use super::journal::{Answered, Journal, SampleKey};
use super::pace::Pace;
use super::questions::Question;
use super::request::{Outcome, Teacher};
use super::usage::Usage;
use crate::network::backoff::{Backoff, RETRY_AFTER_MAX};
use crate::network::stop::Stop;

/// So many samples in a row without a usable reply, each after all its attempts, end the asking.
const SILENT_MAX: u32 = 5;
/// So many requests that the server does not accept, before it has accepted any, end the asking.
const UNCLEAR_MAX: usize = 5;

/// One sample to ask for.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'q> {
    /// Of which question.
    pub question: &'q Question,
    /// Its number, from 0.
    pub number: u32,
}

impl Sample<'_> {
    fn key(&self) -> SampleKey {
        (self.question.key.clone(), self.number)
    }
}

/// How to ask.
pub struct Asker<'a> {
    /// Whom.
    pub teacher: &'a Teacher,
    /// Where answers go.
    pub journal: &'a Journal,
    /// Attempts and the waits between them.
    pub backoff: Backoff,
    /// Limits a minute.
    pub pace: Pace,
    /// Requests on their way at once, at least one.
    pub concurrency: usize,
    /// Tokens that all replies together may have.
    pub budget: Option<u64>,
    /// Tokens of the replies that are there already.
    pub spent: Usage,
    /// Whether the teacher has ever accepted this request.
    pub understood: bool,
    /// Ends the asking.
    pub stop: &'a Stop,
    /// Told after each sample.
    pub progress: &'a (dyn Fn(&Totals) + Sync),
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests sent.
    pub requests: u64,
    /// Replies received.
    pub replies: u64,
    /// Questions that the server refused.
    pub refused: u64,
    /// Samples that no attempt brought.
    pub unanswered: u64,
    /// Tokens of all replies, the earlier ones included.
    pub usage: Usage,
}

/// Why the asking ended.
#[derive(Debug)]
pub enum End {
    /// Everything was asked.
    Complete,
    /// Somebody wanted it.
    Stopped,
    /// The next request could exceed the budget.
    Budget,
    /// Nothing more gets through.
    Failed(TeachError),
}

/// The answers, and why there are no more.
#[derive(Debug)]
pub struct Asked {
    /// Those that came now; all of them are in the journal.
    pub answers: BTreeMap<SampleKey, Answered>,
    /// The sums.
    pub totals: Totals,
    /// The last trouble that left a sample unanswered.
    pub trouble: Option<String>,
    /// Why it ended.
    pub end: End,
}

/// What became of a sample.
enum Verdict {
    Answered(Answered, Usage),
    Unclear { status: u16, why: String },
    Unanswered(String),
    Stopped,
    Fatal(TeachError),
}

struct State<'q> {
    list: VecDeque<Sample<'q>>,
    /// Tokens that requests on their way may cost, and their number.
    reserved: u64,
    on_their_way: usize,
    answers: BTreeMap<SampleKey, Answered>,
    totals: Totals,
    understood: bool,
    unclear: Vec<(Sample<'q>, u16, String)>,
    silent: u32,
    trouble: Option<String>,
    budget_spent: bool,
    failed: Option<TeachError>,
}

struct Work<'a, 'q> {
    asker: &'a Asker<'a>,
    pace: Mutex<Pace>,
    state: Mutex<State<'q>>,
    changed: Condvar,
}

impl Asker<'_> {
    /// Asks for all samples of the list.
    pub fn ask(&self, list: Vec<Sample<'_>>) -> Asked {
        let threads = self.concurrency.min(list.len());
        let state = State {
            list: list.into(),
            reserved: 0,
            on_their_way: 0,
            answers: BTreeMap::new(),
            totals: Totals { usage: self.spent, ..Totals::default() },
            understood: self.understood,
            unclear: Vec::new(),
            silent: 0,
            trouble: None,
            budget_spent: false,
            failed: None,
        };
        let pace = Mutex::new(self.pace.clone());
        let work = Work { asker: self, pace, state: Mutex::new(state), changed: Condvar::new() };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work.run());
            }
        });
        work.finish()
    }
}

impl<'q> Work<'_, 'q> {
    fn run(&self) {
        let mut random = fastrand::Rng::new();
        while let Some((sample, reserved)) = self.take() {
            let mut verdict = self.attempts(sample, reserved, &mut random);
            if let Verdict::Answered(answered, _) = &verdict
                && let Err(error) = self.asker.journal.append(&sample.key(), answered)
            {
                verdict = Verdict::Fatal(error);
            }
            self.record(sample, reserved, verdict);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<'q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next sample, with the tokens set aside for it; none when there is nothing more to ask.
    fn take(&self) -> Option<(Sample<'q>, u64)> {
        let mut state = self.state();
        loop {
            if self.asker.stop.is_requested() || state.failed.is_some() || state.budget_spent {
                return None;
            }
            let sample = *state.list.front()?;
            let need = self.asker.teacher.reserve(sample.question);
            let used = state.totals.usage.total().saturating_add(state.reserved).saturating_add(need);
            if self.asker.budget.is_none_or(|budget| used <= budget) {
                state.list.pop_front();
                state.reserved += need;
                state.on_their_way += 1;
                return Some((sample, need));
            }
            if state.on_their_way == 0 {
                state.budget_spent = true;
                return None;
            }
            // What comes back may have cost less than was set aside.
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn attempts(&self, sample: Sample<'_>, reserved: u64, random: &mut fastrand::Rng) -> Verdict {
        let Asker { teacher, backoff, stop, .. } = self.asker;
        for attempt in 0.. {
            if !self.wait_for_pace(reserved, random) {
                return Verdict::Stopped;
            }
            self.state().totals.requests += 1;
            let (why, asked) = match teacher.ask(sample.question) {
                Outcome::Reply(reply) => {
                    let usage = reply.usage;
                    self.pace().give_back(Instant::now(), reserved.saturating_sub(usage.total()));
                    return Verdict::Answered(Answered::Reply(reply), usage);
                }
                Outcome::Refused(why) => return Verdict::Answered(Answered::Refused(why), Usage::default()),
                Outcome::Unclear { status, why } => return Verdict::Unclear { status, why },
                Outcome::Fatal(error) => return Verdict::Fatal(error),
                Outcome::Trouble { why, retry_after } => (why, retry_after),
            };
            self.pace().give_back(Instant::now(), reserved);
            if let Some(wait) = asked.filter(|wait| *wait <= RETRY_AFTER_MAX) {
                self.pace().hold_until(Instant::now() + wait);
            }
            if attempt + 1 >= backoff.attempts || asked.is_some_and(|wait| wait > RETRY_AFTER_MAX) {
                return Verdict::Unanswered(why);
            }
            let wait = backoff.wait(attempt, random.f64()).max(asked.unwrap_or_default());
            if !stop.wait_until(Instant::now() + wait) {
                return Verdict::Stopped;
            }
        }
        Verdict::Stopped
    }

    /// Waits until a request may go out; false if somebody wants to stop.
    fn wait_for_pace(&self, tokens: u64, random: &mut fastrand::Rng) -> bool {
        let mut then = self.pace().reserve(Instant::now(), tokens);
        loop {
            if !self.asker.stop.wait_until(then) {
                return false;
            }
            // The server may have asked everybody to wait meanwhile.
            match self.pace().held(Instant::now()) {
                Some(held) => then = held + self.asker.backoff.wait(0, random.f64()),
                None => return true,
            }
        }
    }

    fn record(&self, sample: Sample<'q>, reserved: u64, verdict: Verdict) {
        let mut state = self.state();
        state.reserved -= reserved;
        state.on_their_way -= 1;
        match verdict {
            Verdict::Answered(answered, usage) => {
                state.totals.usage.add(usage);
                match &answered {
                    Answered::Reply(_) => {
                        state.totals.replies += 1;
                        (state.understood, state.silent) = (true, 0);
                    }
                    Answered::Refused(_) => state.totals.refused += 1,
                }
                state.answers.insert(sample.key(), answered);
            }
            Verdict::Unclear { status, why } => state.unclear.push((sample, status, why)),
            Verdict::Unanswered(why) => {
                state.totals.unanswered += 1;
                state.silent += 1;
                if state.silent >= SILENT_MAX && state.failed.is_none() {
                    let url = self.asker.teacher.url.clone();
                    state.failed = Some(TeachError::Silent { url, questions: state.silent, why: why.clone() });
                }
                state.trouble = Some(why);
            }
            Verdict::Stopped => {}
            Verdict::Fatal(error) => {
                state.failed.get_or_insert(error);
            }
        }
        self.settle_unclear(&mut state);
        if state.failed.is_some() {
            self.asker.stop.request();
        }
        (self.asker.progress)(&state.totals);
        self.changed.notify_all();
    }

    /// A request that the server did not accept is about its question if others like it were accepted.
    fn settle_unclear(&self, state: &mut State<'q>) {
        if state.understood {
            for (sample, status, why) in std::mem::take(&mut state.unclear) {
                let answered = Answered::Refused(format!("HTTP {status}: {why}"));
                match self.asker.journal.append(&sample.key(), &answered) {
                    Ok(()) => {
                        state.totals.refused += 1;
                        state.answers.insert(sample.key(), answered);
                    }
                    Err(error) => {
                        state.failed.get_or_insert(error);
                    }
                }
            }
        } else if let Some((_, status, why)) = state.unclear.last()
            && (state.unclear.len() >= UNCLEAR_MAX || state.list.is_empty() && state.on_their_way == 0)
        {
            let (url, status, why) = (self.asker.teacher.url.clone(), *status, why.clone());
            state.failed.get_or_insert(TeachError::Request { url, status, why });
        }
    }

    fn finish(self) -> Asked {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let end = match state.failed {
            Some(error) => End::Failed(error),
            None if state.budget_spent => End::Budget,
            None if self.asker.stop.is_requested() => End::Stopped,
            None => End::Complete,
        };
        Asked { answers: state.answers, totals: state.totals, trouble: state.trouble, end }
    }
}
