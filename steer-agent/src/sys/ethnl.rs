//! The netlink path: RSS over the ethtool family, queue to NAPI to IRQ over the netdev family, the
//! XDP program over rtnetlink.
//!
//! What a kernel offers is asked of the kernel (the family's list of operations), never concluded
//! from its version; what it does not offer is `Ok(None)`, and the caller has the ioctl or the
//! names of interrupts instead. Nothing is tried out by writing.
//!
//! | operation | since | source |
//! |---|---|---|
//! | RSS get | 6.2 | net/ethtool/rss.c `ethnl_rss_request_ops` |
//! | RSS set | 6.17 | net/ethtool/rss.c `ethnl_rss_set` |
//! | queue and NAPI get | 6.8 | net/core/netdev-genl.c |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use netlink_bindings::{ethtool, netdev, rt_link};
use rustix::io::Errno;

use super::SysError;
use super::error::means_unsupported;
use super::ethtool::{RssConfig, hash_function, queues, summary};
use super::netlink::{Family, Netlink, Refusal};
use crate::model::QueueId;

/// `ETHTOOL_MSG_RSS_GET`, `include/uapi/linux/ethtool_netlink_generated.h`. The bindings number the
/// operations of this family wrongly (they count notifications, which have numbers of their own).
const RSS_GET: u8 = 38;
/// `ETHTOOL_MSG_RSS_SET`.
const RSS_SET: u8 = 48;
/// `NETDEV_CMD_QUEUE_GET` and `NETDEV_CMD_NAPI_GET`, include/uapi/linux/netdev.h.
const QUEUE_GET: u32 = 10;
/// See [`QUEUE_GET`].
const NAPI_GET: u32 = 11;
/// `RTM_GETLINK`, rtnetlink(7).
const RTM_GETLINK: u16 = 18;

/// What netlink knows of one RX queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NapiQueue {
    /// The NAPI instance that polls it.
    pub napi_id: u32,
    /// The interrupt of that instance, where the driver told (`netif_napi_set_irq`).
    pub irq: Option<u32>,
    /// The kernel thread of that instance, with threaded NAPI.
    pub pid: Option<u32>,
}

impl NapiQueue {
    fn told(reply: &netdev::IterableNapi<'_>) -> Option<Self> {
        let (irq, pid) = (reply.get_irq().ok(), reply.get_pid().ok());
        Some(Self { napi_id: reply.get_id().ok()?, irq, pid })
    }
}

/// Netlink in the present network namespace. It opens a socket per question, so that it can be
/// shared between threads.
#[derive(Debug, Default)]
pub struct Ethnl {
    ethtool: OnceLock<Family>,
    netdev: OnceLock<Family>,
}

impl Ethnl {
    /// Whether the RSS table can be read.
    pub fn offers_rss_get(&self) -> Result<bool, SysError> {
        Ok(self.ethtool(RSS_GET)?.is_some())
    }

    /// Whether the RSS table can be written.
    pub fn offers_rss_set(&self) -> Result<bool, SysError> {
        Ok(self.ethtool(RSS_SET)?.is_some())
    }

    /// Whether queues and NAPI instances can be listed.
    pub fn offers_queues(&self) -> Result<bool, SysError> {
        Ok(self.netdev()?.is_some())
    }

    fn ethtool(&self, operation: u8) -> Result<Option<&Family>, SysError> {
        Ok(known(&self.ethtool, "ethtool")?
            .filter(|family| family.operations.contains(&u32::from(operation))))
    }

    fn netdev(&self) -> Result<Option<&Family>, SysError> {
        let needed = BTreeSet::from([QUEUE_GET, NAPI_GET]);
        let netdev = known(&self.netdev, "netdev")?;
        Ok(netdev.filter(|family| needed.is_subset(&family.operations)))
    }

