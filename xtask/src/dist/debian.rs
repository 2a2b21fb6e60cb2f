//! The Debian package, by debhelper: it knows what maintainer scripts have to do for a systemd unit, how
//! pages are compressed and where a shell looks for completions.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Ingredients, copy, copy_tree, directory, source};
use crate::{
    process::{self, step},
    workspace,
};

/// Who stands in the package where the environment names nobody (DEBFULLNAME, DEBEMAIL).
const NOBODY: (&str, &str) = ("The steer authors", "steer@localhost.localdomain");

/// Files of the checkout that go into the package, beside documentation, and their names there.
const FILES: [(&str, &str); 6] = [
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("README.md", "README.md"),
    ("deploy/alerts.yml", "alerts.yml"),
    ("deploy/grafana-dashboard.json", "grafana-dashboard.json"),
    ("deploy/steer.service", "debian/steer.service"),
    ("deploy/steer.toml", "steer.toml"),
];

/// Builds the package with `version`, below `target/dist/build`.
pub(super) fn build(ingredients: &Ingredients, version: &str) -> Result<PathBuf> {
    step(&format!("steer_{version}_amd64.deb"), || {
        let place = directory().join("build");
        let tree = place.join(format!("steer-{version}"));
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        lay_out(ingredients, version, &tree)?;
        let package = place.join(format!("steer_{version}_amd64.deb"));
        let (sums, stamp) = (sums_of(&tree)?, place.join(format!("steer-{version}.sums")));
        if package.is_file() && fs::read_to_string(&stamp).is_ok_and(|known| known == sums) {
            return Ok(package);
        }
        let mut rules = Command::new("debian/rules");
        rules.arg("binary").current_dir(&tree);
        // The same sources give the same package, to the byte.
        rules.env("SOURCE_DATE_EPOCH", source::changed_s()?.to_string());
        rules.env_remove("MAKEFLAGS");
        process::capture(&mut rules)?;
        fs::write(stamp, sums)?;
        Ok(package)
    })
}

/// What a package is made of, in short: it is built anew where that has changed.
fn sums_of(tree: &Path) -> Result<String> {
    let mut find = Command::new("sh");
    find.args(["-c", "find . -type f -print0 | sort --zero-terminated | xargs --null sha256sum"]);
    process::capture(find.current_dir(tree))
}

fn lay_out(ingredients: &Ingredients, version: &str, tree: &Path) -> Result<()> {
    copy_tree(&workspace::root().join("deploy/debian"), &tree.join("debian"))?;
    for (from, to) in FILES {
        copy(from, &tree.join(to))?;
    }
    copy_tree(&workspace::root().join("docs"), &tree.join("docs"))?;
    copy_tree(&ingredients.manual, tree)?;
    fs::copy(&ingredients.program, tree.join("steer"))?;
    fs::copy(&ingredients.licences, tree.join("third-party.txt"))?;

    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_owned());
    let maintainer =
        format!("{} <{}>", variable("DEBFULLNAME", NOBODY.0), variable("DEBEMAIL", NOBODY.1));
    let control = tree.join("debian/control");
    let text = fs::read_to_string(&control)?.replace("@MAINTAINER@", &maintainer);
    fs::write(&control, text)?;
    let date = source::date("--rfc-email")?;
    let changes = format!(
        "steer ({version}) unstable; urgency=medium\n\n  * What changed is in CHANGELOG.md, beside this \
         file.\n\n -- {maintainer}  {}\n",
        date.trim()
    );
    fs::write(tree.join("debian/changelog"), changes)?;
    let rules = tree.join("debian/rules");
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} a program", rules.display()))
}
