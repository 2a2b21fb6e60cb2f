//! The daemon's metrics: asked for over HTTP, written into a file, or both.
//!
//! As the status socket, it shares one thread with the control loop: a page is put into words once
//! however often it is asked for, a client has a time to ask and take it, and there are only so many.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::model::Sample;
use crate::observe::{Watch, kernel};
use crate::report::metrics::{OwnCost, Snapshot, classic};
use crate::report::{Status, textfile};
use crate::sys::own;

/// Most connections at once; Prometheus needs one.
const CLIENTS: usize = 8;
/// Time for asking and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The file is written no more often: `node_exporter` is asked every 15 seconds as a rule.
const FILE_EVERY: Duration = Duration::from_secs(5);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Who gets metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Whoever connects to this address.
    pub listen: Option<SocketAddr>,
    /// Whoever reads this file.
    pub textfile: Option<PathBuf>,
    /// Have the kernel measure BPF programs.
    pub bpf_run_time: bool,
}

/// One window, to be put into words when first asked for.
#[derive(Debug)]
struct Page {
    snapshot: Snapshot,
    openmetrics: OnceLock<Bytes>,
    classic: OnceLock<Bytes>,
}

impl Page {
    fn openmetrics(&self) -> Bytes {
        self.openmetrics.get_or_init(|| Bytes::from(self.snapshot.clone().openmetrics())).clone()
    }

    fn classic(&self) -> Bytes {
        let text = || Bytes::from(classic(&String::from_utf8_lossy(&self.openmetrics())));
        self.classic.get_or_init(text).clone()
    }
}

/// The latest page, once there is one.
type Published = watch::Receiver<Option<Arc<Page>>>;

/// Takes note of every window.
#[derive(Debug)]
pub struct Metrics {
    audience: Audience,
    latest: watch::Sender<Option<Arc<Page>>>,
    own: OwnCost,
    written: Option<Instant>,
    /// Why the file could not be written, as far as that was said already.
    said: Option<String>,
    /// While it is open the kernel measures.
    _measuring: Option<OwnedFd>,
}

/// The end that answers.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    published: Published,
}

impl Metrics {
    /// Binds the address and has the kernel measure, which may take rights that are given up later.
    pub fn open(audience: Audience) -> anyhow::Result<(Self, Option<Server>)> {
        let (latest, published) = watch::channel(None);
        let server = match audience.listen {
            Some(address) => Some(Server { listener: bind(address)?, published }),
            None => None,
        };
        let measuring = if audience.bpf_run_time { Some(kernel::measure()?) } else { None };
        let own = OwnCost::default();
        let metrics =
            Self { audience, latest, own, written: None, said: None, _measuring: measuring };
        Ok((metrics, server))
    }

    /// Takes note of a window.
    pub fn publish(
        &mut self,
        status: &Status,
        sample: &Sample,
        watch: &Watch<'_>,
        say: &dyn Fn(&str),
    ) {
        let pace = status.pace.unwrap_or_default();
        self.own.ticks = pace.windows;
        self.own.ticks_missed = pace.missed;
        self.own.last_tick_s = pace.tick_us as f64 / 1e6;
        self.own.ticks_s += self.own.last_tick_s;
        if self.audience.listen.is_none() && self.audience.textfile.is_none() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.own.at_unix_s = now.as_secs_f64();
        let used = own::usage();
        self.own.cpu_s = used.map(|used| used.cpu_s);
        self.own.resident_bytes = used.map(|used| used.resident_bytes);
        if self.audience.bpf_run_time {
            self.own.programs = watch.run_times();
        }
        let snapshot = Snapshot::new(status, sample, self.own.clone());
        let window = Page { snapshot, openmetrics: OnceLock::new(), classic: OnceLock::new() };
        self.write_file(&window, say);
        self.latest.send_replace(Some(Arc::new(window)));
    }

    fn write_file(&mut self, window: &Page, say: &dyn Fn(&str)) {
        let Some(path) = &self.audience.textfile else { return };
        if self.written.is_some_and(|at| at.elapsed() < FILE_EVERY) {
            return;
        }
        self.written = Some(Instant::now());
        let why = textfile::replace(path, &window.classic())
            .err()
            .map(|error| format!("cannot write the metrics into {}: {error}", path.display()));
        if let Some(why) = why.as_ref().filter(|why| self.said.as_ref() != Some(why)) {
            say(why);
        }
        self.said = why;
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // Figures of a daemon that is gone would be taken for those of now.
        if let (Some(path), Some(_)) = (&self.audience.textfile, self.written) {
            let _ = textfile::remove(path);
        }
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = StdListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    listener.with_context(|| {
        format!(
            "cannot listen on {address} for metrics, expected a free port of an address of this host \
             (--metrics or `metrics.listen` names another)"
        )
    })
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers until dropped.
    pub async fn serve(&self) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::warn!("cannot answer who asks for metrics: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            // Whoever is one too many finds the connection closed.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let published = self.published.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let answer = answer(&request, &published);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let serving = http1::Builder::new()
                    .keep_alive(false)
                    .max_buf_size(16 << 10)
                    .serve_connection(TokioIo::new(stream), answer);
                if !matches!(timeout(PATIENCE, serving).await, Ok(Ok(()))) {
                    log::debug!("somebody who asked for metrics went away");
                }
                drop(place);
            });
        }
    }
}

/// Serves where there is somebody to serve.
pub async fn serve(server: Option<&Server>) {
    match server {
        Some(server) => server.serve().await,
        None => std::future::pending().await,
    }
}

fn answer<B>(request: &Request<B>, published: &Published) -> Response<Full<Bytes>> {
    let with = |status: StatusCode, kind: &'static str, body: Bytes| {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    let said =
        |status, text: &'static str| with(status, CLASSIC, Bytes::from_static(text.as_bytes()));
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "expected GET /metrics\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, "steer: expected GET /metrics\n");
    }
    let Some(page) = published.borrow().clone() else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "the first window is not over yet\n");
    };
    let accepts = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        with(StatusCode::OK, OPENMETRICS, page.openmetrics())
    } else {
        with(StatusCode::OK, CLASSIC, page.classic())
    }
}
