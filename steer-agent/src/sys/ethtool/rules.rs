//! Exact-match rules by ioctl; netlink has no message for them. Not yet run on hardware: no NIC that
//! can be emulated takes such rules.
//!
//! Drivers differ in how they say that a number is free: `ENOENT` (mlx5) or `EINVAL` (i40e, ice,
//! ixgbe). Whether rules take effect (`ethtool -K IF ntuple`) is not asked here.

use rustix::io::Errno;

use super::{Ethtool, rule_wire as wire, understood};
use crate::model::{Rule, RuleContent, RuleTable};
use crate::sys::SysError;

/// How often a table is read anew when it changes in between.
const ATTEMPTS: u32 = 3;

impl Ethtool {
    /// The rule table (`ETHTOOL_GRXCLSRLCNT`, `ETHTOOL_GRXCLSRLALL` and one `ETHTOOL_GRXCLSRULE`
    /// for each rule); `None` where the driver has none.
    pub fn rules(&self, nic: &str) -> Result<Option<RuleTable>, SysError> {
        for _ in 0..ATTEMPTS {
            let call = "ETHTOOL_GRXCLSRLCNT";
            let answer = self.ask(call, nic, wire::count_request())?;
            let Some(head) = understood(call, nic, answer, wire::count)? else {
                return Ok(None);
            };
            if head.count > wire::MOST_RULES {
                let what = format!("{} rules are more than any NIC has", head.count);
                return Err(SysError::unexpected(call, nic, what));
            }
            let call = "ETHTOOL_GRXCLSRLALL";
            let answer = match self.ask(call, nic, wire::numbers_request(head.count)) {
                // Rules were added in between; EMSGSIZE says that the room is too small.
                Err(error) if error.errno() == Some(Errno::MSGSIZE) => continue,
                answer => answer?,
            };
            let Some((size, numbers)) = understood(call, nic, answer, wire::numbers)? else {
                return Ok(None);
            };
            let mut table =
                RuleTable { size, driver_numbers: head.driver_numbers, ..RuleTable::default() };
            for number in numbers {
                match self.rule(nic, number)? {
                    RuleContent::Empty => {} // deleted in between
                    found => drop(table.rules.insert(number, found.exact())),
                }
            }
            return Ok(Some(table));
        }
        Err(SysError::unexpected(
            "ETHTOOL_GRXCLSRLALL",
            nic,
            "its rules changed while they were read",
        ))
    }

    /// The rule at `location` (`ETHTOOL_GRXCLSRULE`).
    pub fn rule(&self, nic: &str, location: u32) -> Result<RuleContent, SysError> {
        let call = "ETHTOOL_GRXCLSRULE";
        let answer = match self.ask(call, nic, wire::rule_request(location)) {
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::INVAL)) => {
                return Ok(RuleContent::Empty);
            }
            answer => answer?,
        };
        Ok(understood(call, nic, answer, wire::rule)?.unwrap_or(RuleContent::Empty))
    }

    /// Puts `rule` at `location`, over what may be there, or where the driver likes
    /// (`ETHTOOL_SRXCLSRLINS`). Returns the number that it has.
    pub fn set_rule(&self, nic: &str, location: Option<u32>, rule: &Rule) -> Result<u32, SysError> {
        let call = "ETHTOOL_SRXCLSRLINS";
        let refused = |errno| SysError::new(call, nic, errno).with_value(rule.to_string());
        let request = wire::insert_request(location, rule).ok_or_else(|| refused(Errno::INVAL))?;
        let answer =
            self.ask(call, nic, request).map_err(|error| error.with_value(rule.to_string()))?;
        let answer = answer.ok_or_else(|| refused(Errno::OPNOTSUPP))?;
        Ok(understood(call, nic, Some(answer), wire::location)?.or(location).unwrap_or_default())
    }

    /// Deletes the rule at `location` (`ETHTOOL_SRXCLSRLDEL`).
    pub fn delete_rule(&self, nic: &str, location: u32) -> Result<(), SysError> {
        let call = "ETHTOOL_SRXCLSRLDEL";
        let value = format!("rule {location}");
        match self.ask(call, nic, wire::delete_request(location)) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(SysError::new(call, nic, Errno::OPNOTSUPP).with_value(value)),
            Err(error) => Err(error.with_value(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testkit::flow;

    #[test]
    fn loopback_has_no_rules_and_takes_none() {
        let ethtool = Ethtool::open().expect("a socket");
        assert_eq!(ethtool.rules("lo"), Ok(None));
        assert_eq!(ethtool.rule("lo", 0), Ok(RuleContent::Empty));
        let rule = Rule::new(flow(1, 0, 0).addr, 2);
        let error = ethtool.set_rule("lo", Some(0), &rule).expect_err("no rules");
        assert!(error.is_unsupported(), "{error}");
        assert!(error.to_string().starts_with(
            "ETHTOOL_SRXCLSRLINS lo = `tcp 10.0.0.1:9000 <- 10.0.0.2:40001 to queue 2`"
        ));
        assert!(ethtool.delete_rule("lo", 3).expect_err("no rules").is_unsupported());
        assert!(ethtool.rules("nosuchnic0").expect_err("no such device").is_gone());
    }
}
