//! Which way the kernel sends a connection and from which address: rtnetlink(7), asked for the very
//! destination, so that rules, metrics and preferred sources count as they do for `connect(2)`.

use std::net::IpAddr;

use netlink_bindings::{rt_route, rt_rule};

use super::SysError;
use super::netlink::{Netlink, Refusal};

/// `RTM_GETROUTE`, rtnetlink(7).
const RTM_GETROUTE: u16 = 26;
/// `RTM_GETRULE`.
const RTM_GETRULE: u16 = 34;
/// `RTM_F_FIB_MATCH` (4.13): the entry of the table instead of what follows from it.
const FIB_MATCH: u32 = 0x2000;
/// `RTN_UNICAST`, include/uapi/linux/rtnetlink.h.
const UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The way of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Index of the interface that it leaves through.
    pub ifindex: u32,
    /// The address that it leaves from.
    pub source: IpAddr,
}

/// The way to `remote` of a socket bound to `bound` (if to anything) with this mark, or in words why
/// there is not just one.
pub fn way(
    remote: IpAddr,
    bound: Option<IpAddr>,
    mark: u32,
) -> Result<Result<Way, String>, SysError> {
    let failed = |refusal: Refusal| {
        SysError::new("RTM_GETROUTE", remote.to_string(), refusal.errno)
            .with_kernel_message(refusal.words)
    };
    let mut netlink = Netlink::route().map_err(failed)?;
    let mut found = Err("it has no route".to_owned());
    let asked = netlink.ask(&request(remote, bound, mark, 0), RTM_GETROUTE, |(header, route)| {
        found = match (header.rtm_type, route.get_oif(), bound.or(route.get_prefsrc().ok())) {
            (UNICAST, Ok(ifindex), Some(source)) => Ok(Way { ifindex, source }),
            (UNICAST, ..) => Err("its route names no interface or no address".to_owned()),
            _ => Err("it is this host, a broadcast or unreachable".to_owned()),
        };
    });
    if let Err(refusal) = asked {
        // Unreachable, prohibited, or not an address of this host: an answer, not a failure.
        let why = refusal.words.unwrap_or_else(|| refusal.errno.to_string());
        return Ok(Err(format!("it has no route ({why})")));
    }
    if found.is_err() {
        return Ok(found);
    }
    let mut several = false;
    let matched = request(remote, bound, mark, FIB_MATCH);
    let asked = netlink.ask(&matched, RTM_GETROUTE, |(_, route)| {
        several = route.get_multipath().is_ok()
            || (route.get_nh_id().is_ok() && route.get_oif().is_err());
    });
    match asked {
        Ok(()) if several => Ok(Err("its route has several paths".to_owned())),
        Ok(()) => Ok(found),
        Err(refusal) => Err(failed(refusal)),
    }
}

fn request(
    remote: IpAddr,
    bound: Option<IpAddr>,
    mark: u32,
    flags: u32,
) -> rt_route::OpGetrouteDo<'static> {
    let (family, bits) = if remote.is_ipv4() { (AF_INET, 32) } else { (AF_INET6, 128) };
    let mut header = rt_route::Rtmsg::new();
    header.rtm_family = family;
    header.rtm_dst_len = bits;
    header.rtm_src_len = if bound.is_some() { bits } else { 0 };
    header.rtm_flags = flags;
    let mut request = rt_route::Request::new().op_getroute_do(&header);
    {
        let mut attributes = request.encode().push_dst(remote);
        if let Some(address) = bound {
            attributes = attributes.push_src(address);
        }
        if mark != 0 {
            let _ = attributes.push_mark(mark);
        }
    }
    request
}

/// A routing rule that looks at what [`way`] is not told (user, ports, protocol, type of service), in
/// words; `None` where there is none, and the ways are those that connections take.
pub fn unforeseeable_rule(v4: bool) -> Result<Option<String>, SysError> {
    let family = if v4 { AF_INET } else { AF_INET6 };
    let object = if v4 { "rules for IPv4" } else { "rules for IPv6" };
    let failed = |refusal: Refusal| {
        SysError::new("RTM_GETRULE", object, refusal.errno).with_kernel_message(refusal.words)
    };
    let header = rt_rule::FibRuleHdr { family, ..rt_rule::FibRuleHdr::default() };
    let request = rt_rule::Request::new().op_getrule_dump(&header);
    let mut netlink = Netlink::route().map_err(failed)?;
    let mut found = None;
    netlink
        .ask(&request, RTM_GETRULE, |(header, rule)| {
            let looks_at = [
                (rule.get_uid_range().is_ok(), "the user"),
                (rule.get_sport_range().is_ok(), "the source port"),
                (rule.get_dport_range().is_ok(), "the port"),
                (rule.get_ip_proto().is_ok(), "the protocol"),
                (header.tos != 0 || rule.get_dscp().is_ok(), "the type of service"),
            ];
            if let Some((_, what)) = looks_at.iter().find(|(does, _)| *does) {
                let priority = rule.get_priority().unwrap_or(0);
                found = Some(format!("routing rule {priority} looks at {what}"));
            }
        })
        .map_err(failed)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_no_destination() {
        for address in ["127.0.0.1", "::1"] {
            let way = way(address.parse().expect("an address"), None, 0).expect("answered");
            assert!(way.is_err(), "{way:?}");
        }
        // An address that is nobody's cannot be bound to.
        let bound = Some("203.0.113.77".parse().expect("an address"));
        let way = way("203.0.113.1".parse().expect("an address"), bound, 0).expect("answered");
        assert!(way.is_err(), "{way:?}");
    }

    #[test]
    fn rules_are_read() {
        for v4 in [true, false] {
            unforeseeable_rule(v4).expect("answered");
        }
    }
}
