use std::cell::RefCell;
use std::collections::BTreeMap;

use rustix::io::Errno;

use super::*;

/// Sockets by cookie, with their option; a write to a socket in `stuck` fails.
#[derive(Default)]
struct FakeSockets {
    options: RefCell<BTreeMap<u64, Option<CpuId>>>,
    stuck: RefCell<Vec<u64>>,
    detached: RefCell<Vec<u64>>,
}

impl FakeSockets {
    fn new(cookies: &[u64]) -> Self {
        let options = cookies.iter().map(|cookie| (*cookie, None)).collect();
        Self { options: RefCell::new(options), ..Self::default() }
    }

    fn option(&self, cookie: u64) -> Option<CpuId> {
        self.options.borrow()[&cookie]
    }

    fn set(&self, cookie: u64, cpu: Option<CpuId>) {
        self.options.borrow_mut().insert(cookie, cpu);
    }
}

impl Sockets for FakeSockets {
    fn netns(&self) -> u64 {
        7
    }

    fn listening(&self) -> Result<Vec<ListeningSocket>, SysError> {
        Ok(self.options.borrow().keys().map(|cookie| socket(*cookie)).collect())
    }

    fn holders(&self, socket: &ListeningSocket) -> Vec<Holder> {
        holders(socket.cookie)
    }

    fn incoming_cpu(&self, _: &Holder, cookie: u64) -> Result<Option<u32>, SysError> {
        let options = self.options.borrow();
        let gone = SysError::new("pidfd_getfd", "test", Errno::BADF);
        options.get(&cookie).copied().ok_or(gone)
    }

    fn set_incoming_cpu(&self, _: &Holder, cookie: u64, cpu: Option<u32>) -> Result<(), SysError> {
        if self.stuck.borrow().contains(&cookie) {
            return Err(SysError::new("pidfd_getfd", "test", Errno::PERM));
        }
        self.set(cookie, cpu);
        Ok(())
    }

    fn detach_program(&self, _: &Holder, cookie: u64) -> Result<(), SysError> {
        self.detached.borrow_mut().push(cookie);
        Ok(())
    }
}

fn socket(cookie: u64) -> ListeningSocket {
    let address = "10.0.0.1".parse().expect("an address");
    let endpoint = Endpoint { port: 80, address, v6_only: None, device: 0 };
    ListeningSocket { cookie, inode: cookie, endpoint, uid: 0, queued: 0 }
}

fn holders(cookie: u64) -> Vec<Holder> {
    let fd = u32::try_from(cookie).expect("small");
    vec![Holder { pid: 1, fd, comm: "test".to_owned() }]
}

fn journal(dir: &Path) -> ListenerJournal {
    ListenerJournal::open(dir, "eth0", "this boot", 7).expect("opened")
}

#[test]
fn what_was_set_is_put_back_also_by_another_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let sockets = FakeSockets::new(&[1, 2]);
    sockets.set(2, Some(9));
    let mut first = journal(dir.path());
    for (cookie, cpu) in [(1, 0), (2, 1), (1, 3)] {
        first.set(&socket(cookie), &holders(cookie), Some(cpu), &sockets).expect("set");
    }
    assert_eq!((sockets.option(1), sockets.option(2)), (Some(3), Some(1)));
    assert_eq!(first.held(1), Some(Some(3)));
    drop(first);
    assert!(ListenerJournal::exists(dir.path(), "eth0"));
    let outcome = journal(dir.path()).restore(&sockets, None, Trust::OwnOnly).expect("done");
    assert_eq!((outcome.restored, outcome.settled, outcome.open.len()), (2, 0, 0));
    assert_eq!((sockets.option(1), sockets.option(2)), (None, Some(9)), "each as it was");
    assert!(!ListenerJournal::exists(dir.path(), "eth0"));
}

#[test]
fn a_socket_that_was_closed_is_settled() {
    let dir = tempfile::tempdir().expect("a directory");
    let sockets = FakeSockets::new(&[1, 2]);
    let mut first = journal(dir.path());
    first.set(&socket(1), &holders(1), Some(0), &sockets).expect("set");
    first.set(&socket(2), &holders(2), Some(1), &sockets).expect("set");
    sockets.options.borrow_mut().remove(&1);
    let error = first.set(&socket(1), &holders(1), Some(2), &sockets).expect_err("closed");
    assert!(matches!(error, SetError::Socket(_)), "{error}");
    let outcome = first.restore(&sockets, None, Trust::OwnOnly).expect("done");
    assert_eq!((outcome.restored, outcome.settled), (1, 1));
}

