//! A running daemon answers on a Unix socket in the runtime directory: one line in, one document
//! out. Only readers are served; nothing can be changed through it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::Status;

/// Longest request.
const MOST_REQUEST_BYTES: usize = 4096;
/// Longest answer that is believed.
const MOST_ANSWER_BYTES: usize = 64 << 20;
/// A peer that says nothing for so long is left alone. A daemon's first window takes its period,
/// which is at most this long.
const PATIENCE: Duration = Duration::from_mins(1);

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Request {
    /// The status of all NICs of this daemon.
    Status {
        /// With the list of all flows.
        #[serde(default)]
        flows: bool,
    },
}

/// The socket of process `pid`.
#[must_use]
pub fn path_of(runtime_dir: &Path, pid: u32) -> PathBuf {
    runtime_dir.join(format!("daemon-{pid}.sock"))
}

/// A bound socket whose file goes with it.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds the socket of this process, after clearing away those of dead ones.
    pub fn bind(runtime_dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(runtime_dir)?;
        for path in sockets(runtime_dir) {
            let dead = std::os::unix::net::UnixStream::connect(&path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if dead {
                std::fs::remove_file(&path)?;
            }
        }
        let path = path_of(runtime_dir, std::process::id());
        let listener = UnixListener::bind(&path)?;
        Ok(Self { listener, path })
    }

    /// Answers until dropped. `status` holds the latest document, with flows.
    pub async fn serve(&self, status: watch::Receiver<Option<Arc<Status>>>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let answer = answer(stream, status.clone());
                    // One slow reader must not keep the others waiting.
                    tokio::spawn(async move {
                        if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, answer).await {
                            log::debug!("a status reader went away: {error}");
                        }
                    });
                }
                Err(error) => {
                    log::warn!("cannot answer on the status socket: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Left behind it would be cleared away by the next daemon.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(
    mut stream: UnixStream,
    mut status: watch::Receiver<Option<Arc<Status>>>,
) -> io::Result<()> {
    let mut request = BytesMut::new();
    while !request.contains(&b'\n') {
        if request.len() > MOST_REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let Ok(Request::Status { flows }) = serde_json::from_slice(&request) else {
        return stream.write_all(b"{\"error\":\"unknown request\"}\n").await;
    };
    // The first window of a daemon that has just started is not over yet: wait for it. The borrow
    // of the document must end before the next await.
    let document = {
        let current = status.wait_for(Option::is_some).await;
        current.ok().and_then(|current| current.as_deref().cloned())
    };
    let Some(mut document) = document else { return Ok(()) };
    if !flows {
        for nic in &mut document.nics {
            nic.flows = None;
        }
    }
    let mut bytes = serde_json::to_vec(&document)?;
    bytes.push(b'\n');
    stream.write_all(&bytes).await
}

/// Asks every running daemon. None running is an empty list.
pub async fn ask(runtime_dir: &Path, request: Request) -> io::Result<Vec<Status>> {
    let mut documents = Vec::new();
    for path in sockets(runtime_dir) {
        let mut stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(_) => continue,
        };
        let exchange = async {
            let mut line = serde_json::to_vec(&request)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
            let mut bytes = BytesMut::new();
            while bytes.len() < MOST_ANSWER_BYTES && stream.read_buf(&mut bytes).await? > 0 {}
            Ok::<Status, io::Error>(serde_json::from_slice(&bytes)?)
        };
        if let Ok(document) = tokio::time::timeout(PATIENCE, exchange).await {
            documents.push(document?);
        }
    }
    Ok(documents)
}

fn sockets(runtime_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(runtime_dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            name.starts_with("daemon-") && path.extension().is_some_and(|end| end == "sock")
        })
        .collect();
    paths.sort();
    paths
}
