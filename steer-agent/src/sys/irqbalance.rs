//! irqbalance's socket: which interrupts it leaves alone, read and replaced.
//!
//! One command a connection, with the sender's credentials beside it; only root is answered
//! (`sock_handle`, irqbalance.c, 1.9.2 to 1.9.5). What that function makes of its callers decides
//! how it is to be treated:
//! - `setup` is answered by send(2) without `MSG_NOSIGNAL`, and SIGPIPE is not handled: whoever hangs
//!   up before the answer kills irqbalance. A [`Question`] therefore stays until it is answered.
//! - up to 1.9.2 it sleeps a whole interval after its list was changed (`sleep_approx` in `scan`) and
//!   answers nobody meanwhile. Nothing here waits unless asked to.
//! - `settings ban irqs` replaces the list. It ends at the first 0 that is not its first number, so
//!   numbers go in ascending order.
//!
//! Versions before 1.5 have another socket and are not spoken to.

use std::collections::BTreeSet;
use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, UCred, connect, recv, sendmsg, socket_with, sockopt,
};
use rustix::process::{getegid, geteuid, getpid};

use super::{Root, SysError};
use crate::model::Process;

/// `SOCKET_TMPFS`, irqbalance.h; the directory is made by its systemd unit.
const DIRECTORY: &str = "/run/irqbalance";
/// Where that cannot be written, an abstract name of nothing but zeros is bound (`init_socket`).
const ABSTRACT: [u8; 107] = [0; 107];
/// Commands of this length are refused (`sock_handle`).
const LONGEST_COMMAND: usize = 16384;
/// An interrupt takes some 60 bytes of an answer.
const LONGEST_ANSWER: usize = 1 << 20;
/// How long an answer is waited for: longer than the longest usual sleep.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a question that nobody waits for any more is held.
const COURTESY: Duration = Duration::from_secs(30);
/// How often an answer is looked for that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// How irqbalance is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Seconds between two of its rounds.
    pub interval_s: u64,
    /// Interrupts that it was told to leave alone, by arguments or over the socket.
    pub banned: BTreeSet<u32>,
}

/// A question that was asked. It is held until it is answered, for the sake of who answers.
#[derive(Debug)]
pub struct Question {
    object: String,
    socket: OwnedFd,
    answer: Vec<u8>,
    over: bool,
}

/// The process of this number, if it is there and root's: anybody can call a process `irqbalance`.
#[must_use]
pub fn process(proc: &Root, pid: u32) -> Option<Process> {
    let directory = proc.proc(pid.to_string());
    if fs::metadata(&directory).ok()?.uid() != 0 {
        return None;
    }
    let stat = procfs::process::Process::new_with_root(directory).ok()?.stat().ok()?;
    Some(Process { pid, started: stat.starttime })
}

/// Processes by whose number there is a socket. One that was killed leaves it behind.
#[must_use]
pub fn sockets() -> Vec<u32> {
    let pid = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("irqbalance")?.strip_suffix(".sock")?.parse().ok()
    };
    fs::read_dir(DIRECTORY).into_iter().flatten().flatten().filter_map(pid).collect()
}

/// Asks process `pid` how it is set.
pub fn ask(pid: u32) -> Result<Question, SysError> {
    let (object, socket) = send(pid, "setup")?;
    Ok(Question { object, socket, answer: Vec::new(), over: false })
}

/// Tells process `pid` to leave alone `irqs`, and no others. There is no answer: ask.
pub fn ban(pid: u32, irqs: &BTreeSet<u32>) -> Result<(), SysError> {
    send(pid, &command(irqs)).map(drop)
}

impl Question {
    /// The answer; `None` while there is none yet.
    pub fn poll(&mut self) -> Result<Option<Setup>, SysError> {
        loop {
            let mut bytes = [0; 4096];
            match recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.over = true;
                    return self.parsed().map(Some);
                }
                Ok((length, _)) => self.answer.extend_from_slice(&bytes[..length]),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    self.over = true;
                    return Err(SysError::new("read answer", &self.object, errno));
                }
            }
            if self.answer.len() > LONGEST_ANSWER {
                self.over = true;
                return Err(SysError::unexpected("read answer", &self.object, "it has no end"));
            }
        }
    }

    /// The answer, waited for.
    pub fn wait(&mut self, patience: Duration) -> Result<Setup, SysError> {
        let give_up = Instant::now() + patience;
        loop {
            if let Some(setup) = self.poll()? {
                return Ok(setup);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SysError::new("read answer", &self.object, Errno::TIMEDOUT));
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn parsed(&self) -> Result<Setup, SysError> {
        let text = String::from_utf8_lossy(&self.answer);
        parse(&text).ok_or_else(|| {
            let what = if text.is_empty() {
                "it hung up without an answer: only root is answered".to_owned()
            } else {
                format!("`{}` is no setup of irqbalance", text.chars().take(80).collect::<String>())
            };
            SysError::unexpected("read answer", &self.object, what)
        })
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.over {
            // What is answered now is of no interest; that it is not, of none either.
            let _ = self.wait(COURTESY);
        }
    }
}

/// Connects to process `pid` and sends one command, with this process's credentials.
fn send(pid: u32, command: &str) -> Result<(String, OwnedFd), SysError> {
    let path = format!("{DIRECTORY}/irqbalance{pid}.sock");
    let fail = |call, errno| SysError::new(call, &path, errno);
    if command.len() >= LONGEST_COMMAND {
        let what = "the list of interrupts is longer than irqbalance takes";
        return Err(SysError::unexpected("send", &path, what));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| fail("socket", errno))?;
    let by_path = SocketAddrUnix::new(path.as_str()).map_err(|errno| fail("connect", errno))?;
    let by_name = SocketAddrUnix::new_abstract_name(&ABSTRACT);
    connect(&socket, &by_path)
        .or_else(|errno| by_name.and_then(|name| connect(&socket, &name)).map_err(|_| errno))
        .map_err(|errno| fail("connect", errno))?;
    // Anybody may bind an abstract name.
    let peer =
        sockopt::socket_peercred(&socket).map_err(|errno| fail("getsockopt SO_PEERCRED", errno))?;
    if !peer.uid.is_root() {
        let what = format!("user {} listens there, not root", peer.uid.as_raw());
        return Err(SysError::unexpected("connect", &path, what));
    }
    let credentials = UCred { pid: getpid(), uid: geteuid(), gid: getegid() };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmCredentials(credentials)) {
        return Err(fail("sendmsg", Errno::NOBUFS));
    }
    let bytes = [IoSlice::new(command.as_bytes())];
    match sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL) {
        Ok(sent) if sent == command.len() => Ok((path, socket)),
        Ok(_) => Err(fail("sendmsg", Errno::MSGSIZE)),
        Err(errno) => Err(fail("sendmsg", errno)),
    }
}

