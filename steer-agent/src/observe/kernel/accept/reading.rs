//! What the programs of accept steering saw, and what the kernel tells of listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{HashMap as KernelHashMap, MapData, PerCpuArray};
use aya::programs::Iter;
use steer_common::accept::{GROUPS, ListenerRecord, NOBODY, Outcomes, Seen, SeenKey};

use super::AcceptSide;
use crate::model::CpuId;
use crate::model::accept::{AcceptReading, SeenOn};
use crate::observe::kernel::read;

impl AcceptSide {
    /// Everything that was seen since the start.
    pub fn read(&self) -> Result<AcceptReading> {
        let mut reading = AcceptReading::default();
        let seen: KernelHashMap<&MapData, SeenKey, Seen> =
            KernelHashMap::try_from(read::map(&self.ebpf, "SEEN_MEMBERS")?)?;
        for key in seen.keys() {
            let key = key.context("listing map SEEN_MEMBERS")?;
            // Gone between the two calls: its member is, then.
            let Ok(value) = seen.get(&key, 0) else { continue };
            reading.seen.push(SeenOn {
                group: key.group,
                member: (key.member != NOBODY).then_some(key.member),
                cpu: CpuId::from(key.cpu),
                connections: value.connections,
                aligned: value.aligned,
                thread_changes: value.thread_changes,
                pid: value.pid,
                tid: value.tid,
            });
        }
        let outcomes: PerCpuArray<&MapData, Outcomes> =
            PerCpuArray::try_from(read::map(&self.ebpf, "OUTCOMES")?)?;
        let groups: BTreeSet<u16> =
            self.written.targets.values().filter_map(|group| *group).collect();
        for group in groups.into_iter().filter(|group| u32::from(*group) < GROUPS) {
            let by_cpu = outcomes.get(&u32::from(group), 0).context("reading map OUTCOMES")?;
            reading.outcomes.insert(group, by_cpu.iter().map(Into::into).collect());
        }
        Ok(reading)
    }

    /// The reuseport groups of this namespace's listeners by cookie; `None` where the kernel cannot
    /// list them.
    pub fn groups(&mut self) -> Option<BTreeMap<u64, ListenerRecord>> {
        if !self.tells_programs {
            return None;
        }
        let mut list = || -> Result<Vec<u8>> {
            let program: &mut Iter = self
                .ebpf
                .program_mut("list_groups")
                .ok_or_else(|| anyhow!("not in the object"))?
                .try_into()?;
            let link = program.attach()?;
            let mut file = program.take_link(link)?.into_file()?;
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => bytes.extend(buffer.iter().take(length)),
                    // The program has come to the first socket that is none of these, and asks to be
                    // left alone.
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(bytes)
        };
        match list() {
            Ok(bytes) => {
                let (records, _) = bytes.as_chunks::<{ ListenerRecord::BYTES }>();
                let records = records.iter().map(ListenerRecord::from_bytes);
                Some(records.map(|record| (record.cookie, record)).collect())
            }
            Err(error) => {
                log::debug!("reuseport groups cannot be listed: {error:#}");
                None
            }
        }
    }

    /// The number of the program in the reuseport group of each listener that has one, by cookie; `None`
    /// where the kernel does not tell.
    pub fn group_programs(&mut self) -> Option<BTreeMap<u64, u32>> {
        let with_program = |(cookie, record): (u64, ListenerRecord)| {
            (record.group == 2).then_some((cookie, record.program))
        };
        Some(self.groups()?.into_iter().filter_map(with_program).collect())
    }
}
