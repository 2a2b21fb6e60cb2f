//! The ethtool ioctl: the base path that every kernel and every driver has.
//!
//! Reads need no privilege; [`Ethtool::set_table`], [`Ethtool::reset_table`],
//! [`Ethtool::set_rule`] and [`Ethtool::delete_rule`] need `CAP_NET_ADMIN`. What a driver does not offer is `Ok(None)`, never an error. Answers are parsed
//! by `wire.rs`, which survives any bytes. Only the settings that steer uses are here: link modes,
//! statistics and firmware are not.

mod flags;
mod rule_wire;
mod rules;
mod wire;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::SysError;
use super::error::means_unsupported;
use super::raw::{self, command};
use crate::model::{Channels, Coalesced, HashFields, QueueId};
pub use wire::RssConfig;
pub(super) use wire::{hash_function, queues};

/// What is read of answers, on any bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod any {
    pub(in crate::sys) use super::rule_wire::any_bytes as rules;
    pub(in crate::sys) use super::wire::any_bytes as settings;
}

/// How often a two-part read is tried again when the device's sizes change in between.
const ATTEMPTS: u32 = 3;

/// A socket to send ethtool requests through; it fixes the network namespace.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
}

impl Ethtool {
    /// Opens a socket in the present network namespace.
    pub fn open() -> Result<Self, SysError> {
        // Any socket will do (netdevice(7)); this is the customary one.
        socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map(|socket| Self { socket })
            .map_err(|errno| SysError::new("socket", "AF_INET", errno))
    }