/// The command that bans `irqs` and no others.
fn command(irqs: &BTreeSet<u32>) -> String {
    if irqs.is_empty() {
        return "settings ban irqs NONE".to_owned();
    }
    irqs.iter().fold("settings ban irqs".to_owned(), |text, irq| format!("{text} {irq}"))
}

/// `SLEEP 10 IRQ 24 LOAD 0 DIFF 0 CLASS 5 BANNED 00000000`, with as many IRQs as are banned
/// (`get_irq_data` and `sock_handle`, irqbalance.c).
fn parse(text: &str) -> Option<Setup> {
    let mut words = text.trim_end_matches('\0').split_ascii_whitespace();
    let mut setup = Setup::default();
    if words.next()? != "SLEEP" {
        return None;
    }
    setup.interval_s = words.next()?.parse().ok()?;
    loop {
        match words.next()? {
            "IRQ" => setup.banned.insert(words.next()?.parse().ok()?),
            "BANNED" => return Some(setup),
            _ => return None,
        };
        for name in ["LOAD", "DIFF", "CLASS"] {
            if words.next()? != name {
                return None;
            }
            words.next()?;
        }
    }
}

/// Any text as an answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn any_bytes(bytes: &[u8]) {
    let Some(setup) = parse(&String::from_utf8_lossy(bytes)) else { return };
    let irqs = setup.banned.iter().map(|irq| format!("IRQ {irq} LOAD 1 DIFF 2 CLASS 3 "));
    let text = format!("SLEEP {} {}BANNED 0", setup.interval_s, irqs.collect::<String>());
    assert_eq!(parse(&text), Some(setup));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_of_1_9_2_are_read() {
        let setup = parse("SLEEP 10 BANNED 00000000").expect("none banned");
        assert_eq!(setup, Setup { interval_s: 10, banned: BTreeSet::new() });
        let text = "SLEEP 1 IRQ 24 LOAD 0 DIFF 7 CLASS 5 IRQ 9 LOAD 3 DIFF 0 CLASS 0 BANNED 1,0";
        assert_eq!(parse(text).expect("two banned").banned, BTreeSet::from([9, 24]));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "",
            "SLEEP",
            "SLEEP x BANNED 0",
            "SLEEP 1 IRQ 24 LOAD 0 DIFF 0 CLASS 0 ",
            "SLEEP 1 IRQ -1 LOAD 0 DIFF 0 CLASS 0 BANNED 0",
            "SLEEP 1 IRQ 24 DIFF 0 CLASS 0 BANNED 0",
            "TYPE 0 NUMBER 0 LOAD 0 SAVE_MODE 0",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_list_goes_out_in_ascending_order() {
        assert_eq!(command(&BTreeSet::new()), "settings ban irqs NONE");
        assert_eq!(command(&BTreeSet::from([30, 0, 4])), "settings ban irqs 0 4 30");
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_socket() {
        // The numbers of processes end at 2^22.
        let error = ask(u32::MAX).expect_err("no such process").to_string();
        assert!(error.contains("/run/irqbalance/irqbalance4294967295.sock"), "{error}");
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(text in "\\PC{0,200}") {
            any_bytes(text.as_bytes());
        }

        #[test]
        fn any_list_is_read_back(banned in prop::collection::btree_set(any::<u32>(), 0..50)) {
            let irqs = banned.iter().fold(String::new(), |text, irq| {
                format!("{text}IRQ {irq} LOAD 1 DIFF 2 CLASS 3 ")
            });
            let setup = parse(&format!("SLEEP 10 {irqs}BANNED ff")).expect("an answer");
            prop_assert_eq!(setup.banned, banned);
        }
    }
}
