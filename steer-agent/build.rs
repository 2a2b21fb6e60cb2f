//! Builds the kernel side and places its object where the agent includes it from.
//!
//! Two variables change that:
//! - `STEER_EBPF_OBJECT=FILE` takes an object that was built elsewhere, and those that lie beside it;
//! - `STEER_SKIP_EBPF=1` takes none, for lints and documentation on machines that have no BPF
//!   compiler. The agent then says so when it is asked to observe.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[path = "../xtask/src/bpf.rs"]
mod bpf;

/// The objects of the kernel side, one for each binary of the package.
const OBJECTS: [&str; 3] = ["steer-ebpf", "steer-accept", "steer-connect"];

fn main() -> ExitCode {
    match place_object() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error={why}");
            ExitCode::FAILURE
        }
    }
}

fn place_object() -> Result<(), String> {
    for variable in ["STEER_EBPF_OBJECT", "STEER_SKIP_EBPF"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    for path in ["steer-ebpf/src", "steer-ebpf/Cargo.toml", "steer-common/src", "xtask/src/bpf.rs"]
    {
        println!("cargo::rerun-if-changed=../{path}");
    }
    let directory = |variable| {
        env::var_os(variable).map(PathBuf::from).ok_or(format!("cargo did not set {variable}"))
    };
    let out = directory("OUT_DIR")?;
    if env::var_os("STEER_SKIP_EBPF").is_some_and(|value| value == "1") {
        for object in OBJECTS.map(|name| out.join(name)) {
            fs::write(&object, []).map_err(|error| format!("{}: {error}", object.display()))?;
        }
        return Ok(());
    }
    let built = if let Some(prebuilt) = env::var_os("STEER_EBPF_OBJECT").map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", prebuilt.display());
        prebuilt
    } else {
        let manifest = directory("CARGO_MANIFEST_DIR")?;
        let root = manifest.parent().unwrap_or(Path::new(".."));
        // Its own target directory: cargo holds a lock on the outer one while this runs.
        bpf::build(root, &out.join("ebpf-target"))?
    };
    // The others lie beside the first, wherever that was built.
    for name in OBJECTS {
        let built = if name == OBJECTS[0] { built.clone() } else { built.with_file_name(name) };
        fs::copy(&built, out.join(name))
            .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
    }
    Ok(())
}