    /// Sends `request`, returns the answer; `None` where the driver does not know the command.
    fn ask(
        &self,
        call: &'static str,
        nic: &str,
        mut request: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, SysError> {
        match raw::ethtool(self.socket.as_fd(), nic, &mut request) {
            Ok(()) => Ok(Some(request)),
            Err(errno) if means_unsupported(errno) => Ok(None),
            Err(errno) => Err(SysError::new(call, nic, errno)),
        }
    }

    /// Channel counts now and at most (`ETHTOOL_GCHANNELS`).
    pub fn channels(&self, nic: &str) -> Result<Option<Channels>, SysError> {
        let call = "ETHTOOL_GCHANNELS";
        let answer = self.ask(call, nic, wire::request(command::GCHANNELS, 36))?;
        understood(call, nic, answer, wire::channels)
    }

    /// RX rings that a table may name (`ETHTOOL_GRXRINGS`).
    pub fn rx_rings(&self, nic: &str) -> Result<Option<u32>, SysError> {
        let call = "ETHTOOL_GRXRINGS";
        let answer = self.ask(call, nic, wire::request(command::GRXRINGS, wire::RXNFC))?;
        understood(call, nic, answer, wire::rx_rings)
    }

    /// Interrupt moderation (`ETHTOOL_GCOALESCE`).
    pub fn coalesce(&self, nic: &str) -> Result<Option<Coalesced>, SysError> {
        let call = "ETHTOOL_GCOALESCE";
        let answer = self.ask(call, nic, wire::request(command::GCOALESCE, 92))?;
        understood(call, nic, answer, wire::coalesce)
    }

    /// Descriptors of an RX ring (`ETHTOOL_GRINGPARAM`).
    pub fn rx_ring_size(&self, nic: &str) -> Result<Option<u32>, SysError> {
        let call = "ETHTOOL_GRINGPARAM";
        let answer = self.ask(call, nic, wire::request(command::GRINGPARAM, 36))?;
        understood(call, nic, answer, wire::rx_ring_size)
    }

    /// Whether ports enter the hash, by flow type (`ETHTOOL_GRXFH`). A flow type that the driver
    /// refuses to speak of stays `None`; a device that is gone is an error.
    pub fn hash_fields(&self, nic: &str) -> Result<HashFields, SysError> {
        let ports = |flow_type| -> Result<Option<bool>, SysError> {
            let call = "ETHTOOL_GRXFH";
            match self.ask(call, nic, wire::hash_fields_request(flow_type)) {
                Ok(answer) => understood(call, nic, answer, wire::ports_are_hashed),
                Err(error) if error.is_gone() => Err(error),
                Err(_) => Ok(None),
            }
        };
        Ok(HashFields {
            tcp4_ports: ports(wire::TCP_V4_FLOW)?,
            tcp6_ports: ports(wire::TCP_V6_FLOW)?,
            udp4_ports: ports(wire::UDP_V4_FLOW)?,
            udp6_ports: ports(wire::UDP_V6_FLOW)?,
        })
    }

    /// The state of every offload by its name, such as `rx-hashing` or `rx-ntuple-filter`
    /// (`ETHTOOL_GSTRINGS` and `ETHTOOL_GFEATURES`; names of `netdev_features_strings` in
    /// net/ethtool/common.c).
    pub fn features(&self, nic: &str) -> Result<Option<BTreeMap<String, bool>>, SysError> {
        let call = "ETHTOOL_GSTRINGS";
        let Some(answer) = self.ask(call, nic, wire::feature_names_request())? else {
            return Ok(None);
        };
        let names = understood(call, nic, Some(answer), wire::names)?.unwrap_or_default();
        let call = "ETHTOOL_GFEATURES";
        let answer = self.ask(call, nic, wire::features_request(names.len()))?;
        understood(call, nic, answer, |answer| wire::features(answer, &names))
    }

    /// Indirection table, key and hash function of the main context (`ETHTOOL_GRSSH`); the table
    /// alone (`ETHTOOL_GRXFHINDIR`) from a driver that knows only that.
    pub fn rss(&self, nic: &str) -> Result<Option<RssConfig>, SysError> {
        let call = "ETHTOOL_GRSSH";
        for _ in 0..ATTEMPTS {
            let Some(head) = self.rss_head(nic)? else {
                return self.table_alone(nic);
            };
            // The kernel refuses sizes that are not the device's (EINVAL); they change when the
            // queues do, in between.
            match self.ask(call, nic, wire::rss_request(head.table_size, head.key_size)) {
                Ok(answer) => return understood(call, nic, answer, wire::rss),
                Err(error) if error.errno() == Some(Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
        Err(SysError::unexpected(call, nic, "its table changed size while it was read"))
    }

    fn rss_head(&self, nic: &str) -> Result<Option<wire::RssHead>, SysError> {
        let call = "ETHTOOL_GRSSH";
        let answer = self.ask(call, nic, wire::rss_request(0, 0))?;
        understood(call, nic, answer, wire::rss_head)
    }

    fn table_alone(&self, nic: &str) -> Result<Option<RssConfig>, SysError> {
        let call = "ETHTOOL_GRXFHINDIR";
        let answer = self.ask(call, nic, wire::table_request(0))?;
        let Some(size) = understood(call, nic, answer, wire::table_size)? else {
            return Ok(None);
        };
        let answer = self.ask(call, nic, wire::table_request(size))?;
        understood(call, nic, answer, wire::table)
    }

    /// Writes the whole table of the main context (`ETHTOOL_SRSSH`) and leaves the rest alone.
    ///
    /// Key and hash function have values for "no change" that every driver heeds (`key_size` 0,
    /// `hfunc` 0). The input transformation has not: 0 turns symmetric hashing off, and ice and
    /// iavf read its "no change" (0xff) as "turn it on", since they test a bit of it (6.12, 7.3).
    /// So the value that is in force is read and written back as it is; kernels before the field
    /// (6.8) had reserved bytes there that read as zero and must be zero. `ETHTOOL_SRXFHINDIR`,
    /// which carries the table alone, is not used: the kernel fills in a zero for it, and every
    /// driver that has it has `ETHTOOL_SRSSH` (one operation in `struct ethtool_ops` since 3.16).
    ///
    /// `EINVAL` for a table of another size than the device's, for a queue that does not exist,
    /// and for an empty table, which would mean a reset.
    pub fn set_table(&self, nic: &str, table: &[QueueId]) -> Result<(), SysError> {
        let call = "ETHTOOL_SRSSH";
        if table.is_empty() {
            return Err(SysError::new(call, nic, Errno::INVAL).with_value("an empty table"));
        }
        self.write_table(nic, table).map_err(|error| error.with_value(summary(table)))
    }

    /// Gives the table back to the driver (`ETHTOOL_SRSSH` with size 0): `bucket % rings`.
    pub fn reset_table(&self, nic: &str) -> Result<(), SysError> {
        self.write_table(nic, &[]).map_err(|error| error.with_value("the default table"))
    }

    fn write_table(&self, nic: &str, table: &[QueueId]) -> Result<(), SysError> {
        let call = "ETHTOOL_SRSSH";
        let unsupported = || SysError::new(call, nic, Errno::OPNOTSUPP);
        let head = self.rss_head(nic)?.ok_or_else(unsupported)?;
        match self.ask(call, nic, wire::set_table_request(table, head.input_xfrm))? {
            Some(_) => Ok(()),
            None => Err(unsupported()),
        }
    }
}

/// A table in an error: its size and its queues, not its thousands of entries.
pub(super) fn summary(table: &[QueueId]) -> String {
    let queues: std::collections::BTreeSet<_> = table.iter().collect();
    let queues: Vec<String> = queues.into_iter().map(ToString::to_string).collect();
    format!("{} buckets over queues {}", table.len(), queues.join(","))
}

fn understood<T>(
    call: &'static str,
    nic: &str,
    answer: Option<Vec<u8>>,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, SysError> {
    let Some(answer) = answer else {
        return Ok(None);
    };
    let short = || SysError::unexpected(call, nic, "the answer is shorter than it says");
    parse(&answer).map(Some).ok_or_else(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_features_and_nothing_else() {
        let ethtool = Ethtool::open().expect("a socket");
        let features = ethtool.features("lo").expect("answered").expect("offered");
        assert_eq!(features.get("loopback"), Some(&true), "{features:?}");
        assert!(features.contains_key("rx-hashing") && features.contains_key("rx-ntuple-filter"));
        assert_eq!(ethtool.rss("lo"), Ok(None));
        assert_eq!(ethtool.channels("lo"), Ok(None));
        assert_eq!(ethtool.rx_rings("lo"), Ok(None));
        assert_eq!(ethtool.coalesce("lo"), Ok(None));
        assert_eq!(ethtool.hash_fields("lo"), Ok(HashFields::default()));
    }

    #[test]
    fn a_device_that_is_not_there_is_gone() {
        let ethtool = Ethtool::open().expect("a socket");
        let error = ethtool.rss("nosuchnic0").expect_err("no such device");
        assert!(error.is_gone(), "{error}");
        assert!(ethtool.hash_fields("nosuchnic0").is_err());
    }

    #[test]
    fn writes_that_cannot_be_are_refused_with_their_value() {
        let ethtool = Ethtool::open().expect("a socket");
        let error = ethtool.set_table("lo", &[]).expect_err("empty");
        assert_eq!(error.errno(), Some(Errno::INVAL));
        let error = ethtool.set_table("lo", &[0, 1, 0, 1]).expect_err("no table");
        assert!(error.is_unsupported());
        assert_eq!(
            error.to_string(),
            "ETHTOOL_SRSSH lo = `4 buckets over queues 0,1`: Operation not supported \
             (os error 95); the driver does not offer this"
        );
        assert!(ethtool.reset_table("lo").expect_err("no table").is_unsupported());
    }
}