    /// RSS settings of the main context; `None` where kernel or driver do not offer them.
    pub fn rss(&self, nic: &str) -> Result<Option<RssConfig>, SysError> {
        let call = "ethtool rss-get";
        let Some(family) = self.ethtool(RSS_GET)? else {
            return Ok(None);
        };
        let mut request = ethtool::Request::new().op_rss_get_do();
        request.header_mut().cmd = RSS_GET;
        request.encode().nested_header().push_dev_name_bytes(nic.as_bytes());
        let mut config = None;
        let mut netlink = Netlink::generic().map_err(|refusal| failed(call, nic, refusal))?;
        let asked = netlink.ask(&request, family.id, |reply| config = Some(rss_config(&reply)));
        offered(call, nic, asked).map(|answered| answered.and(config))
    }

    /// How many RSS contexts exist beside the main one; `None` where nobody tells.
    pub fn extra_contexts(&self, nic: &str) -> Result<Option<u32>, SysError> {
        let call = "ethtool rss-get";
        let Some(family) = self.ethtool(RSS_GET)? else {
            return Ok(None);
        };
        let mut request = ethtool::Request::new().op_rss_get_dump();
        request.header_mut().cmd = RSS_GET;
        request.encode().nested_header().push_dev_name_bytes(nic.as_bytes());
        let mut contexts = BTreeSet::new();
        let mut answered = false;
        let mut netlink = Netlink::generic().map_err(|refusal| failed(call, nic, refusal))?;
        let asked = netlink.ask(&request, family.id, |reply| {
            // Kernels before 6.11 dump all devices, whatever the header says.
            if is_about(&reply, nic) {
                answered = true;
                // The main context is the one without a number.
                contexts.extend(reply.get_context().ok().filter(|context| *context != 0));
            }
        });
        let asked = offered(call, nic, asked)?;
        let count = u32::try_from(contexts.len()).unwrap_or(u32::MAX);
        Ok(asked.filter(|()| answered).map(|()| count))
    }

    /// Writes the whole table of the main context; `None` where kernel or driver do not offer it.
    ///
    /// What is not in the request stays: the kernel tells the driver "no change". A driver that
    /// misreads that for the input transformation must be given the table by
    /// [`Ethtool::set_table`](super::Ethtool::set_table) instead; this path cannot say otherwise,
    /// as the kernel turns the value in force into "no change" too (`ethnl_rss_set`).
    pub(super) fn set_table(&self, nic: &str, table: &[QueueId]) -> Result<Option<()>, SysError> {
        if table.is_empty() {
            let refused = SysError::new("ethtool rss-set", nic, Errno::INVAL);
            return Err(refused.with_value("an empty table"));
        }
        self.write_table(nic, table).map_err(|error| error.with_value(summary(table)))
    }

    /// Gives the table back to the driver: an empty table in the request.
    pub(super) fn reset_table(&self, nic: &str) -> Result<Option<()>, SysError> {
        self.write_table(nic, &[]).map_err(|error| error.with_value("the default table"))
    }

    fn write_table(&self, nic: &str, table: &[QueueId]) -> Result<Option<()>, SysError> {
        let call = "ethtool rss-set";
        let Some(family) = self.ethtool(RSS_SET)? else {
            return Ok(None);
        };
        let entries: Vec<u8> = table.iter().flat_map(|queue| queue.to_ne_bytes()).collect();
        if u16::try_from(entries.len() + 4).is_err() {
            return Ok(None); // longer than an attribute can be
        }
        let mut request = ethtool::Request::new().op_rss_set_do();
        request.header_mut().cmd = RSS_SET;
        let encoder = request.encode();
        let encoder = encoder.nested_header().push_dev_name_bytes(nic.as_bytes()).end_nested();
        drop(encoder.push_indir(&entries));
        let mut netlink = Netlink::generic().map_err(|refusal| failed(call, nic, refusal))?;
        offered(call, nic, netlink.ask(&request, family.id, |_| {}))
    }

