//! Programs that listen: which load balancer it is, and how it is set as far as its own files say.
//!
//! Pure: what was read in, what it means out. A setting that is not in the files is the program's
//! default; files that could not be read are an absent value.

use serde::{Deserialize, Serialize};

use super::CpuSet;
use super::listener::Endpoint;

/// A load balancer or runtime that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// HAProxy: one process, a thread for each CPU.
    Haproxy,
    /// nginx, Angie, freenginx: a master and worker processes.
    Nginx,
    /// Envoy: one process, worker threads named `wrk:worker_N`.
    Envoy,
    /// Apache Traffic Server: one process, threads named `[ET_NET N]`.
    TrafficServer,
    /// Anything by the Go compiler: Traefik, Caddy, CoreDNS.
    Go,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::TrafficServer => "Apache Traffic Server",
            Self::Go => "a Go program",
        }
    }

    /// Which one a process is, by its program's file name, its title, and whether the Go linker made
    /// it (the note that it leaves in the first page, cmd/link `.note.go.buildid`).
    #[must_use]
    pub fn recognise(program: &str, title: &str, is_go: bool) -> Option<Self> {
        // `nginx (deleted)` is one whose package was upgraded under it.
        let program = program.split_whitespace().next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        match program {
            "haproxy" => Some(Self::Haproxy),
            "nginx" | "angie" | "freenginx" | "openresty" => Some(Self::Nginx),
            "envoy" | "envoy-static" => Some(Self::Envoy),
            "traffic_server" => Some(Self::TrafficServer),
            _ if title.starts_with("nginx: ") || title.starts_with("angie: ") => Some(Self::Nginx),
            _ if is_go => Some(Self::Go),
            _ => None,
        }
    }
}

/// A thread that may serve connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Where it may run; `None` where it was gone when asked.
    pub mask: Option<CpuSet>,
}

/// A program and one endpoint that it listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What it is.
    pub kind: Kind,
    /// Its main process.
    pub pid: u32,
    /// What it listens on.
    pub endpoint: Endpoint,
    /// Sockets that it has there.
    pub sockets: usize,
    /// Who serves them.
    pub workers: Vec<Worker>,
    /// Its settings, where they could be read.
    pub settings: Option<Settings>,
}

/// Settings: each line's words, without comments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The lines.
    pub lines: Vec<Vec<String>>,
}

impl Settings {
    /// From files as HAProxy and nginx have them: words, `#` for comments, and nginx's `;` and `{`,
    /// which end a line.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut lines = Vec::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            for part in line.split([';', '{', '}']) {
                let words: Vec<String> = part.split_whitespace().map(str::to_owned).collect();
                if !words.is_empty() {
                    lines.push(words);
                }
            }
        }
        Self { lines }
    }

    /// The value of the last line that begins with `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let last =
            self.lines.iter().rev().find(|line| line.first().is_some_and(|word| word == name));
        Some(last?.get(1).map_or("", String::as_str))
    }

    /// Whether some line is or begins with `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }
}

impl Service {
    /// Workers that may run on more than one CPU.
    #[must_use]
    pub fn unpinned(&self) -> usize {
        self.workers
            .iter()
            .filter(|worker| worker.mask.as_ref().is_some_and(|mask| mask.len() > 1))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_what_they_are() {
        let of = |program: &str, title: &str| Kind::recognise(program, title, false);
        assert_eq!(of("/usr/sbin/haproxy", "/usr/sbin/haproxy -Ws"), Some(Kind::Haproxy));
        assert_eq!(of("/usr/sbin/nginx (deleted)", "nginx: worker process"), Some(Kind::Nginx));
        assert_eq!(of("/opt/own-build", "nginx: master process ./own-build"), Some(Kind::Nginx));
        assert_eq!(of("/usr/local/bin/envoy", "envoy -c /etc/envoy.yaml"), Some(Kind::Envoy));
        assert_eq!(of("/opt/ts/bin/traffic_server", ""), Some(Kind::TrafficServer));
        // Not by what it calls itself.
        assert_eq!(of("/usr/bin/python3", "haproxy"), None);
        assert_eq!(Kind::recognise("/usr/bin/caddy", "caddy run", true), Some(Kind::Go));
    }

    #[test]
    fn settings_are_words_without_comments() {
        let haproxy = Settings::parse(
            "global\n  tune.listener.multi-queue off # why\n  #noreuseport\nfrontend f\n bind :80",
        );
        assert_eq!(haproxy.value("tune.listener.multi-queue"), Some("off"));
        assert!(!haproxy.has("noreuseport"));
        let nginx = Settings::parse("events { worker_connections 64; }\nworker_cpu_affinity auto;");
        assert_eq!(nginx.value("worker_connections"), Some("64"));
        assert_eq!(nginx.value("worker_cpu_affinity"), Some("auto"));
        assert_eq!(nginx.value("worker_processes"), None);
    }
}
