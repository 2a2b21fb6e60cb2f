//! Errors that only a NIC brings about that can be steered, held against their golden file: the others are
//! in the tests of steer-agent beside it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::align::correctable_load;
use crate::{
    guest::{Guest, NIC, PATIENCE, run as command, wait_for, write},
    nic::State,
    steer::{Daemon, Finished, exit, finish},
};

const GOLDEN: &str = include_str!("../../../steer-agent/tests/golden/lab-errors.txt");
/// A Monday; windows and clocks are in the text.
const NOW: &str = "2026-11-02 12:00";
const JOURNAL: &str = "/var/lib/steer/journal-eth0";

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let mut said = Transcript::default();

    command("date", &["--utc", "--set", NOW])?;
    fs::write("/tmp/night.toml", "[run]\nmaintenance_window = [\"Sat 03:00-04:00\"]\n")?;
    said.steer(guest, "apply eth0 --config /tmp/night.toml")?;
    said.steer(guest, "report eth0 --live 1s --apply -o -")?;
    places(guest, &mut said)?;
    guest.expect_state("after what was refused", &original)?;

    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    wait_for("the daemon's first write", PATIENCE, || {
        Ok(!original.difference(&State::read(NIC)?).is_empty())
    })?;
    for line in ["run eth0", "apply eth0", "restore eth0", "release eth0"] {
        said.steer(guest, line)?;
    }
    daemon.kill()?;
    for line in ["restore", "release"] {
        said.steer(guest, line)?;
    }
    let journal = fs::read(JOURNAL).context("the killed daemon left a journal")?;
    fs::write(JOURNAL, &journal[..journal.len() / 2])?;
    for line in ["restore eth0", "run eth0"] {
        said.steer(guest, line)?;
    }
    fs::write(JOURNAL, &journal)?;
    // Somebody else's table.
    command("ethtool", &["-X", NIC, "equal", "2"])?;
    said.steer(guest, "run eth0")?;
    guest.steer_expecting(exit::DONE, &["restore", NIC, "--force"])?;
    guest.expect_state("after restore", &original)?;
    guest.expect_nothing_lost(load)?;

    said.while_the_nic_vanishes(guest, "report eth0 --live 10s --every 10s -o -")?;
    said.compare(guest)
}

/// Where a daemon answers, and whom.
fn places(guest: &Guest, said: &mut Transcript) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:9750")?;
    said.steer(guest, "run eth0 --metrics 127.0.0.1:9750")?;
    drop(taken);
    fs::create_dir("/tmp/open")?;
    fs::set_permissions("/tmp/open", fs::Permissions::from_mode(0o777))?;
    for line in [
        "run eth0 --runtime-dir /tmp/open",
        "run eth0 --runtime-dir /proc/steer",
        "run eth0 --connect /nosuch",
        "run eth0 --connect pid:0",
    ] {
        said.steer(guest, line)?;
    }
    let ports = "/proc/sys/net/ipv4/ip_local_port_range";
    said.0 += &format!("(with an empty {ports})\n");
    command("mount", &["--bind", "/dev/null", ports])?;
    said.steer(guest, "run eth0 --connect /proxy")?;
    command("umount", &[ports])?;
    fs::write("/tmp/group.toml", "[run]\ngroup = \"games\"\n")?;
    said.0 += "(without CAP_CHOWN)\n";
    let line = "run eth0 --config /tmp/group.toml";
    let mut without = Command::new("setpriv");
    without.args(["--bounding-set=-chown", "--"]).arg(&guest.steer).args(line.split_whitespace());
    said.add(line, &finish(&mut without)?);
    Ok(())
}

/// Lines typed, and what was answered.
#[derive(Default)]
struct Transcript(String);

impl Transcript {
    fn steer(&mut self, guest: &Guest, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let finished = finish(Command::new(&guest.steer).args(words))?;
        self.add(line, &finished);
        Ok(())
    }

    /// Its driver lets go of the NIC once observation has begun.
    fn while_the_nic_vanishes(&mut self, guest: &Guest, line: &str) -> Result<()> {
        let mut child = Command::new(&guest.steer)
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let first = lines.next().context("it ended without a word")??;
        let device = fs::canonicalize(format!("/sys/class/net/{NIC}/device"))?;
        let name = device.file_name().context("a device has a name")?.to_string_lossy();
        write(&device.join("driver/unbind").to_string_lossy(), &name)?;
        let rest = lines.collect::<Result<Vec<_>, _>>()?;
        let code = child.wait()?.code().context("a signal ended it")?;
        let stderr = [first].into_iter().chain(rest).collect::<Vec<_>>().join("\n");
        self.0 += "(the driver lets go of eth0)\n";
        self.add(line, &Finished { code, stdout: String::new(), stderr });
        Ok(())
    }

    fn add(&mut self, line: &str, finished: &Finished) {
        let stderr = without_numbers(finished.stderr.trim());
        self.0 += &format!("# steer {line}\n{stderr}\n[{}]\n", finished.code);
    }

    /// Shows what was said where that is not in the golden file, to be put there if it is as it should be.
    fn compare(&self, guest: &Guest) -> Result<()> {
        if self.0 != GOLDEN {
            guest.say(&self.0);
            bail!("the answers are not as in tests/golden/lab-errors.txt, see above");
        }
        guest.say("ok: every answer is as in tests/golden/lab-errors.txt");
        Ok(())
    }
}

/// Without the numbers that are others each time: of processes, and of buckets that a plan had moved.
fn without_numbers(text: &str) -> String {
    let mut words = text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for at in 1..words.len() {
        if words[at - 1] == "process" {
            let rest = words[at].trim_start_matches(|letter: char| letter.is_ascii_digit());
            words[at] = format!("PID{rest}");
        }
        if words[at].starts_with("buckets") && at >= 3 {
            "SOME".clone_into(&mut words[at - 3]);
        }
    }
    let daemon = |word: String| match word.split_once("/daemon-") {
        Some((place, _)) => format!("{place}/daemon-PID.sock"),
        None => word,
    };
    words.into_iter().map(daemon).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::without_numbers;

    #[test]
    fn numbers_that_change_are_left_out() {
        let text = "steered by process 12; 69 of 128 buckets; give /run/daemon-7.sock to 60";
        let expected =
            "steered by process PID; SOME of 128 buckets; give /run/daemon-PID.sock to 60";
        assert_eq!(without_numbers(text), expected);
    }
}
