//! Queues as files: `/sys/class/net/IF/queues` (Documentation/ABI/testing/sysfs-class-net-queues).
//!
//! XPS is read and written; RPS is only read. A queue attribute that a device does not have, by
//! `ENOENT` (a device with one queue) or `EOPNOTSUPP`, is `None`. Writing `xps_cpus` needs
//! `CAP_NET_ADMIN`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::SysError;
use super::root::{self, Root};
use crate::model::{CpuSet, QueueId};

/// The direction of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `rx-N`.
    Rx,
    /// `tx-N`.
    Tx,
}

impl Direction {
    fn prefix(self) -> &'static str {
        match self {
            Self::Rx => "rx-",
            Self::Tx => "tx-",
        }
    }
}

fn queue_dir(root: &Root, nic: &str, direction: Direction, queue: QueueId) -> PathBuf {
    root.nic(nic).join("queues").join(format!("{}{queue}", direction.prefix()))
}

/// Numbers of the queues in use, rising.
pub fn numbers(root: &Root, nic: &str, direction: Direction) -> Result<Vec<QueueId>, SysError> {
    let names = root::list(&root.nic(nic).join("queues"));
    let names = names.map_err(|error| gone_or(root, nic, error))?;
    let number = |name: &String| name.strip_prefix(direction.prefix())?.parse().ok();
    let mut numbers: Vec<QueueId> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The CPUs whose packets leave through TX queue `queue`.
pub fn xps(root: &Root, nic: &str, queue: QueueId) -> Result<Option<CpuSet>, SysError> {
    mask(root, nic, &queue_dir(root, nic, Direction::Tx, queue).join("xps_cpus"))
}

/// Writes them.
pub(super) fn set_xps(
    root: &Root,
    nic: &str,
    queue: QueueId,
    cpus: &CpuSet,
) -> Result<(), SysError> {
    let path = queue_dir(root, nic, Direction::Tx, queue).join("xps_cpus");
    root::write(&path, &cpus.to_mask()).map_err(|error| gone_or(root, nic, error))
}

/// The CPUs that RPS hands the packets of RX queue `queue` to; empty is off.
pub fn rps(root: &Root, nic: &str, queue: QueueId) -> Result<Option<CpuSet>, SysError> {
    mask(root, nic, &queue_dir(root, nic, Direction::Rx, queue).join("rps_cpus"))
}

/// Entries of the flow table of RX queue `queue`; above zero means RFS.
pub fn rps_flows(root: &Root, nic: &str, queue: QueueId) -> Result<Option<u32>, SysError> {
    let path = queue_dir(root, nic, Direction::Rx, queue).join("rps_flow_cnt");
    optional(root, nic, root::read_value(&path))
}

/// Whether NAPI of this interface runs in kernel threads (`threaded`; 5.12). 2 is busy polling in
/// threads (6.19 by the specification of netdev).
pub fn threaded(root: &Root, nic: &str) -> Result<Option<bool>, SysError> {
    let value = optional(root, nic, root::read_value::<u32>(&root.nic(nic).join("threaded")))?;
    Ok(value.map(|value| value > 0))
}

fn mask(root: &Root, nic: &str, path: &Path) -> Result<Option<CpuSet>, SysError> {
    let Some(text) = optional(root, nic, root::read(path))? else {
        return Ok(None);
    };
    let parsed = CpuSet::from_mask(&text).map(Some);
    parsed.map_err(|error| {
        SysError::unexpected("read", path.display().to_string(), error.to_string())
    })
}

/// An attribute that the device lacks is `None`; a device that is not there is an error.
pub(super) fn optional<T>(
    root: &Root,
    nic: &str,
    result: Result<T, SysError>,
) -> Result<Option<T>, SysError> {
    match result.map_err(|error| gone_or(root, nic, error)) {
        Ok(value) => Ok(Some(value)),
        // EINVAL: `carrier` and its like of an interface that is down (net/core/net-sysfs.c).
        Err(error) if error.is_absent() || error.is_unsupported() || is_invalid(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_invalid(error: &SysError) -> bool {
    error.errno() == Some(rustix::io::Errno::INVAL)
}

/// A missing file of an interface that is gone altogether says so.
pub(super) fn gone_or(root: &Root, nic: &str, error: SysError) -> SysError {
    if error.is_absent() && !root.nic(nic).exists() {
        SysError::no_such_interface(nic)
    } else {
        error
    }
}

/// One attribute of an interface, such as `carrier_changes`; `None` where it does not exist or
/// cannot be told now.
pub fn attribute<T: FromStr>(root: &Root, nic: &str, name: &str) -> Result<Option<T>, SysError> {
    optional(root, nic, root::read_value(&root.nic(nic).join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path().join("proc"), dir.path().join("sys"));
        for queue in ["rx-0", "rx-2", "rx-10", "tx-0", "tx-1"] {
            let path = root.nic("eth0").join("queues").join(queue);
            fs::create_dir_all(&path).expect("made");
            if queue.starts_with("tx") {
                fs::write(path.join("xps_cpus"), "00000001,00000000\n").expect("written");
            } else {
                fs::write(path.join("rps_cpus"), "0\n").expect("written");
                fs::write(path.join("rps_flow_cnt"), "0\n").expect("written");
            }
        }
        (dir, root)
    }

    #[test]
    fn queues_are_in_the_order_of_their_numbers() {
        let (_dir, root) = tree();
        assert_eq!(numbers(&root, "eth0", Direction::Rx), Ok(vec![0, 2, 10]));
        assert_eq!(numbers(&root, "eth0", Direction::Tx), Ok(vec![0, 1]));
        assert!(numbers(&root, "eth9", Direction::Rx).expect_err("none").is_gone());
    }

    #[test]
    fn masks_become_sets_and_back() {
        let (_dir, root) = tree();
        assert_eq!(xps(&root, "eth0", 1), Ok(Some(CpuSet::single(32))));
        set_xps(&root, "eth0", 1, &CpuSet::single(33)).expect("written");
        assert_eq!(xps(&root, "eth0", 1), Ok(Some(CpuSet::single(33))));
        assert_eq!(rps(&root, "eth0", 2), Ok(Some(CpuSet::default())));
        assert_eq!(rps_flows(&root, "eth0", 2), Ok(Some(0)));
    }

    #[test]
    fn what_is_lacking_is_none_and_what_is_gone_an_error() {
        let (_dir, root) = tree();
        assert_eq!(xps(&root, "eth0", 7), Ok(None));
        assert_eq!(threaded(&root, "eth0"), Ok(None));
        let error = xps(&root, "eth9", 0).expect_err("no such interface");
        assert!(error.is_gone());
        assert!(error.to_string().starts_with("find interface eth9:"), "{error}");
        let error = set_xps(&root, "eth0", 7, &CpuSet::single(0)).expect_err("no such queue");
        assert!(error.is_absent() && !error.is_gone());
    }

    #[test]
    fn nonsense_is_an_error_with_the_path() {
        let (_dir, root) = tree();
        let path = root.nic("eth0").join("queues/tx-0/xps_cpus");
        fs::write(&path, "zz\n").expect("written");
        let error = xps(&root, "eth0", 0).expect_err("not a mask");
        assert_eq!(error.object(), path.display().to_string());
    }
}
