//! Which prompt comes next, and what of it has been read already.
//!
//! Prompts are taken in the order of their tokens, so that those that begin alike follow each other. A new row takes over
//! the longest beginning that any live row holds, or waits until the row that is reading it has done so. What the next
//! prompt shares with the last one is kept in a row of its own (the trunk), in case that one ends before its turn.

use std::collections::VecDeque;

use super::Request;
use super::row::{Row, Token, marked};
use crate::decode::{Decoder, RowId};

/// Fewer common tokens are read anew: all prompts of one form begin alike.
const SHARED_MIN: usize = 16;

/// Prompts that wait for a row.
pub(super) struct Admission<'a> {
    request: &'a Request<'a>,
    waiting: VecDeque<usize>,
    /// The prompt that was admitted last, until its trunk is decided on.
    last: Option<usize>,
    trunk: Option<(RowId, Vec<Token>)>,
}

impl<'a> Admission<'a> {
    /// For these of the request's prompts.
    pub(super) fn new(request: &'a Request<'a>, prompts: &[usize]) -> Self {
        let mut waiting = prompts.to_vec();
        waiting.sort_by_key(|prompt| (&request.prompts[*prompt], *prompt));
        Admission { request, waiting: waiting.into(), last: None, trunk: None }
    }

    /// Fills the batch, as long as the prompts that are being read fit one pass.
    pub(super) fn admit(&mut self, decoder: &mut dyn Decoder, rows: &mut Vec<Row>) {
        let unread = |row: &Row| if row.out().is_empty() { row.rest(0).len() } else { 0 };
        let mut reading: usize = rows.iter().map(unread).sum();
        while rows.len() < self.request.batch.max(1) && reading < decoder.prompt_tokens() {
            let Some(prompt) = self.waiting.pop_front() else { break };
            let mut row = Row::new(prompt, marked(&self.request.prompts[prompt], self.request.tag));
            self.place(&mut row, decoder, rows);
            reading += unread(&row);
            rows.push(row);
            self.last = Some(prompt);
        }
    }

    /// Finds the longest beginning that is there already.
    fn place(&self, row: &mut Row, decoder: &mut dyn Decoder, rows: &[Row]) {
        let (mut best, mut source) = (SHARED_MIN - 1, None);
        let trunk = self.trunk.iter().map(|(id, text)| (Some(*id), None, text.as_slice()));
        let live = rows.iter().map(|other| (other.id, Some(other.prompt), other.text.as_slice()));
        for (id, prompt, text) in trunk.chain(live) {
            let shared = shared(&row.text, text);
            if shared > best {
                (best, source) = (shared, Some((id, prompt)));
            }
        }
        match source {
            None => row.id = Some(decoder.open()),
            Some((Some(id), _)) if decoder.length(id) >= best => row.id = Some(decoder.fork(id, best)),
            Some((_, prompt)) => row.waits_for = prompt.map(|prompt| (prompt, best)),
        }
    }

    /// After a pass: rows whose common beginning has been read branch off, and the trunk is renewed.
    pub(super) fn branch(&mut self, decoder: &mut dyn Decoder, rows: &mut [Row]) {
        for index in 0..rows.len() {
            let Some((prompt, shared)) = rows[index].waits_for else { continue };
            let source = rows.iter().find(|row| row.prompt == prompt).and_then(|row| row.id);
            if let Some(source) = source.filter(|source| decoder.length(*source) >= shared) {
                rows[index].id = Some(decoder.fork(source, shared));
                rows[index].waits_for = None;
            }
        }
        let last = rows.iter().find(|row| Some(row.prompt) == self.last);
        let Some((last, id)) = last.and_then(|row| Some((row, row.id?))) else { return };
        if decoder.length(id) >= last.text.len() {
            self.last = None;
            self.close(decoder);
            let next = self.waiting.front().map(|next| marked(&self.request.prompts[*next], self.request.tag));
            let common = next.map_or(0, |next| shared(&next, &last.text));
            if common >= SHARED_MIN {
                self.trunk = Some((decoder.fork(id, common), last.text[..common].to_vec()));
            }
        }
    }

    /// Gives the trunk's memory back.
    pub(super) fn close(&mut self, decoder: &mut dyn Decoder) {
        if let Some((id, _)) = self.trunk.take() {
            decoder.close(id);
        }
    }
}

/// Tokens with which both begin, at least one of `new` left to be fed.
fn shared(new: &[Token], held: &[Token]) -> usize {
    let common = new.iter().zip(held).take_while(|(a, b)| a == b).count();
    common.min(new.len().saturating_sub(1))
}
