//! The writing end.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::{Header, Record};

/// Writes a recording. Dropping it leaves a file that reads as cut off; [`Writer::finish`] ends it.
#[derive(Debug)]
pub struct Writer<W: Write> {
    gzip: GzEncoder<W>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    pub fn begin(to: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self { gzip: GzEncoder::new(to, Compression::fast()) };
        writer.line(header)?;
        Ok(writer)
    }

    /// Adds a record, which is in the file when this returns.
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        self.line(record)
    }

    /// Ends the recording.
    pub fn finish(self) -> io::Result<W> {
        self.gzip.finish()
    }

    #[cfg(test)]
    pub(super) fn written(&self) -> usize
    where
        W: AsRef<[u8]>,
    {
        self.gzip.get_ref().as_ref().len()
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.gzip.write_all(&line)?;
        // A flush ends a deflate block at a whole byte: what is there can be read without what is not.
        self.gzip.flush()
    }
}
