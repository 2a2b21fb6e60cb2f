//! A planning problem as a file: one JSON document in, one out.
//!
//! For bug reports, research and checks from outside. The document is taken apart here, checked
//! in full, and handed to [`solve`](super::solve); nothing here reads a file or a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::solve::{Distances, NONE, Pins, Problem, Rows, Solution};

/// The version of the format, in and out.
pub const FORMAT: u32 = 1;

/// Most cells of the cost table (buckets times CPUs) and of the distance table: 128 MiB of each.
const MOST_CELLS: usize = 1 << 24;
/// Larger numbers are mistakes, and their products would leave the range of a double.
const LARGEST: f64 = 1e18;

/// The document. Fields that it does not name are ignored, so that a file may carry notes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Number of buckets, B.
    pub buckets: usize,
    /// Number of queues, Q.
    pub queues: usize,
    /// Number of CPUs, C.
    pub cpus: usize,
    /// CPUs that may poll queues, each once.
    pub allowed_cpus: Vec<usize>,
    /// Where things are.
    pub current: Current,
    /// Share by which a CPU may exceed the average load of the usable CPUs. Needed without `cap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Load that each CPU takes without overload; else (1 + eps) times the total load over the lesser of
    /// the number of queues and that of allowed CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// Price of a unit of load above the cap.
    pub lambda_load: f64,
    /// Price of a unit of load that changes its queue.
    pub lambda_move: f64,
    /// Share of that price for load whose queue changes its CPU.
    pub kappa: f64,
    /// Most table entries that may change.
    #[serde(default)]
    pub max_table_changes: Option<usize>,
    /// Most affinities that may change.
    #[serde(default)]
    pub max_affinity_changes: Option<usize>,
    /// C rows of C: cost by softirq CPU and consumer CPU.
    pub distance: Vec<Vec<f64>>,
    /// B rows of C: consumption by bucket and CPU.
    pub consumed: Vec<Vec<f64>>,
    /// Load of each bucket.
    pub load: Vec<f64>,
}

/// The present table and affinities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// Queue of each bucket. One that is not below Q is stale: it is repaired, which counts as a
    /// change, and is done even where the limit on changes is lower.
    pub table: Vec<usize>,
    /// CPU of each queue; one that is not allowed is moved, likewise.
    pub affinity: Vec<usize>,
}

/// The plan. `distance`, `overload` and `moved` are the three terms of the objective with their
/// prices applied, so that they add up to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Queue of each bucket.
    pub table: Vec<usize>,
    /// CPU of each queue.
    pub affinity: Vec<usize>,
    /// What the plan costs.
    pub objective: f64,
    /// Consumption times distance.
    pub distance: f64,
    /// `lambda_load` times the load above the cap.
    pub overload: f64,
    /// `lambda_move` times the load moved, that of moved queues at `kappa`.
    pub moved: f64,
    /// No legal plan costs less, even without limits on changes.
    pub bound: Option<f64>,
    /// Processor time that the search took, the bound not included.
    pub elapsed_us: u64,
}

impl PlanFile {
    /// The document for `solution`.
    #[must_use]
    pub fn new(solution: &Solution, elapsed_us: u64) -> Self {
        Self {
            format: FORMAT,
            table: solution.table.clone(),
            affinity: solution.affinity.clone(),
            objective: solution.cost.total(),
            distance: solution.cost.distance,
            overload: solution.cost.overload,
            moved: solution.cost.moved,
            bound: solution.bound,
            elapsed_us,
        }
    }
}

