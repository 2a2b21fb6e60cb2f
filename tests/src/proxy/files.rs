//! The directory with the configurations, sockets and the certificate.

use std::fs;

use anyhow::Result;

use crate::guest::run;

const DIRECTORY: &str = "/run/proxy";

/// Where a file of that name is.
pub(super) fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

/// Makes the directory and, once, a certificate for TLS: `own.crt` and `own.key`, and both
/// together as HAProxy wants them, `own.pem`.
pub(super) fn prepare() -> Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    if fs::exists(path("own.pem"))? {
        return Ok(());
    }
    let (certificate, key) = (path("own.crt"), path("own.key"));
    let mut arguments = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt"];
    arguments.extend(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]);
    arguments.extend(["-subj", "/CN=steer.test", "-out", &certificate, "-keyout", &key]);
    run("openssl", &arguments)?;
    let both = fs::read_to_string(&certificate)? + &fs::read_to_string(&key)?;
    fs::write(path("own.pem"), both)?;
    Ok(())
}
