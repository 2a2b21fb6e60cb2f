//! Where connections lead. The program asks by entering a destination into its map; the answer is the
//! kernel's own, asked for that very destination, and asked again from time to time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;
use steer_common::connect::{ROUTE_LEAVE, ROUTE_STEER, ROUTE_UNKNOWN, Route, RouteKey};

use crate::apply::connect::Connect;
use crate::report::DestinationReport;
use crate::sys::route;

/// Most questions that are put to the kernel in one tick: 10 microseconds each.
const MOST_QUESTIONS: usize = 256;
/// Ticks after which a destination that was left alone for its replies is tried again.
const LEFT_FOR: u64 = 600;
/// Most destinations that are shown.
const MOST_SHOWN: usize = 32;

/// What is known of one.
#[derive(Clone, Debug)]
struct Known {
    route: Route,
    /// Why it is left alone.
    why: Option<String>,
    asked: u64,
}

/// All that the program has asked for.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    known: HashMap<RouteKey, Known>,
    /// Those whose replies came elsewhere, with the reason and since when.
    left: HashMap<IpAddr, (String, u64)>,
    tick: u64,
}

impl Destinations {
    /// Leaves a destination alone for a while.
    pub(super) fn leave(&mut self, remote: IpAddr, why: &str) {
        self.left.insert(remote, (why.to_owned(), self.tick));
        self.known.retain(|key, _| address(key.remote) != remote);
    }

    /// Answers what the program asks, and corrects answers that hold no longer. `interfaces` are those
    /// through which is steered, with their slots; `None` for one that is not unambiguous.
    pub(super) fn resolve(
        &mut self,
        connect: &mut Connect,
        interfaces: &BTreeMap<u32, Option<u32>>,
    ) -> Result<()> {
        self.tick += 1;
        let now = self.tick;
        self.left.retain(|_, (_, since)| now - *since < LEFT_FOR);
        let mut asked = connect.routes()?;
        self.known.retain(|key, _| asked.iter().any(|(known, _)| known == key));
        // First those that wait for an answer, then those whose answer is the oldest.
        let age = |key: &RouteKey| self.known.get(key).map_or(0, |known| known.asked);
        asked.sort_by_key(|(key, route)| (route.verdict != ROUTE_UNKNOWN, age(key)));
        let mut rules: HashMap<bool, Option<String>> = HashMap::new();
        for (key, route) in asked.into_iter().take(MOST_QUESTIONS) {
            let v4 = address(key.remote).is_ipv4();
            let rule = match rules.entry(v4) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => new.insert(route::unforeseeable_rule(v4)?).clone(),
            };
            let answer = match rule {
                Some(rule) => Err(rule),
                None => self.ask(&key, interfaces)?,
            };
            let (wanted, why) = match answer {
                Ok((slot, local)) => (Route { verdict: ROUTE_STEER, slot, local }, None),
                Err(why) => (Route { verdict: ROUTE_LEAVE, slot: 0, local: [0; 16] }, Some(why)),
            };
            if wanted != route {
                connect.set_route(&key, wanted)?;
            }
            self.known.insert(key, Known { route: wanted, why, asked: now });
        }
        Ok(())
    }

    fn ask(
        &self,
        key: &RouteKey,
        interfaces: &BTreeMap<u32, Option<u32>>,
    ) -> Result<Result<(u32, [u8; 16]), String>> {
        let remote = address(key.remote);
        if let Some((why, _)) = self.left.get(&remote) {
            return Ok(Err(why.clone()));
        }
        let bound = (key.bound != [0; 16]).then(|| address(key.bound));
        Ok(route::way(remote, bound, key.mark)?.and_then(|way| {
            match interfaces.get(&way.ifindex) {
                Some(Some(slot)) => Ok((*slot, mapped(way.source))),
                Some(None) => Err("its interface stands on several steered NICs".to_owned()),
                None => Err("its way is not through a NIC whose hash is confirmed".to_owned()),
            }
        }))
    }

    /// What to show, those that are left alone first.
    pub(super) fn report(&self) -> Vec<DestinationReport> {
        let mut all: Vec<DestinationReport> = self
            .known
            .iter()
            .map(|(key, known)| DestinationReport {
                remote: address(key.remote),
                local: (known.route.verdict == ROUTE_STEER).then(|| address(known.route.local)),
                reason: known.why.clone(),
            })
            .collect();
        all.sort_by_key(|report| (report.reason.is_none(), report.remote));
        all.truncate(MOST_SHOWN);
        all
    }
}

/// An address as the program keeps it, IPv4 in its mapped form.
pub(super) fn address(bytes: [u8; 16]) -> IpAddr {
    let v6 = Ipv6Addr::from(bytes);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_there_and_back() {
        for text in ["192.0.2.1", "2001:db8::1", "::1"] {
            let parsed: IpAddr = text.parse().expect("an address");
            assert_eq!(address(mapped(parsed)), parsed);
        }
    }
}
