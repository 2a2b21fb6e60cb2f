//! A running daemon answers on a Unix socket in the runtime directory: one line in, one document
//! out. Only readers are served; nothing can be changed through it. Here is what both ends share,
//! and the asking end; the answering one is `run::serve`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::Status;

/// Longest request.
pub const MOST_REQUEST_BYTES: usize = 4096;
/// Longest answer that is believed.
const MOST_ANSWER_BYTES: usize = 64 << 20;
/// A daemon that says nothing for so long is left alone. Its first window takes its period, which is
/// at most this long.
pub const PATIENCE: Duration = Duration::from_mins(1);

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

impl Request {
    /// Reads the line of a client, or says why it is none.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| format!("unknown request: {error}"))
    }
}

/// The answer to what is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why not.
    pub error: String,
}

/// The socket of process `pid`.
#[must_use]
pub fn path_of(runtime_dir: &Path, pid: u32) -> PathBuf {
    runtime_dir.join(format!("daemon-{pid}.sock"))
}

/// Asks every running daemon. None running is an empty list; one that may not be asked is an error
/// of the kind `PermissionDenied`.
pub async fn ask(runtime_dir: &Path, request: Request) -> io::Result<Vec<Status>> {
    let mut documents = Vec::new();
    for path in sockets(runtime_dir)? {
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(_) => continue,
        };
        if let Ok(document) = tokio::time::timeout(PATIENCE, exchange(stream, request)).await {
            documents.push(document?);
        }
    }
    Ok(documents)
}

async fn exchange(mut stream: UnixStream, request: Request) -> io::Result<Status> {
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    // A daemon that turns everybody away does so before it is asked: its answer is what counts.
    let asked = stream.write_all(&line).await;
    let mut bytes = BytesMut::new();
    while bytes.len() < MOST_ANSWER_BYTES {
        match stream.read_buf(&mut bytes).await {
            Ok(0) => break,
            Ok(_) => {}
            // It closed with our request unread; what it wrote before stands.
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    match parse_answer(&bytes) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        answer => asked.and(answer),
    }
}

/// Reads what a daemon said: a status, or a refusal, which is an error of the kind `PermissionDenied`.
pub fn parse_answer(bytes: &[u8]) -> io::Result<Status> {
    if let Ok(Refusal { error }) = serde_json::from_slice(bytes) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// The sockets in the runtime directory, of daemons that live and that are dead.
pub fn sockets(runtime_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(runtime_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            name.starts_with("daemon-") && path.extension().is_some_and(|end| end == "sock")
        })
        .collect();
    paths.sort();
    Ok(paths)
}
