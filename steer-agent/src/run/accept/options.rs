//! `SO_INCOMING_CPU` as the way of accept steering: who is set to what, as it is learned.

use std::collections::BTreeMap;

use crate::apply::listener::ListenerJournal;
use crate::model::CpuId;
use crate::model::accept::{AcceptTable, Given};
use crate::model::listener::{Holder, ListeningSocket};
use crate::plan::accept::Book;
use crate::sys::listener::LiveSockets;

/// Share of connections that goes on to be tried, so that a worker that moves is noticed: what the
/// kernel gives away by the option nobody sees by socket.
const WATCH: f64 = 1.0 / 64.0;

/// The options that are held.
#[derive(Debug)]
pub(super) struct SocketOptions {
    journal: ListenerJournal,
    sockets: LiveSockets,
    /// What the kernel refused, until the wish is another.
    refused: BTreeMap<u64, Option<CpuId>>,
}

/// What a socket is to be set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    socket: ListeningSocket,
    holders: Vec<Holder>,
    cpu: Option<CpuId>,
}

impl SocketOptions {
    pub(super) fn new(journal: ListenerJournal, sockets: LiveSockets) -> Self {
        Self { journal, sockets, refused: BTreeMap::new() }
    }

    /// Sockets that are not set as what is known of them asks for.
    pub(super) fn wishes(&mut self, book: &Book) -> Vec<Wish> {
        let mut open = Vec::new();
        let mut wishes = Vec::new();
        for (_, group) in book.groups() {
            for booked in group.members.values() {
                let cookie = booked.socket.cookie;
                open.push(cookie);
                let steered = group.refusal.is_none() && group.members.len() > 1;
                let home = if steered { booked.memory.life().home() } else { None };
                let held = self.journal.held(cookie);
                // One that was never set is not set to nothing.
                let right = held.map_or(home.is_none(), |held| held == home);
                if !right && self.refused.get(&cookie) != Some(&home) {
                    let (socket, holders) = (booked.socket.clone(), booked.holders.clone());
                    wishes.push(Wish { socket, holders, cpu: home });
                }
            }
        }
        self.refused.retain(|cookie, _| open.contains(cookie));
        if let Err(error) = self.journal.forget_all_but(|cookie| open.contains(&cookie)) {
            // That a journal names more than it must is harmless.
            log::debug!("sockets that are closed stay in the journal: {error}");
        }
        wishes
    }

    pub(super) fn set(&mut self, wishes: &[Wish], say: &dyn Fn(&str)) {
        for Wish { socket, holders, cpu } in wishes {
            if let Err(error) = self.journal.set(socket, holders, *cpu, &self.sockets) {
                say(&format!("accept {}: {error}", socket.endpoint));
                self.refused.insert(socket.cookie, *cpu);
            }
        }
    }

    /// Leaves in `table` only what it takes to learn.
    pub(super) fn only_learn(book: &Book, table: &mut AcceptTable) {
        table.choices.clear();
        for (_, group) in book.groups().filter(|(_, group)| group.refusal.is_none()) {
            let (Some(number), 2..) = (group.number, group.members.len()) else { continue };
            let usable = group.members.iter().filter(|(_, booked)| booked.refusal.is_none());
            let all = || usable.clone().map(|(member, _)| *member).collect();
            table.trials.entry(number).or_insert_with(|| Given { share: WATCH, members: all() });
        }
    }

    /// The journal of what is set.
    pub(super) fn into_journal(self) -> (ListenerJournal, LiveSockets) {
        (self.journal, self.sockets)
    }
}
