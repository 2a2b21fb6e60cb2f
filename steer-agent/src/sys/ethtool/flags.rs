//! What else decides the queue, as far as the ioctl tells: private flags and the count of exact-match
//! rules. Both are read without privilege.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::{Ethtool, understood, wire};
use crate::sys::SysError;
use crate::sys::raw::command;

impl Ethtool {
    /// The driver's private flags by name (`ETHTOOL_GSTRINGS` and `ETHTOOL_GPFLAGS`); `None` where it
    /// has none.
    pub fn private_flags(&self, nic: &str) -> Result<Option<BTreeMap<String, bool>>, SysError> {
        let call = "ETHTOOL_GSTRINGS";
        let answer = match self.ask(call, nic, wire::flag_names_request()) {
            // Some drivers say so for a set of names that they do not have (tg3_get_sset_count and
            // others answer EOPNOTSUPP, a few EINVAL).
            Err(error) if error.errno() == Some(Errno::INVAL) => return Ok(None),
            answer => answer?,
        };
        let Some(names) = understood(call, nic, answer, wire::names)? else {
            return Ok(None);
        };
        let call = "ETHTOOL_GPFLAGS";
        let answer = self.ask(call, nic, wire::request(command::GPFLAGS, 8))?;
        let bits = understood(call, nic, answer, wire::value)?;
        let states = |bits: u32| {
            let each = (0..32).map(|bit| bits >> bit & 1 == 1);
            names.into_iter().zip(each).filter(|(name, _)| !name.is_empty()).collect()
        };
        Ok(bits.map(states))
    }

    /// How many exact-match rules there are (`ETHTOOL_GRXCLSRLCNT`); `None` where the driver has no
    /// place for any.
    pub fn rule_count(&self, nic: &str) -> Result<Option<u32>, SysError> {
        let call = "ETHTOOL_GRXCLSRLCNT";
        let request = wire::request(command::GRXCLSRLCNT, wire::RXNFC);
        match self.ask(call, nic, request) {
            // A driver that does not know the command may say so in its own way.
            Err(error) if error.errno() == Some(Errno::INVAL) => Ok(None),
            answer => understood(call, nic, answer?, wire::rule_count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_neither() {
        let ethtool = Ethtool::open().expect("a socket");
        assert_eq!(ethtool.private_flags("lo"), Ok(None));
        assert_eq!(ethtool.rule_count("lo"), Ok(None));
        assert!(ethtool.private_flags("nosuchnic0").expect_err("none").is_gone());
        assert!(ethtool.rule_count("nosuchnic0").expect_err("none").is_gone());
    }
}
