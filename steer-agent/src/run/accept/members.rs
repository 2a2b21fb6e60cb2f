//! A program in each reuseport group as the way of accept steering: put in, watched, taken out.
//!
//! A group has one program for all its sockets, and putting one in silently replaces another. So it is
//! put in only where the kernel tells that there is none; where somebody puts in his own later, or takes
//! steer's out, that group is left to him.

use std::collections::{BTreeMap, BTreeSet};

use steer_common::accept::ListenerRecord;

use crate::apply::listener::ListenerJournal;
use crate::model::listener::Endpoint;
use crate::observe::kernel::accept::AcceptSide;
use crate::plan::accept::{Book, GroupState};
use crate::sys::listener::{self, LiveSockets};

/// The groups' programs.
#[derive(Debug)]
pub(super) struct GroupPrograms {
    journal: ListenerJournal,
    sockets: LiveSockets,
    /// The number of the program.
    own: u32,
    /// Numbers of those that a killed steer has left.
    left: BTreeSet<u32>,
    /// Cookies of the sockets in whose group it was seen.
    attached: BTreeMap<Endpoint, BTreeSet<u64>>,
    /// Groups in which it is to be put.
    due: Vec<u16>,
}

impl GroupPrograms {
    pub(super) fn new(journal: ListenerJournal, sockets: LiveSockets, own: u32) -> Self {
        let left = journal.programs().collect();
        Self { journal, sockets, own, left, attached: BTreeMap::new(), due: Vec::new() }
    }

    /// Why a group is left alone, by what is told of one of its sockets.
    pub(super) fn why_not(&self, record: Option<&ListenerRecord>) -> Option<String> {
        let record = match record {
            Some(record) if record.group == 2 => record,
            // A socket that came after the list was made is in the next.
            _ => return None,
        };
        (record.program != self.own && !self.left.contains(&record.program))
            .then(|| "it has a reuseport program of its own, which is not replaced".to_owned())
    }

    /// Looks whose program each group has. True where one is to be put in.
    pub(super) fn look(
        &mut self,
        book: &mut Book,
        side: &mut AcceptSide,
        say: &dyn Fn(&str),
    ) -> bool {
        self.due.clear();
        let Some(records) = side.groups() else { return false };
        let mut seen = BTreeMap::new();
        let mut contested = Vec::new();
        for (endpoint, group) in book.groups() {
            let Some(number) = group.number.filter(|_| is_steered(group)) else { continue };
            let cookies: BTreeSet<u64> =
                group.members.values().map(|booked| booked.socket.cookie).collect();
            let told: Vec<&ListenerRecord> =
                cookies.iter().filter_map(|cookie| records.get(cookie)).collect();
            // All sockets of a group have the same; one that is not told of yet says nothing.
            let Some(record) = told.first() else { continue };
            let was_in = self
                .attached
                .get(endpoint)
                .is_some_and(|known| cookies.iter().any(|cookie| known.contains(cookie)));
            if record.group == 2 && record.program == self.own {
                seen.insert(endpoint.clone(), cookies);
            } else if was_in {
                contested.push((number, endpoint.clone()));
            } else if told.len() == cookies.len() && record.group > 0 {
                self.due.push(number);
            }
        }
        for (number, endpoint) in contested {
            let why = "somebody else has replaced steer's program or taken it out";
            say(&format!("accept {endpoint}: left to the kernel: {why}"));
            if let Some(group) = book.group_mut(number) {
                group.refusal = Some(why.to_owned());
            }
        }
        // A group whose last socket was closed has taken its program along.
        let open = |endpoint: &Endpoint| {
            let of_group = |(one, _): (&Endpoint, &GroupState)| one == endpoint;
            book.groups().any(of_group)
        };
        if let Err(error) = self.journal.forget_programs_but(open) {
            log::debug!("groups that are gone stay in the journal: {error}");
        }
        self.attached = seen;
        !self.due.is_empty()
    }

    /// Puts it in where that is due, and reads back whether it is there.
    pub(super) fn attach(&mut self, book: &mut Book, side: &mut AcceptSide, say: &dyn Fn(&str)) {
        let mut tried = Vec::new();
        for number in std::mem::take(&mut self.due) {
            let found = book.groups().find(|(_, group)| group.number == Some(number));
            let Some((endpoint, group)) = found else { continue };
            let endpoint = endpoint.clone();
            let mut outcome = Err("nobody is known to hold its sockets".to_owned());
            let noted = self.journal.note_program(&endpoint, self.own);
            let mut members = group.members.values();
            if let Err(error) = noted {
                outcome = Err(error.to_string());
            } else if let Some((holder, cookie)) = members.find_map(|booked| {
                booked.holders.first().map(|holder| (holder.clone(), booked.socket.cookie))
            }) {
                outcome =
                    match listener::with_socket(&holder, cookie, |fd| side.attach_to_group(fd)) {
                        Ok(Ok(())) => Ok(cookie),
                        Ok(Err(error)) => Err(format!("{error:#}")),
                        Err(error) => Err(error.to_string()),
                    };
            }
            match outcome {
                Ok(cookie) => tried.push((number, endpoint, cookie)),
                Err(why) => say(&format!("accept {endpoint}: its program is not put in: {why}")),
            }
        }
        let told = if tried.is_empty() { None } else { side.groups() };
        for (number, endpoint, cookie) in tried {
            let there = told
                .as_ref()
                .and_then(|records| records.get(&cookie))
                .is_some_and(|record| record.program == self.own);
            let Some(group) = book.group_mut(number) else { continue };
            if there {
                let cookies = group.members.values().map(|booked| booked.socket.cookie);
                self.attached.insert(endpoint, cookies.collect());
            } else {
                let why = "its program does not read back as steer's";
                say(&format!("accept {endpoint}: left to the kernel: {why}"));
                group.refusal = Some(why.to_owned());
            }
        }
    }

    /// The journal of where programs are.
    pub(super) fn into_journal(self) -> (ListenerJournal, LiveSockets) {
        (self.journal, self.sockets)
    }
}

/// One with something to choose from.
fn is_steered(group: &GroupState) -> bool {
    group.refusal.is_none() && group.members.len() > 1
}