/// What is wrong with a document.
#[derive(Debug, thiserror::Error)]
pub enum ProblemError {
    /// It is not JSON, or a field is missing or of the wrong kind.
    #[error("not a planning problem: {field}: {why}")]
    Json {
        /// Where in the document; a dot is the document itself.
        field: String,
        /// What was found and what is expected there.
        why: String,
    },
    /// A later version, or something else altogether.
    #[error("format is {0}: this steer reads format {FORMAT}")]
    Format(u32),
    /// There must be at least one.
    #[error("{0}: there is none, at least one is needed")]
    Empty(&'static str),
    /// A list has not as many entries as announced.
    #[error("{what} has {found} entries, {wanted} are needed")]
    Length {
        /// Which list.
        what: String,
        /// How many it has.
        found: usize,
        /// How many it should have.
        wanted: usize,
    },
    /// More than steer will hold in memory.
    #[error("{what}: {rows} times {columns} is too large (at most {MOST_CELLS})")]
    Size {
        /// Which table.
        what: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
    },
    /// Not a finite number from zero to [`LARGEST`].
    #[error("{what} is {value}: not a number from 0 to {LARGEST:e}")]
    Number {
        /// Where.
        what: String,
        /// What it is.
        value: f64,
    },
    /// A CPU that does not exist.
    #[error("{what}[{index}] is CPU {cpu}: there are {cpus}, from 0 on")]
    Cpu {
        /// Which list.
        what: &'static str,
        /// Where in it.
        index: usize,
        /// The CPU.
        cpu: usize,
        /// How many there are.
        cpus: usize,
    },
    /// A CPU that is listed twice.
    #[error("allowed_cpus[{index}] is CPU {cpu} a second time: each is named once")]
    Twice {
        /// Where in the list.
        index: usize,
        /// The CPU.
        cpu: usize,
    },
    /// Neither eps nor cap.
    #[error("neither eps nor cap is given: one of them is needed")]
    NoCap,
}

impl ProblemError {
    /// In words of the document, not of the language that reads it.
    fn json(field: impl fmt::Display, error: &serde_json::Error) -> Self {
        let mut why = error.to_string();
        for (theirs, ours) in [
            ("expected usize", "expected a whole number from 0 on"),
            ("expected u32", "expected a whole number from 0 on"),
            ("expected f64", "expected a number"),
            ("expected a sequence", "expected a list"),
            ("invalid type: sequence", "invalid type: list"),
            ("expected struct ProblemFile", "expected an object"),
            ("expected struct Current", "expected an object with `table` and `affinity`"),
            ("expected value", "expected a value; NaN and Infinity are none"),
        ] {
            why = why.replace(theirs, ours);
        }
        // Where the text ends in the name of a field, the path ends in a question mark.
        let field = field.to_string();
        let field = if field == "?" { ".".to_owned() } else { field };
        Self::Json { field, why }
    }
}

impl ProblemFile {
    /// Reads the text of a document.
    pub fn parse(text: &str) -> Result<Self, ProblemError> {
        // serde would take a list of values for an object without names.
        if text.trim_start().starts_with('[') {
            let why = "invalid type: list, expected an object".to_owned();
            return Err(ProblemError::Json { field: ".".to_owned(), why });
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let file: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| ProblemError::json(error.path(), error.inner()))?;
        json.end().map_err(|error| ProblemError::json(".", &error))?;
        if file.format != FORMAT {
            return Err(ProblemError::Format(file.format));
        }
        Ok(file)
    }

    /// Checks everything and makes a problem of it.
    pub fn problem(&self) -> Result<Problem, ProblemError> {
        self.check_shape()?;
        self.check_numbers()?;
        let cells: Vec<f64> = self.distance.iter().flatten().copied().collect();
        let found = cells.len();
        let distance = Distances::new(self.cpus, cells).ok_or_else(|| ProblemError::Length {
            what: "distance".to_owned(),
            found,
            wanted: self.cpus,
        })?;
        let mut consumed = Rows::default();
        for row in &self.consumed {
            consumed.push(row.iter().copied().enumerate());
        }
        let total: f64 = self.load.iter().sum();
        let usable = self.queues.min(self.allowed_cpus.len()) as f64;
        let cap = match (self.cap, self.eps) {
            (Some(cap), _) => cap,
            (None, Some(eps)) => (1.0 + eps) * total / usable,
            (None, None) => return Err(ProblemError::NoCap),
        };
        let known = |queue: &usize| if *queue < self.queues { *queue } else { NONE };
        Ok(Problem {
            cpus: self.cpus,
            allowed: self.allowed_cpus.clone(),
            table: self.current.table.iter().map(known).collect(),
            affinity: self.current.affinity.clone(),
            fixed: Vec::new(),
            distance,
            consumed,
            load: self.load.clone(),
            cap: vec![cap; self.cpus],
            lambda_load: self.lambda_load,
            lambda_move: self.lambda_move,
            kappa: self.kappa,
            move_factor: Vec::new(),
            cpu_cost: Vec::new(),
            pins: Pins::default(),
            max_table_changes: self.max_table_changes,
            max_affinity_changes: self.max_affinity_changes,
        })
    }

