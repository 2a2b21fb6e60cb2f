//! Steps that all are run, and the table of how each ended.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The steps done so far.
#[derive(Default)]
pub(crate) struct Summary {
    steps: Vec<Step>,
}

struct Step {
    name: String,
    took: Duration,
    /// Why it failed, if it did.
    failure: Option<String>,
}

impl Summary {
    /// Runs a step in the open and notes how it ended.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        println!("== {name}");
        let start = Instant::now();
        let result = work();
        let failure = result.err().map(|error| format!("{error:#}"));
        if let Some(why) = &failure {
            println!("FAIL: {name}: {why}");
        }
        let passed = failure.is_none();
        self.note(name, start.elapsed(), failure);
        passed
    }

    /// Notes how a step ended.
    pub(crate) fn note(&mut self, name: &str, took: Duration, failure: Option<String>) {
        self.steps.push(Step { name: name.to_owned(), took, failure });
    }

    /// Prints the table; fails if a step has.
    pub(crate) fn finish(&self) -> Result<()> {
        println!();
        for Step { name, took, failure } in &self.steps {
            let verdict = if failure.is_none() { "ok" } else { "FAIL" };
            println!("{verdict:4} {:7.1} s  {name}", took.as_secs_f64());
            // What led to it may be thousands of lines above.
            if let Some(why) = failure {
                println!("{:16}{}", "", why.trim().replace('\n', "\n                "));
            }
        }
        let total: Duration = self.steps.iter().map(|step| step.took).sum();
        println!("     {:7.1} s  in all", total.as_secs_f64());
        let failed = self.steps.iter().filter(|step| step.failure.is_some()).count();
        println!("{} passed, {failed} failed", self.steps.len() - failed);
        if failed > 0 {
            let names = self.steps.iter().filter(|step| step.failure.is_some());
            let names: Vec<&str> = names.map(|step| step.name.as_str()).collect();
            bail!("failed: {}", names.join(", "));
        }
        Ok(())
    }
}