#[test]
fn somebody_elses_value_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let sockets = FakeSockets::new(&[1]);
    let mut first = journal(dir.path());
    first.set(&socket(1), &holders(1), Some(0), &sockets).expect("set");
    sockets.set(1, Some(5));
    let error = first.set(&socket(1), &holders(1), Some(2), &sockets).expect_err("foreign");
    assert!(matches!(error, SetError::Foreign { found: Some(5), .. }), "{error}");
    let outcome = first.restore(&sockets, None, Trust::OwnOnly).expect("done");
    assert_eq!(outcome.open.len(), 1);
    assert_eq!(sockets.option(1), Some(5));
    let outcome = journal(dir.path()).restore(&sockets, None, Trust::Force).expect("done");
    assert_eq!((outcome.restored, sockets.option(1)), (1, None));
}

#[test]
fn what_cannot_be_put_back_stays_noted_and_the_rest_is_put_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let sockets = FakeSockets::new(&[1, 2]);
    let mut first = journal(dir.path());
    first.set(&socket(1), &holders(1), Some(0), &sockets).expect("set");
    first.set(&socket(2), &holders(2), Some(1), &sockets).expect("set");
    sockets.stuck.borrow_mut().push(1);
    let outcome = first.restore(&sockets, None, Trust::OwnOnly).expect("done");
    assert_eq!((outcome.restored, outcome.open.len()), (1, 1));
    sockets.stuck.borrow_mut().clear();
    let outcome = journal(dir.path()).restore(&sockets, None, Trust::OwnOnly).expect("done");
    assert_eq!((outcome.restored, sockets.option(1)), (1, None));
}

#[test]
fn nothing_is_written_that_could_not_be_noted() {
    let sockets = FakeSockets::new(&[1]);
    // A file where the directory should be.
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().join("accept-eth0");
    let record = Record {
        format: FORMAT,
        boot_id: String::new(),
        netns: 7,
        entries: Vec::new(),
        programs: Vec::new(),
    };
    let mut broken = ListenerJournal { path, record };
    let error = broken.set(&socket(1), &holders(1), Some(0), &sockets).expect_err("no place");
    assert!(matches!(error, SetError::Journal(_)), "{error}");
    assert_eq!(sockets.option(1), None);
}

#[test]
fn a_program_is_taken_out_only_where_it_is_steers() {
    let dir = tempfile::tempdir().expect("a directory");
    let sockets = FakeSockets::new(&[1, 2]);
    let note = || {
        journal(dir.path()).note_program(&socket(1).endpoint, 70).expect("noted");
        journal(dir.path())
    };
    let restore = |programs: Option<&[(u64, u32)]>, trust| {
        let programs = programs.map(|programs| programs.iter().copied().collect());
        note().restore(&sockets, programs.as_ref(), trust).expect("done")
    };
    // Somebody else's, or none: what steer put in is gone.
    let outcome = restore(Some(&[(1, 71), (2, 71)]), Trust::OwnOnly);
    assert_eq!((outcome.programs, outcome.settled), (0, 1));
    assert_eq!(restore(Some(&[]), Trust::OwnOnly).settled, 1);
    // Not to be told: left, and noted still.
    let outcome = restore(None, Trust::OwnOnly);
    assert_eq!((outcome.programs, outcome.open.len()), (0, 1));
    assert_eq!(journal(dir.path()).programs().collect::<Vec<_>>(), [70]);
    assert!(sockets.detached.borrow().is_empty());
    assert_eq!(restore(None, Trust::Force).programs, 1);
    // One socket's group is all sockets' group.
    assert_eq!(restore(Some(&[(1, 70), (2, 70)]), Trust::OwnOnly).programs, 1);
    assert_eq!(*sockets.detached.borrow(), [1, 1]);
    assert!(!ListenerJournal::exists(dir.path(), "eth0"));
}

#[test]
fn a_journal_of_another_boot_is_of_no_use() {
    let dir = tempfile::tempdir().expect("a directory");
    let sockets = FakeSockets::new(&[1]);
    journal(dir.path()).set(&socket(1), &holders(1), Some(0), &sockets).expect("set");
    let later = ListenerJournal::open(dir.path(), "eth0", "next boot", 7).expect("opened");
    assert!(later.is_empty());
}