    fn check_shape(&self) -> Result<(), ProblemError> {
        for (what, count) in [
            ("buckets", self.buckets),
            ("queues", self.queues),
            ("cpus", self.cpus),
            ("allowed_cpus", self.allowed_cpus.len()),
        ] {
            if count == 0 {
                return Err(ProblemError::Empty(what));
            }
        }
        // Nobody should have to write all the cells to be told that they are too many.
        for (what, rows) in
            [("distance", self.cpus), ("consumed", self.buckets), ("affinities", self.queues)]
        {
            if rows.checked_mul(self.cpus).is_none_or(|cells| cells > MOST_CELLS) {
                return Err(ProblemError::Size { what, rows, columns: self.cpus });
            }
        }
        length("current.table", self.current.table.len(), self.buckets)?;
        length("current.affinity", self.current.affinity.len(), self.queues)?;
        length("load", self.load.len(), self.buckets)?;
        for (what, rows, number) in
            [("distance", &self.distance, self.cpus), ("consumed", &self.consumed, self.buckets)]
        {
            length(what, rows.len(), number)?;
            for (index, row) in rows.iter().enumerate() {
                length(format_args!("{what}[{index}]"), row.len(), self.cpus)?;
            }
        }
        let mut seen = vec![false; self.cpus];
        for (index, cpu) in self.allowed_cpus.iter().enumerate() {
            match seen.get_mut(*cpu) {
                None => return Err(self.no_such_cpu("allowed_cpus", index, *cpu)),
                Some(true) => return Err(ProblemError::Twice { index, cpu: *cpu }),
                Some(seen) => *seen = true,
            }
        }
        let mut affinity = self.current.affinity.iter().enumerate();
        match affinity.find(|(_, cpu)| **cpu >= self.cpus) {
            Some((index, cpu)) => Err(self.no_such_cpu("current.affinity", index, *cpu)),
            None => Ok(()),
        }
    }

    fn no_such_cpu(&self, what: &'static str, index: usize, cpu: usize) -> ProblemError {
        ProblemError::Cpu { what, index, cpu, cpus: self.cpus }
    }

    fn check_numbers(&self) -> Result<(), ProblemError> {
        for (what, value) in [
            ("eps", self.eps.unwrap_or(0.0)),
            ("cap", self.cap.unwrap_or(0.0)),
            ("lambda_load", self.lambda_load),
            ("lambda_move", self.lambda_move),
            ("kappa", self.kappa),
        ] {
            number(value, || what.to_owned())?;
        }
        for (index, value) in self.load.iter().enumerate() {
            number(*value, || format!("load[{index}]"))?;
        }
        for (what, rows) in [("distance", &self.distance), ("consumed", &self.consumed)] {
            for (row, values) in rows.iter().enumerate() {
                for (column, value) in values.iter().enumerate() {
                    number(*value, || format!("{what}[{row}][{column}]"))?;
                }
            }
        }
        Ok(())
    }
}

fn length(what: impl fmt::Display, found: usize, wanted: usize) -> Result<(), ProblemError> {
    if found == wanted {
        return Ok(());
    }
    Err(ProblemError::Length { what: what.to_string(), found, wanted })
}

fn number(value: f64, what: impl FnOnce() -> String) -> Result<(), ProblemError> {
    if value.is_finite() && (0.0..=LARGEST).contains(&value) {
        return Ok(());
    }
    Err(ProblemError::Number { what: what(), value })
}

#[cfg(test)]
mod tests;