    /// NAPI instance, interrupt and thread of each RX queue that has one. `None` where the kernel
    /// does not offer it; a driver that links no queue to its NAPI gives an empty answer, as does
    /// an interface that is down.
    pub fn rx_queues(
        &self,
        nic: &str,
        ifindex: u32,
    ) -> Result<Option<BTreeMap<QueueId, NapiQueue>>, SysError> {
        let Some(family) = self.netdev()? else {
            return Ok(None);
        };
        let call = "netdev napi-get";
        let mut netlink = Netlink::generic().map_err(|refusal| failed(call, nic, refusal))?;
        let mut request = netdev::Request::new().op_napi_get_dump();
        request.encode().push_ifindex(ifindex);
        let mut instances = BTreeMap::new();
        let asked = netlink.ask(&request, family.id, |reply| {
            if let Some(napi) = NapiQueue::told(&reply) {
                instances.insert(napi.napi_id, napi);
            }
        });
        if offered(call, nic, asked)?.is_none() {
            return Ok(None);
        }
        let call = "netdev queue-get";
        let mut request = netdev::Request::new().op_queue_get_dump();
        request.encode().push_ifindex(ifindex);
        let mut linked = BTreeMap::new();
        let asked = netlink.ask(&request, family.id, |reply| {
            if let Some((queue, napi_id)) = rx_queue(&reply) {
                let unknown = NapiQueue { napi_id, ..NapiQueue::default() };
                linked.insert(queue, instances.get(&napi_id).copied().unwrap_or(unknown));
            }
        });
        Ok(offered(call, nic, asked)?.map(|()| linked))
    }

    /// Id of the XDP program on an interface, whatever its mode (`IFLA_XDP_PROG_ID`); `None` where
    /// there is none.
    pub fn xdp_program(&self, nic: &str, ifindex: u32) -> Result<Option<u32>, SysError> {
        let call = "RTM_GETLINK";
        let index = i32::try_from(ifindex).map_err(|_| SysError::no_such_interface(nic))?;
        let header = rt_link::Ifinfomsg { ifi_index: index, ..rt_link::Ifinfomsg::default() };
        let request = rt_link::Request::new().op_getlink_do(&header);
        let mut program = None;
        let mut netlink = Netlink::route().map_err(|refusal| failed(call, nic, refusal))?;
        let asked = netlink.ask(&request, RTM_GETLINK, |reply| {
            program = program_of(&reply.1);
        });
        Ok(offered(call, nic, asked)?.and(program).filter(|id| *id != 0))
    }
}

/// The family from the cache, else from the kernel. A missing one is asked for again next time.
fn known<'a>(
    cache: &'a OnceLock<Family>,
    name: &'static str,
) -> Result<Option<&'a Family>, SysError> {
    if let Some(family) = cache.get() {
        return Ok(Some(family));
    }
    let asked = Netlink::generic().and_then(|mut netlink| netlink.family(name));
    let found = asked.map_err(|refusal| failed("CTRL_CMD_GETFAMILY", name, refusal))?;
    Ok(found.map(|family| cache.get_or_init(|| family)))
}

fn failed(call: &'static str, object: &str, refusal: Refusal) -> SysError {
    SysError::new(call, object, refusal.errno).with_kernel_message(refusal.words)
}

/// An operation that kernel or driver lack is `None`.
fn offered(
    call: &'static str,
    nic: &str,
    asked: Result<(), Refusal>,
) -> Result<Option<()>, SysError> {
    match asked {
        Ok(()) => Ok(Some(())),
        Err(refusal) if means_unsupported(refusal.errno) => Ok(None),
        Err(refusal) => Err(failed(call, nic, refusal)),
    }
}

/// Whether an answer names this interface.
fn is_about(reply: &ethtool::IterableRss<'_>, nic: &str) -> bool {
    let named = reply.get_header().ok().and_then(|header| header.get_dev_name().ok());
    named.is_some_and(|name| name.to_bytes() == nic.as_bytes())
}

/// Number and NAPI instance of an RX queue.
fn rx_queue(reply: &netdev::IterableQueue<'_>) -> Option<(QueueId, u32)> {
    let is_rx = reply.get_type().ok() == Some(netdev::QueueType::Rx as u32);
    is_rx.then_some((reply.get_id().ok()?, reply.get_napi_id().ok()?))
}

fn program_of(link: &rt_link::IterableLinkAttrs<'_>) -> Option<u32> {
    link.get_xdp().ok()?.get_prog_id().ok()
}

