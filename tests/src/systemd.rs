//! A machine whose first process is systemd, for what is installed as a service.
//!
//! `steer-lab` hands over to it at once, and is started again as a unit of it. Of the host's services none
//! runs: only what systemd itself needs is started.

use std::{
    ffi::CStr,
    fs,
    io::Write as _,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    mount::{MountFlags, mount},
    process::getpid,
};

use crate::{
    guest::{run, wait_for},
    init::{first_word, port},
    steer::{Finished, finish},
};

const SYSTEMD: &str = "/lib/systemd/systemd";
const UNITS: &str = "/etc/systemd/system";
/// What the machine comes up to.
const TARGET: &str = "steer-lab.target";
const SERVICE: &str = "steer-lab.service";

/// Units that would wait for what is not here, take long in an emulated machine, or change the NICs' names.
const MASKED: [&str; 19] = [
    "console-setup.service",
    "dbus.socket",
    "dev-hugepages.mount",
    "keyboard-setup.service",
    "ldconfig.service",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-pstore.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-setup.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-done.service",
    "timers.target",
];

/// Whether it is the first process; if not, this one is.
pub(crate) fn is_first() -> bool {
    !getpid().is_init()
}

/// Becomes systemd, which starts this program again with the same arguments.
pub(crate) fn hand_over() -> Result<()> {
    let none: Option<&CStr> = None;
    for (kind, target) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")]
    {
        mount(kind, target, kind, MountFlags::empty(), none)
            .with_context(|| format!("cannot mount {target}"))?;
    }
    // The rest comes from the unit.
    writeln!(port()?, "{}", first_word()?)?;
    ensure!(Path::new(SYSTEMD).is_file(), "there is no {SYSTEMD}; `cargo xtask setup` installs it");
    for unit in MASKED {
        let _ = fs::remove_file(format!("{UNITS}/{unit}"));
        symlink("/dev/null", format!("{UNITS}/{unit}"))?;
    }
    // Disks of the host that the machine has not.
    fs::write("/etc/fstab", "")?;
    // A host that is a container is taken for one by systemd, keeps services from being started and leaves
    // documentation out; and the index of all man pages takes long to bring up to date.
    let unwanted = ["/.dockerenv", "/usr/sbin/policy-rc.d", "/var/lib/man-db/auto-update"];
    let mut unwanted: Vec<PathBuf> = unwanted.map(PathBuf::from).into();
    let options = fs::read_dir("/etc/dpkg/dpkg.cfg.d").into_iter().flatten().flatten();
    unwanted.extend(options.map(|entry| entry.path()));
    for path in unwanted {
        // Most machines have none of them.
        let _ = fs::remove_file(path);
    }
    fs::write(
        format!("{UNITS}/{TARGET}"),
        format!(
            "[Unit]\nRequires=basic.target\nWants={SERVICE}\nAfter=basic.target\nAllowIsolate=yes\n"
        ),
    )?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let program = std::env::current_exe()?;
    fs::write(
        format!("{UNITS}/{SERVICE}"),
        format!(
            "[Unit]\nAfter=basic.target\nFailureAction=poweroff-immediate\n[Service]\n\
             Environment=HOME=/root\nStandardOutput=journal+console\nExecStart={} {}\n",
            program.display(),
            words.join(" ")
        ),
    )?;
    let error = Command::new(SYSTEMD).arg(format!("--unit={TARGET}")).exec();
    Err(error).context("cannot become systemd")
}

/// `systemctl`, to its end.
pub fn systemctl(arguments: &[&str]) -> Result<Finished> {
    finish(Command::new("systemctl").arg("--no-pager").args(arguments))
}

/// `systemctl` that must succeed.
pub fn succeed(arguments: &[&str]) -> Result<()> {
    let done = systemctl(arguments)?;
    ensure!(
        done.code == 0,
        "systemctl {}: exit code {}: {}",
        arguments.join(" "),
        done.code,
        done.stderr.trim()
    );
    Ok(())
}

/// A property of a unit.
pub fn property(unit: &str, name: &str) -> Result<String> {
    let value = run("systemctl", &["show", "--value", "--property", name, unit])?;
    Ok(value.trim().to_owned())
}

/// Waits until a property of a unit has this value.
pub fn until(unit: &str, name: &str, wanted: &str, patience: Duration) -> Result<()> {
    let what = format!("{name} of {unit} to be {wanted}");
    let outcome = wait_for(&what, patience, || {
        // A program is started for each look.
        thread::sleep(Duration::from_millis(200));
        Ok(property(unit, name)? == wanted)
    });
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => bail!("{error:#}; it is {}\n{}", property(unit, name)?, journal(unit)?),
    }
}

/// What a unit has written so far.
pub fn journal(unit: &str) -> Result<String> {
    run("journalctl", &["--sync"])?;
    run("journalctl", &["--no-pager", "--output", "cat", "--unit", unit])
}
