//! `cargo xtask example`: the example report and its picture in docs/, from a recording made in the lab.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{lab, process, run::Run, setup, workspace};

const SCENARIO: &str = "report-example";

/// The command.
pub(crate) fn example() -> Result<()> {
    setup::setup()?;
    lab::build()?;
    let machine = lab::machines_of(SCENARIO)?.into_iter().next();
    let machine = machine.with_context(|| format!("{SCENARIO} is meant for no machine"))?;
    let said = Run::new(SCENARIO, machine, Duration::from_secs(lab::TIMEOUT)).boot()?;
    if let Err(why) = said.verdict {
        bail!("{SCENARIO} failed: {why}");
    }
    let printed = said.figures.context("the scenario printed no recording")?;
    let text = workspace::target().join("example.base64");
    fs::write(&text, printed)?;
    let recording = workspace::root().join("steer-agent/tests/fixtures/example.steer");
    let mut decode = Command::new("base64");
    decode.arg("--decode").arg(&text).stdout(Stdio::from(File::create(&recording)?));
    process::run(&mut decode)?;
    println!("{} is renewed", recording.display());
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--package=steer-agent", "--test=report_browser", "the_example"]);
    process::run(cargo.env("STEER_ACCEPT", "1").current_dir(workspace::root()))
}
