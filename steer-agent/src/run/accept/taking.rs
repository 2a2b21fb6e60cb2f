//! New listeners: who holds them, whether their group has a program, and into the map with them.

use std::collections::BTreeSet;

use super::Accept;
use crate::plan::accept::Changes;
use crate::sys::listener;

impl Accept {
    /// Puts new sockets where the kernel side finds them, and forgets those that are gone.
    pub(super) fn take_in(&mut self, changes: &Changes, say: &dyn Fn(&str)) -> anyhow::Result<()> {
        for (group, member) in &changes.removed {
            self.side.drop_listener(*group, *member)?;
        }
        if changes.added.is_empty() {
            return Ok(());
        }
        let inodes: BTreeSet<u64> = changes
            .added
            .iter()
            .map(|(_, _, socket)| socket.inode)
            .filter(|inode| *inode > 0)
            .collect();
        let known: BTreeSet<u32> = self
            .book
            .groups()
            .flat_map(|(_, group)| group.members.values())
            .flat_map(|booked| booked.holders.iter().map(|holder| holder.pid))
            .collect();
        let holders = listener::holders(&self.root, &inodes, &known);
        let records = self.side.groups();
        for (group, member, socket) in &changes.added {
            let of_socket = holders.get(&socket.inode).cloned().unwrap_or_default();
            let mut why = match socket.inode {
                0 => "no descriptor leads to it, which is so of MPTCP's (in Go: \
                      GODEBUG=multipathtcp=0)"
                    .to_owned(),
                inode => format!("nobody is known to hold its socket (inode {inode})"),
            };
            let mut put = false;
            for holder in &of_socket {
                let side = &mut self.side;
                let outcome = listener::with_socket(holder, socket.cookie, |fd| {
                    side.put_listener(*group, *member, fd)
                });
                match outcome {
                    Ok(Ok(())) => {
                        put = true;
                        break;
                    }
                    Ok(Err(error)) => why = format!("{error:#}"),
                    Err(error) => why = error.to_string(),
                }
            }
            let program = match &records {
                None => Some("whether it has a program of its own cannot be told".to_owned()),
                Some(records) => self.way.why_not(records.get(&socket.cookie)),
            };
            let Some(state) = self.book.group_mut(*group) else { continue };
            if let Some(booked) = state.members.get_mut(member) {
                booked.holders = of_socket;
                booked.refusal = (!put).then_some(why);
            }
            if program.is_some() {
                state.refusal = program;
            }
        }
        self.tell_operator(changes, say);
        Ok(())
    }

    fn tell_operator(&mut self, changes: &Changes, say: &dyn Fn(&str)) {
        let touched: BTreeSet<u16> = changes.added.iter().map(|(group, _, _)| *group).collect();
        for (endpoint, group) in self.book.groups() {
            if !group.number.is_some_and(|number| touched.contains(&number)) {
                continue;
            }
            let refused = group.members.values().find_map(|booked| booked.refusal.as_ref());
            let text = match (&group.refusal, refused) {
                (Some(why), _) => format!("accept {endpoint}: left to the kernel: {why}"),
                (None, Some(why)) => {
                    format!("accept {endpoint}: not every socket is steered: {why}")
                }
                (None, None) if group.members.len() < 2 => {
                    format!("accept {endpoint}: one socket for all workers: nothing to choose from")
                }
                (None, None) => {
                    format!("accept {endpoint}: {} sockets are followed", group.members.len())
                }
            };
            if self.said.insert(text.clone()) {
                say(&text);
            }
        }
    }
}
