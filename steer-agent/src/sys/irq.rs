//! Interrupts as files: which a device has, what they are called, where they go.
//!
//! Reads and writes `/proc/irq/N` (Documentation/core-api/irq/irq-affinity.rst) and reads
//! `/sys/kernel/irq/N` (Documentation/ABI/testing/sysfs-kernel-irq) and the `msi_irqs` of devices
//! (Documentation/ABI/testing/sysfs-bus-pci). Which of them serves which queue is not known here;
//! neither is whether a write took effect: an interrupt moves when it next fires.

use std::{path::PathBuf, time::Duration};

use super::SysError;
use super::root::{self, Root};
use crate::model::CpuSet;

fn dir(root: &Root, irq: u32) -> PathBuf {
    root.proc("irq").join(irq.to_string())
}

fn affinity_file(root: &Root, irq: u32) -> PathBuf {
    dir(root, irq).join("smp_affinity_list")
}

/// Looks at an affinity before it is believed to be empty.
const LOOKS: u32 = 8;

/// How long an interrupt is given to arrive. The handler that takes it to another CPU forgets first that
/// it is on its way and sets its CPUs last (`irq_move_masked_irq`), and who looks in between is shown
/// those that it comes from: microseconds, unless the CPU of a virtual machine is taken away just then
/// (seen in the lab on 6.12).
pub(super) const ON_ITS_WAY: Duration = Duration::from_millis(5);

/// The CPUs that `irq` may go to.
///
/// None at all is no answer: an interrupt on its way to another CPU is shown with the CPUs that it is to
/// go to, and the handler that takes it there empties that set while it may be being printed
/// (`show_irq_affinity` takes no lock, kernel/irq/proc.c; `irq_move_masked_irq`, kernel/irq/migration.c;
/// seen in the lab on 6.12). The next look shows the new ones.
pub fn affinity(root: &Root, irq: u32) -> Result<CpuSet, SysError> {
    let file = affinity_file(root, irq);
    some_cpus(|| root::read_value(&file))
}

fn some_cpus(mut look: impl FnMut() -> Result<CpuSet, SysError>) -> Result<CpuSet, SysError> {
    for _ in 1..LOOKS {
        let cpus = look()?;
        if !cpus.is_empty() {
            return Ok(cpus);
        }
    }
    look()
}

