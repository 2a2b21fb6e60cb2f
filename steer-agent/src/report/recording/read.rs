//! The reading end, for files that anybody may have made: every one gives records or an error, in
//! bounded memory and time.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use serde::Deserialize;

use super::check::check;
use super::{Header, Record};

/// The first two bytes of gzip.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How much is read before a file is called hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one line: 100,000 flows take about 40 MB.
    pub line_bytes: usize,
    /// Bytes of all lines, decompressed.
    pub total_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes: 256 << 20, total_bytes: 32 << 30 }
    }
}

/// Why a file is no recording, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read at all.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is not a recording of `steer record`: {0}")]
    Other(&'static str),
    /// It is of a later steer.
    #[error(
        "it is in format {found}, written by steer {version}, and this steer reads formats up to {}: \
         take that steer or a later one",
        Header::FORMAT
    )]
    Newer {
        /// Its format.
        found: u32,
        /// The version that wrote it.
        version: String,
    },
    /// A line is not what it should be.
    #[error("line {line}: {what}")]
    Line {
        /// Which line, from 1 on.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads a recording record by record.
pub struct Reader<R: Read> {
    lines: BufReader<GzDecoder<BufReader<R>>>,
    limits: Limits,
    header: Header,
    /// Lines read.
    line: u64,
    bytes: u64,
    /// When the last sample was read, on its own clock.
    last_ns: Option<u64>,
    was_cut: bool,
}

impl<R: Read> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("line", &self.line).finish_non_exhaustive()
    }
}

/// Enough to tell what a later format is.
#[derive(Deserialize)]
struct AnyHeader {
    steer_recording: u32,
    #[serde(default)]
    version: String,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn open(from: R, limits: Limits) -> Result<Self, ReadError> {
        let mut file = BufReader::new(from);
        if !file.fill_buf()?.starts_with(&MAGIC) {
            return Err(ReadError::Other("it is not compressed by gzip"));
        }
        let mut lines = BufReader::new(GzDecoder::new(file));
        let mut line = Vec::new();
        let nothing = "it has no header";
        match read_line(&mut lines, &mut line, limits.line_bytes) {
            Ok(Line::Whole) => {}
            Ok(Line::End | Line::Cut) => return Err(ReadError::Other(nothing)),
            Ok(Line::TooLong) => return Err(ReadError::Other("its first line has no end")),
            Err(_) => return Err(ReadError::Other("it is damaged from the beginning")),
        }
        let any: AnyHeader =
            serde_json::from_slice(&line).map_err(|_| ReadError::Other(nothing))?;
        if any.steer_recording > Header::FORMAT {
            let version = any.version.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(ReadError::Newer { found: any.steer_recording, version });
        }
        let header = serde_json::from_slice(&line)
            .map_err(|error| ReadError::Line { line: 1, what: format!("header: {error}") })?;
        let bytes = line.len() as u64;
        Ok(Self { lines, limits, header, line: 1, bytes, last_ns: None, was_cut: false })
    }

    /// What it begins with.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the file ends in the middle: all that was returned is good, and more was written once.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// The next record; `None` at the end.
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        let mut line = Vec::new();
        self.line += 1;
        let fail = |line, what: String| Err(ReadError::Line { line, what });
        match read_line(&mut self.lines, &mut line, self.limits.line_bytes) {
            Ok(Line::Whole) => {}
            Ok(Line::End) => return Ok(None),
            Ok(Line::Cut) => {
                self.was_cut = true;
                return Ok(None);
            }
            Ok(Line::TooLong) => {
                return fail(self.line, format!("longer than {} bytes", self.limits.line_bytes));
            }
            Err(error) => return fail(self.line, format!("damaged: {error}")),
        }
        self.bytes = self.bytes.saturating_add(line.len() as u64);
        if self.bytes > self.limits.total_bytes {
            let what = format!("more than {} bytes by here", self.limits.total_bytes);
            return fail(self.line, what);
        }
        let record: Record = match serde_json::from_slice(&line) {
            Ok(record) => record,
            Err(error) => return fail(self.line, error.to_string()),
        };
        if let Record::Sample(sample) = &record {
            if let Err(what) = check(sample, self.last_ns) {
                return fail(self.line, what);
            }
            self.last_ns = Some(sample.at_ns);
        }
        Ok(Some(record))
    }
}

enum Line {
    Whole,
    End,
    Cut,
    TooLong,
}

/// Reads up to and without the next line end.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>, most: usize) -> io::Result<Line> {
    loop {
        let there = match from.fill_buf() {
            Ok([]) if line.is_empty() => return Ok(Line::End),
            Ok([]) => return Ok(Line::Cut),
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Line::Cut),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = there.iter().position(|byte| *byte == b'\n');
        let piece = there.get(..end.unwrap_or(there.len())).unwrap_or_default();
        if line.len() + piece.len() > most {
            return Ok(Line::TooLong);
        }
        line.extend_from_slice(piece);
        let used = piece.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            return Ok(Line::Whole);
        }
    }
}
