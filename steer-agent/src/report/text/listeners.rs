//! The listeners of accept steering, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::accept::{ListenerReport, WorkerReport};
use super::super::number::{count, percent};

/// Nothing where there are none.
pub(super) fn text(listeners: &[ListenerReport]) -> String {
    let mut text = String::new();
    for listener in listeners {
        let how = listener.mechanism.map_or("left to the kernel", |mechanism| mechanism.name());
        let _ = writeln!(
            text,
            "\naccept {}  {how}  {} sockets on CPUs {}",
            listener.listen,
            listener.sockets,
            if listener.cpus.is_empty() { "-".to_owned() } else { listener.cpus.to_string() }
        );
        if let Some(reason) = &listener.reason {
            let _ = writeln!(text, "  {reason}");
        }
        let _ = writeln!(
            text,
            "  arrived    {} of {} connections/s are consumed on the CPU where they arrived; \
             achievable {}, by hash {}",
            percent(listener.aligned),
            count(listener.connections_per_s),
            percent(listener.achievable),
            percent(listener.achievable_by_hash)
        );
        if let Some(skew) = listener.skew {
            let _ =
                writeln!(text, "  skew       the busiest CPU has {skew:.2} times its even share");
        }
        let outcomes = &listener.outcomes;
        let parts = [
            ("given to the worker of their CPU", outcomes.steered),
            ("tried to learn where a worker lives", outcomes.tried),
            ("left to the hash: the worker has its share", outcomes.over_share),
            ("no worker on their CPU", outcomes.nobody_here),
            ("socket just closed", outcomes.missed),
            ("listeners just changed", outcomes.suspended),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, number)| *number > 0)
            .map(|(what, number)| format!("{number} {what}"))
            .collect();
        if !parts.is_empty() {
            let _ = writeln!(text, "  steered    {}", parts.join(", "));
        }
        text += &workers(&listener.workers);
    }
    text
}

/// Workers that live alike in one line: a busy proxy has dozens.
fn workers(workers: &[WorkerReport]) -> String {
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    for worker in workers {
        let text = match &worker.reason {
            Some(reason) => format!("{}: given none: {reason}", worker.comm),
            None => format!("{}: {}", worker.comm, worker.life),
        };
        *alike.entry(text).or_default() += 1;
    }
    let mut text = String::new();
    for (what, number) in alike {
        let times = if number > 1 { format!(" ({number} sockets)") } else { String::new() };
        let _ = writeln!(text, "  worker     {what}{times}");
    }
    text
}