/// Attributes whose value is zero or empty are left out by the kernel (`rss_fill_reply`).
fn rss_config(reply: &ethtool::IterableRss<'_>) -> RssConfig {
    let xfrm = reply.get_input_xfrm().unwrap_or(0);
    RssConfig {
        table: reply.get_indir().map(queues).unwrap_or_default(),
        key: reply.get_hkey().map(<[u8]>::to_vec).unwrap_or_default(),
        hash_function: reply.get_hfunc().ok().and_then(hash_function),
        // 6.2 to 6.7 have no such attribute, and nothing but plain hashing either.
        input_xfrm: u8::try_from(xfrm).ok().filter(|xfrm| *xfrm != 0xff),
    }
}

/// Everything that reads an answer, on any bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn any_bytes(bytes: &[u8]) {
    use netlink_bindings::traits::NetlinkRequest as _;
    let rss = ethtool::OpRssGetDo::decode_reply(bytes);
    let _ = (rss_config(&rss), is_about(&rss, "eth0"), rss.get_context());
    let _ = rx_queue(&netdev::OpQueueGetDump::decode_reply(bytes));
    let _ = NapiQueue::told(&netdev::OpNapiGetDump::decode_reply(bytes));
    let _ = program_of(&rt_link::OpGetlinkDo::decode_reply(bytes).1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_bindings::traits::NetlinkRequest as _;
    use proptest::prelude::*;

    #[test]
    fn loopback_has_no_table_and_no_program() {
        let ethnl = Ethnl::default();
        assert_eq!(ethnl.rss("lo"), Ok(None));
        assert_eq!(ethnl.extra_contexts("lo"), Ok(None));
        assert_eq!(ethnl.set_table("lo", &[0, 1]), Ok(None));
        assert_eq!(ethnl.xdp_program("lo", 1), Ok(None));
        assert!(ethnl.rx_queues("lo", 1).expect("answered").unwrap_or_default().is_empty());
    }

    #[test]
    fn an_empty_table_is_never_sent() {
        let error = Ethnl::default().set_table("lo", &[]).expect_err("it would be a reset");
        assert_eq!(error.errno(), Some(Errno::INVAL));
    }

    #[test]
    fn a_device_that_is_not_there_is_gone() {
        let ethnl = Ethnl::default();
        if ethnl.offers_rss_get().expect("answered") {
            let error = ethnl.rss("nosuchnic0").expect_err("no such device");
            assert!(error.is_gone(), "{error}");
            assert!(error.to_string().contains("the kernel says"), "{error}");
        }
        assert!(ethnl.xdp_program("nosuchnic0", 999_999).expect_err("none").is_gone());
    }

    #[test]
    fn requests_carry_the_kernels_numbers() {
        let mut request = ethtool::Request::new().op_rss_set_do();
        request.header_mut().cmd = RSS_SET;
        let encoder = request.encode().nested_header().push_dev_name_bytes(b"e0").end_nested();
        drop(encoder.push_indir(&[1, 0, 0, 0]));
        let expected = [
            48, 1, 0, 0, // ETHTOOL_MSG_RSS_SET, version
            12, 0, 1, 0x80, // ETHTOOL_A_RSS_HEADER, nested
            7, 0, 2, 0, b'e', b'0', 0, 0, // ETHTOOL_A_HEADER_DEV_NAME, padded
            8, 0, 4, 0, 1, 0, 0, 0, // ETHTOOL_A_RSS_INDIR
        ];
        assert_eq!(request.payload(), expected);
    }

    #[test]
    fn a_reply_is_read_and_what_it_lacks_is_plain() {
        let mut request = ethtool::Request::new().op_rss_set_do();
        drop(request.encode().push_hfunc(1).push_indir(&[3, 0, 0, 0, 1, 0, 0, 0]));
        let config = rss_config(&ethtool::OpRssGetDo::decode_request(request.payload()));
        let expected = RssConfig {
            table: vec![3, 1],
            key: Vec::new(),
            hash_function: Some("toeplitz".to_owned()),
            input_xfrm: Some(0),
        };
        assert_eq!(config, expected);
    }

    proptest! {
        /// The generated readers stand any bytes too.
        #[test]
        fn any_reply_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            any_bytes(&bytes);
        }
    }
}
