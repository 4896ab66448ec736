//! The class at the door: whoever's arithmetic makes something else of a fixed microbatch is refused by name, or, where
//! the run allows it, written down.

use crate::action::{Action, Order};
use crate::event::{Class, Connection};
use crate::exit;
use crate::membership::lost;
use crate::record::Record;
use crate::state::State;

/// A worker says what its class is.
pub(crate) fn presented(state: &mut State, connection: Connection, class: Class, actions: &mut Vec<Action>) {
    if let Some(member) = state.members.get_mut(&connection) {
        member.class = Some(class);
        compare(state, connection, actions);
    }
}

/// A class is durable: those that waited for it are admitted or refused.
pub(crate) fn admitted(state: &mut State, actions: &mut Vec<Action>) {
    let waiting: Vec<Connection> = state.members.keys().copied().collect();
    for connection in waiting {
        compare(state, connection, actions);
    }
}

fn compare(state: &mut State, connection: Connection, actions: &mut Vec<Action>) {
    let Some(class) = state.members.get(&connection).and_then(|member| member.class.clone()) else { return };
    let known = &state.journal.classes;
    if known.iter().any(|known| known.digest == class.digest) || state.admitting.contains(&class.digest) {
        return;
    }
    if known.is_empty() && !state.admitting.is_empty() {
        return; // compared once the run's class is durable
    }
    if known.is_empty() || state.setup.allow_mixed {
        state.admitting.insert(class.digest);
        return actions.push(Action::Append(Record::Class { digest: class.digest, words: class.words }));
    }
    let run = known[0].clone();
    let worker = state.members.get(&connection).map(|member| member.worker.clone()).unwrap_or_default();
    let reason = format!(
        "worker {worker} is of another class of arithmetic than the run: here [{}], the run [{}] (class {} and {}); \
         start it on such a machine, or begin a run with --allow-mixed",
        class.words, run.words, class.digest, run.digest
    );
    actions.push(Action::Note(reason.clone()));
    actions.push(Action::Send(connection, Order::Refuse { reason, exit_code: exit::OTHER_CLASS }));
    lost(state, connection, "its class of arithmetic is another one", actions);
}
