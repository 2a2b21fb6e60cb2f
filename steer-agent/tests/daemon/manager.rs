//! What a service manager is told, on a socket such as systemd's.

use std::cell::Cell;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use steer_agent::run::{Ended, run};
use steer_agent::sys::Machine;

use crate::support::{conduct, in_namespace_with, options, signal};

const TEST: &str = "manager::a_manager_is_told_what_becomes_of_the_daemon";

#[test]
fn a_manager_is_told_what_becomes_of_the_daemon() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("notify");
    let socket = socket.to_str().expect("text");
    // A watchdog of 60 s, where a period of 20 s takes 80.
    let variables = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "60000000")];
    in_namespace_with(TEST, &variables, || {
        let socket = std::env::var("NOTIFY_SOCKET").expect("given");
        let manager = UnixDatagram::bind(socket).expect("bound");
        manager.set_read_timeout(Some(Duration::from_mins(1))).expect("set");
        let listener = std::thread::spawn(move || {
            let hear = || {
                let mut bytes = [0; 1024];
                let length = manager.recv(&mut bytes).expect("something is said");
                String::from_utf8_lossy(&bytes[..length]).into_owned()
            };
            let mut heard = vec![hear(), hear(), hear(), hear()];
            // v0 is not steered, so it is only named; then a sign of life each period and nothing else.
            assert_eq!(heard.pop().as_deref(), Some("STATUS=v0 observing, nothing is consumed\n"));
            assert_eq!(heard, ["WATCHDOG_USEC=60000000\n", "READY=1\n", "WATCHDOG=1\n"]);
            assert_eq!(hear(), "WATCHDOG=1\n");
            signal(Signal::HUP);
            let mut next = hear();
            while next == "WATCHDOG=1\n" {
                next = hear();
            }
            let (word, when) = next.split_once('\n').expect("two lines");
            assert_eq!(word, "RELOADING=1");
            let when = when.trim().strip_prefix("MONOTONIC_USEC=").expect("when");
            assert!(when.parse::<u64>().is_ok(), "{when}");
            assert_eq!([hear(), hear()], ["WATCHDOG_USEC=80000000\n", "READY=1\n"]);
            signal(Signal::TERM);
            assert_eq!(hear(), "STOPPING=1\n");
        });
        let dir = tempfile::tempdir().expect("a directory");
        let machine = Machine::open().expect("sockets");
        let reloads = Cell::new(0);
        let reload = || {
            reloads.set(reloads.get() + 1);
            Some(conduct(Duration::from_secs(20)))
        };
        let say = |line: &str| println!("{line}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("built");
        let ended = runtime.block_on(run(options(dir.path(), &machine), &machine, &say, &reload));
        assert_eq!(ended.expect("ended"), Ended::AsAsked);
        listener.join().expect("the manager heard what it was to hear");
        assert_eq!(reloads.get(), 1);
    });
}
