//! Who else on this host writes affinities and tables: processes, and files that act on events.
//!
//! A process counts only if it is root's, for anybody can call a process `irqbalance`, and steer
//! keeps its hands off interrupts while one runs. Files are searched for the words that make them
//! matter, not understood. Reads only.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::Neighbours;
use crate::sys::irqbalance::process;
use crate::sys::root::{self, Root};

/// Where udev looks for rules, udev(7).
const RULES: [&str; 4] =
    ["etc/udev/rules.d", "run/udev/rules.d", "usr/local/lib/udev/rules.d", "usr/lib/udev/rules.d"];
/// Where it looks for links, systemd.link(5).
const LINKS: [&str; 4] = [
    "etc/systemd/network",
    "run/systemd/network",
    "usr/local/lib/systemd/network",
    "usr/lib/systemd/network",
];
/// No rule is longer; what is, is not read.
const LONGEST_FILE: u64 = 1 << 20;
/// What CRI-O takes for `irqbalance_config_file` where none is set, crio.conf(5).
const CRIO_DEFAULT: &str = "/etc/sysconfig/irqbalance";

/// Everything, with `host` for the root of the file system.
#[must_use]
pub fn find(proc: &Root, host: &Path) -> Neighbours {
    let mut found = Neighbours { udev_rules: udev_rules(host), ..Neighbours::default() };
    find_processes(proc, host, &mut found);
    found
}

/// Looks for processes again; files stay as they were found.
pub fn find_processes(proc: &Root, host: &Path, found: &mut Neighbours) {
    let (mut irqbalance, mut tuned, mut crio) = (None, None, None);
    for name in root::list(&proc.proc("")).unwrap_or_default() {
        let Ok(pid) = name.parse::<u32>() else { continue };
        // A process that ends while it is looked at is not there.
        let Ok(comm) = root::read(&proc.proc(&name).join("comm")) else { continue };
        let slot = match comm.as_str() {
            "irqbalance" => &mut irqbalance,
            "tuned" => &mut tuned,
            "crio" => &mut crio,
            _ => continue,
        };
        if slot.is_none() {
            *slot = process(proc, pid);
        }
    }
    found.irqbalance = irqbalance;
    found.tuned = tuned;
    found.tuned_profile = tuned.and_then(|_| {
        let profile = root::read(&host.join("etc/tuned/active_profile")).ok()?;
        Some(profile).filter(|profile| !profile.is_empty())
    });
    found.crio = crio;
    found.crio_irqbalance_config = crio.and_then(|_| crio_irqbalance_config(host));
}

fn udev_rules(host: &Path) -> Vec<String> {
    let mut found = files(host, &RULES, "rules", "smp_affinity");
    // `IRQAffinity=`, `IRQAffinityPolicy=` and `IRQAffinityNUMA=`.
    found.extend(files(host, &LINKS, "link", "IRQAffinity"));
    found
}

/// Files below `directories` with this ending that contain `words` outside of comments.
fn files(host: &Path, directories: &[&str], ending: &str, words: &str) -> Vec<String> {
    let mut found = Vec::new();
    for directory in directories {
        for name in root::list(&host.join(directory)).unwrap_or_default() {
            let inside = Path::new(directory).join(&name);
            let path = host.join(&inside);
            let fits = path.extension().is_some_and(|extension| extension == ending);
            if fits && says(&path, |line| line.contains(words)).is_some() {
                found.push(Path::new("/").join(inside).display().to_string());
            }
        }
    }
    found
}

/// The first line that is no comment and is `wanted`.
fn says(path: &Path, wanted: impl Fn(&str) -> bool) -> Option<String> {
    if fs::metadata(path).ok()?.len() > LONGEST_FILE {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.find(|line| wanted(line)).map(str::to_owned)
}

/// The file that CRI-O rewrites; `None` where it is told to leave irqbalance alone.
fn crio_irqbalance_config(host: &Path) -> Option<String> {
    let dropins = host.join("etc/crio/crio.conf.d");
    let mut files: Vec<PathBuf> = vec![host.join("etc/crio/crio.conf")];
    files.extend(root::list(&dropins).unwrap_or_default().iter().map(|name| dropins.join(name)));
    // The last one that says something holds.
    let set = files.iter().rev().find_map(|file| {
        let line = says(file, |line| line.starts_with("irqbalance_config_file"))?;
        Some(line.split_once('=')?.1.trim().trim_matches('"').to_owned())
    });
    Some(set.unwrap_or_else(|| CRIO_DEFAULT.to_owned())).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Process;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn an_empty_host_has_no_neighbours() {
        let dir = tempfile::tempdir().expect("a directory");
        let proc = Root::new(dir.path().join("proc"), dir.path().join("sys"));
        assert_eq!(find(&proc, dir.path()), Neighbours::default());
    }

    #[test]
    fn rules_that_set_affinity_are_named_and_comments_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let proc = Root::new(dir.path().join("proc"), dir.path().join("sys"));
        let rule = "ACTION==\"add\", RUN+=\"/bin/sh -c 'echo 1 > /proc/irq/30/smp_affinity'\"\n";
        write(dir.path(), "etc/udev/rules.d/90-irq.rules", rule);
        write(dir.path(), "usr/lib/udev/rules.d/50-old.rules", &format!("# {rule}"));
        write(dir.path(), "usr/lib/udev/rules.d/60-net.rules", "KERNEL==\"eth0\"\n");
        write(dir.path(), "etc/systemd/network/10-nic.link", "[Link]\nIRQAffinityPolicy=spread\n");
        let found = find(&proc, dir.path());
        assert_eq!(
            found.udev_rules,
            ["/etc/udev/rules.d/90-irq.rules", "/etc/systemd/network/10-nic.link"]
        );
    }

    #[test]
    fn processes_count_if_they_are_roots() {
        let dir = tempfile::tempdir().expect("a directory");
        let proc = Root::new(dir.path().join("proc"), dir.path().join("sys"));
        let zeros = "0 ".repeat(16);
        for (pid, comm) in [(7, "irqbalance"), (8, "tuned"), (9, "crio"), (10, "bash")] {
            let stat = format!("{pid} ({comm}) S {zeros}0 0 {pid}00 {}", "0 ".repeat(30));
            write(dir.path(), &format!("proc/{pid}/stat"), &stat);
            write(dir.path(), &format!("proc/{pid}/comm"), &format!("{comm}\n"));
        }
        write(dir.path(), "etc/tuned/active_profile", "network-latency\n");
        write(dir.path(), "etc/crio/crio.conf", "# irqbalance_config_file = \"/no\"\n");
        let conf = "[crio.runtime]\nirqbalance_config_file = \"/etc/irqb\"\n";
        write(dir.path(), "etc/crio/crio.conf.d/99-x.conf", conf);
        let found = find(&proc, dir.path());
        if !rustix::process::getuid().is_root() {
            assert_eq!(found, Neighbours::default());
            return;
        }
        assert_eq!(found.irqbalance, Some(Process { pid: 7, started: 700 }));
        assert_eq!(found.tuned_profile.as_deref(), Some("network-latency"));
        assert_eq!(found.crio_irqbalance_config.as_deref(), Some("/etc/irqb"));
        std::os::unix::fs::chown(dir.path().join("proc/7"), Some(65534), None).expect("root");
        assert_eq!(find(&proc, dir.path()).irqbalance, None);
    }
}