/// The CPUs that `irq` goes to; `None` on kernels without `CONFIG_GENERIC_IRQ_EFFECTIVE_AFF_MASK`
/// and as long as no CPU was chosen (an interrupt that is not started has an empty set).
pub fn effective(root: &Root, irq: u32) -> Result<Option<CpuSet>, SysError> {
    match root::read_value(&dir(root, irq).join("effective_affinity_list")) {
        Ok(cpus) => Ok(Some(cpus).filter(|cpus: &CpuSet| !cpus.is_empty())),
        Err(error) if error.is_absent() && dir(root, irq).exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets `irq` go to `cpus` only.
pub(super) fn set_affinity(root: &Root, irq: u32, cpus: &CpuSet) -> Result<(), SysError> {
    root::write(&affinity_file(root, irq), &cpus.to_string())
}

/// Whether the kernel keeps this affinity to itself (`IRQD_AFFINITY_MANAGED`). It tells so by the
/// mode 0444 instead of 0644 (kernel/irq/proc.c `register_irq_proc`), which costs no write to see.
#[must_use]
pub fn is_managed(root: &Root, irq: u32) -> bool {
    root::is_writable_by_mode(&affinity_file(root, irq)) == Some(false)
}

/// The action names of `irq`, comma-separated where it is shared; `None` for one that nobody uses.
/// From `/sys/kernel/irq/N/actions` (4.9), else the directories in `/proc/irq/N`, which carry the
/// same names.
#[must_use]
pub fn name(root: &Root, irq: u32) -> Option<String> {
    let actions = root.sys("kernel/irq").join(irq.to_string()).join("actions");
    if let Ok(names) = root::read(&actions)
        && !names.is_empty()
    {
        return Some(names);
    }
    let dir = dir(root, irq);
    let names: Vec<String> =
        root::list(&dir).ok()?.into_iter().filter(|name| dir.join(name).is_dir()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// The interrupts of the device behind `nic`, in rising order, with their names. For a virtio
/// device they belong to the PCI device above it. All of a device's functions and vectors are
/// among them, not only those of queues. Empty for an interface without a device, and for devices
/// that do not interrupt by MSI.
#[must_use]
pub fn of_nic(root: &Root, nic: &str) -> Vec<(u32, String)> {
    let device = root.nic(nic).join("device");
    let listed = root::list(&device.join("msi_irqs"))
        .or_else(|_| root::list(&device.join("../msi_irqs")))
        .unwrap_or_default();
    let mut irqs: Vec<u32> = listed.iter().filter_map(|irq| irq.parse().ok()).collect();
    irqs.sort_unstable();
    irqs.into_iter().filter_map(|irq| Some((irq, name(root, irq)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    struct Tree {
        root: Root,
        _dir: tempfile::TempDir,
    }

    impl Tree {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let root = Root::new(dir.path().join("proc"), dir.path().join("sys"));
            Self { root, _dir: dir }
        }

        fn file(path: PathBuf, text: &str) -> PathBuf {
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(&path, text).expect("written");
            path
        }
    }

    #[test]
    fn reads_and_writes_the_list() {
        let tree = Tree::new();
        let file = Tree::file(tree.root.proc("irq/29/smp_affinity_list"), "0-3\n");
        assert_eq!(affinity(&tree.root, 29), Ok((0..4).collect()));
        set_affinity(&tree.root, 29, &CpuSet::single(2)).expect("written");
        assert!(root::read(&file).expect("read").starts_with('2'));
    }

    #[test]
    fn an_interrupt_on_its_way_is_looked_at_again() {
        let mut looks = vec![CpuSet::single(1), CpuSet::default(), CpuSet::default()];
        assert_eq!(some_cpus(|| Ok(looks.pop().expect("no more looks"))), Ok(CpuSet::single(1)));
        let mut looks = 0;
        let empty = some_cpus(|| {
            looks += 1;
            Ok(CpuSet::default())
        });
        assert_eq!((empty, looks), (Ok(CpuSet::default()), LOOKS), "but not for ever");
        let gone = SysError::no_such_interface("eth0");
        assert!(some_cpus(|| Err(gone.clone())).is_err());
    }

    #[test]
    fn no_effective_affinity_is_not_an_empty_one() {
        let tree = Tree::new();
        Tree::file(tree.root.proc("irq/29/smp_affinity_list"), "0-3\n");
        assert_eq!(effective(&tree.root, 29), Ok(None), "an older kernel");
        Tree::file(tree.root.proc("irq/29/effective_affinity_list"), "\n");
        assert_eq!(effective(&tree.root, 29), Ok(None), "not started");
        Tree::file(tree.root.proc("irq/29/effective_affinity_list"), "1\n");
        assert_eq!(effective(&tree.root, 29), Ok(Some(CpuSet::single(1))));
        assert!(effective(&tree.root, 30).expect_err("no such interrupt").is_absent());
    }

    #[test]
    fn mode_0444_is_managed() {
        let tree = Tree::new();
        let file = Tree::file(tree.root.proc("irq/29/smp_affinity_list"), "0\n");
        assert!(!is_managed(&tree.root, 29));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("changed");
        assert!(is_managed(&tree.root, 29));
        assert!(!is_managed(&tree.root, 30), "nothing is known of it");
    }

    #[test]
    fn names_come_from_sysfs_else_from_the_directories() {
        let tree = Tree::new();
        fs::create_dir_all(tree.root.proc("irq/29/eth0-rx-0")).expect("made");
        Tree::file(tree.root.proc("irq/29/spurious"), "count 0\n");
        assert_eq!(name(&tree.root, 29).as_deref(), Some("eth0-rx-0"));
        Tree::file(tree.root.sys("kernel/irq/29/actions"), "eth0-rx-0,other\n");
        assert_eq!(name(&tree.root, 29).as_deref(), Some("eth0-rx-0,other"));
        Tree::file(tree.root.sys("kernel/irq/30/actions"), "\n");
        assert_eq!(name(&tree.root, 30), None);
    }

    #[test]
    fn a_virtio_devices_interrupts_are_its_parents() {
        let tree = Tree::new();
        let pci = tree.root.sys("devices/pci0000:00/0000:00:03.0");
        for irq in [26, 25, 9] {
            Tree::file(pci.join("msi_irqs").join(irq.to_string()), "msix\n");
        }
        Tree::file(tree.root.sys("kernel/irq/25/actions"), "virtio0-config\n");
        Tree::file(tree.root.sys("kernel/irq/26/actions"), "virtio0-input.0\n");
        let nic = pci.join("virtio0/net/eth1");
        fs::create_dir_all(&nic).expect("made");
        symlink("../..", nic.join("device")).expect("linked");
        fs::create_dir_all(tree.root.sys("class/net")).expect("made");
        let link = "../../devices/pci0000:00/0000:00:03.0/virtio0/net/eth1";
        symlink(link, tree.root.nic("eth1")).expect("linked");
        let named = |irq, name: &str| (irq, name.to_owned());
        let expected = [named(25, "virtio0-config"), named(26, "virtio0-input.0")];
        assert_eq!(of_nic(&tree.root, "eth1"), expected);
        assert_eq!(of_nic(&tree.root, "lo"), []);
    }
}
