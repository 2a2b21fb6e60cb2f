//! Debian packages, through an apt configuration of the project's own.
//!
//! The lab needs suites that a machine seldom has in its sources: backports for QEMU, the
//! neighbouring releases for their kernels. Their sources are derived from the machine's: same
//! address, same components, same keyring, another suite. They are written below the target
//! directory together with the lists and archives; nothing under /etc/apt is changed, and the
//! machine's own package lists stay as they are.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{process, workspace};

/// Apt with a set of sources, lists and cache of its own.
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// The machine's own Debian sources, and the backports of its release.
    pub(crate) fn machine() -> Result<Self> {
        let codename = codename()?;
        let mut sources = machine_sources();
        sources.retain(|source| source.suites.iter().any(|suite| suite.starts_with(&codename)));
        let backports = format!("{codename}-backports");
        if !sources.iter().any(|source| source.suites.contains(&backports)) {
            sources.push(derive(&sources, &codename, &backports)?);
        }
        Self::with_sources("machine", &sources)
    }

    /// One suite alone, of whatever release.
    pub(crate) fn suite(suite: &str) -> Result<Self> {
        let source = derive(&machine_sources(), &codename()?, suite)?;
        Self::with_sources(suite, &[source])
    }

    fn with_sources(name: &str, sources: &[Source]) -> Result<Self> {
        let directory = workspace::lab().join("apt").join(name);
        for part in ["sources.list.d", "lists/partial", "archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let text: Vec<String> = sources.iter().map(Source::to_deb822).collect();
        fs::write(directory.join("sources.list.d/lab.sources"), text.join("\n"))?;
        Ok(Self { directory })
    }

    fn command(&self, program: &str) -> Command {
        let path = |part: &str| self.directory.join(part).display().to_string();
        let mut command = Command::new(program);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        for option in [
            "Dir::Etc::SourceList=/dev/null".to_owned(),
            format!("Dir::Etc::SourceParts={}", path("sources.list.d")),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Cache={}", self.directory.display()),
            // The unprivileged user that apt downloads as may not see into the checkout.
            "APT::Sandbox::User=root".to_owned(),
            "Dpkg::Use-Pty=0".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// Fetches the package lists.
    pub(crate) fn update(&self) -> Result<()> {
        process::capture(self.command("apt-get").arg("update"))?;
        Ok(())
    }

    /// Fetches the package lists unless there are some.
    fn update_once(&self) -> Result<()> {
        let mut lists = fs::read_dir(self.directory.join("lists"))?.flatten();
        if lists.any(|file| file.file_name().to_string_lossy().contains("_Packages")) {
            return Ok(());
        }
        self.update()
    }

    /// Runs what needs the package lists, once more with fresh ones if it fails: a list of last
    /// month names files that are gone.
    fn with_lists<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        self.update_once()?;
        work().or_else(|_| {
            self.update()?;
            work()
        })
    }

    /// Installs packages, from the given suite if one is named.
    pub(crate) fn install(&self, packages: &[String], suite: Option<&str>) -> Result<()> {
        self.with_lists(|| {
            let mut apt = self.command("apt-get");
            // Prometheus and irqbalance are run by tests; their services are not to be started
            // (systemctl(1) "Environment": SYSTEMD_OFFLINE).
            apt.env("SYSTEMD_OFFLINE", "1");
            apt.args(["install", "--yes", "--no-install-recommends"]);
            if let Some(suite) = suite {
                apt.args(["--target-release", suite]);
            }
            process::capture(apt.args(packages)).map(drop)
        })
    }

    /// Downloads packages with whatever they need and the machine lacks, and unpacks all of it
    /// without installing. Needs no root.
    pub(crate) fn unpack_programs(&self, packages: &[&str], into: &Path) -> Result<()> {
        fs::create_dir_all(into)?;
        self.with_lists(|| {
            let mut apt = self.command("apt-get");
            apt.args(["install", "--yes", "--no-install-recommends", "--download-only"]);
            // dpkg's own lock is root's, and nothing is handed to dpkg.
            process::capture(apt.args(["-o", "Debug::NoLocking=1"]).args(packages))?;
            for file in fs::read_dir(self.directory.join("archives"))?.flatten() {
                let deb = file.path();
                if deb.extension().is_some_and(|extension| extension == "deb") {
                    process::capture(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(into))?;
                    fs::remove_file(&deb)?;
                }
            }
            Ok(())
        })
    }

    /// Downloads the newest kernel whose version starts with `version`, with the packages it is
    /// made of, and unpacks them without installing.
    pub(crate) fn unpack_kernel(&self, version: &str, into: &Path) -> Result<()> {
        self.with_lists(|| {
            let mut wanted = self.kernel_packages(version)?;
            let mut unpacked = 0;
            while let Some((package, version)) = wanted.get(unpacked).cloned() {
                let deb = self.download(&package, &version)?;
                process::capture(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(into))?;
                fs::remove_file(&deb)?;
                for part in self.kernel_parts(&package, &version)? {
                    if !wanted.contains(&part) {
                        wanted.push(part);
                    }
                }
                unpacked += 1;
            }
            Ok(())
        })
    }

    /// What the metapackage of this series depends on.
    fn kernel_packages(&self, series: &str) -> Result<Vec<(String, String)>> {
        let table = process::capture(self.command("apt-cache").args(["madison", META_PACKAGE]))?;
        let versions: Vec<&str> =
            table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim).collect();
        let of_series = |version: &&&str| version.starts_with(&format!("{series}."));
        let version = versions.iter().find(of_series).with_context(|| {
            // Backports move on: the series is to be renewed in `kernel::SERIES` then.
            let there = versions.join(", ");
            format!("no {META_PACKAGE} of series {series} in the sources, which have {there}")
        })?;
        let parts = self.kernel_parts(META_PACKAGE, version)?;
        ensure!(!parts.is_empty(), "{META_PACKAGE} {version} depends on no kernel");
        Ok(parts)
    }

    /// What a kernel package depends on that is part of the kernel: since 7.0 Debian puts the
    /// image, the modules and the lists of what is built in into packages of their own.
    fn kernel_parts(&self, package: &str, version: &str) -> Result<Vec<(String, String)>> {
        let record = process::capture(
            self.command("apt-cache").arg("show").arg(format!("{package}={version}")),
        )?;
        let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "));
        Ok(depends
            .unwrap_or_default()
            .split(", ")
            .filter(|dependency| KERNEL_PARTS.iter().any(|part| dependency.starts_with(part)))
            .map(|dependency| {
                let mut words = dependency.split(' ');
                let package = words.next().unwrap_or_default().to_owned();
                let exact = words.nth(1).map(|version| version.trim_end_matches(')').to_owned());
                (package, exact.unwrap_or_else(|| version.to_owned()))
            })
            .collect())
    }

    fn download(&self, package: &str, version: &str) -> Result<PathBuf> {
        let directory = self.directory.join("archives");
        let mut apt = self.command("apt-get");
        apt.args(["download", &format!("{package}={version}")]).current_dir(&directory);
        process::capture(&mut apt)?;
        let prefix = format!("{package}_");
        fs::read_dir(&directory)?
            .flatten()
            .find(|file| file.file_name().to_string_lossy().starts_with(&prefix))
            .map(|file| file.path())
            .with_context(|| format!("apt-get download left no {package} archive"))
    }
}

const META_PACKAGE: &str = "linux-image-amd64";
const KERNEL_PARTS: [&str; 4] = ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"];

/// One entry of apt's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uris: String,
    suites: Vec<String>,
    components: String,
    /// `Signed-By` and whatever else the entry says, kept word for word.
    others: Vec<(String, String)>,
}

impl Source {
    fn to_deb822(&self) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n",
            self.uris,
            self.suites.join(" "),
            self.components
        );
        for (field, value) in &self.others {
            let _ = writeln!(text, "{field}: {value}");
        }
        text
    }
}

/// The source of another suite: that of the machine's release, with the suite exchanged.
fn derive(sources: &[Source], codename: &str, suite: &str) -> Result<Source> {
    let main = sources.iter().find(|source| source.suites.iter().any(|it| it == codename));
    let main = main.with_context(|| format!("apt has no source for Debian's {codename}"))?;
    Ok(Source { suites: vec![suite.to_owned()], ..main.clone() })
}

/// The release of the machine, say `bookworm`.
pub(crate) fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    if field("ID").as_deref() != Some("debian") {
        bail!("this is not Debian, whose packages the set-up is made from");
    }
    field("VERSION_CODENAME").context("/etc/os-release names no VERSION_CODENAME")
}

/// What apt is set up with. A file that cannot be read is one that apt cannot read either.
fn machine_sources() -> Vec<Source> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(directory) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(directory.flatten().map(|file| file.path()));
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_one_line_style,
            Some("sources") => parse_deb822,
            _ => continue,
        };
        if let Ok(text) = fs::read_to_string(&file) {
            sources.extend(parse(&text));
        }
    }
    sources
}

/// `deb [signed-by=FILE] URI SUITE COMPONENT...`
fn parse_one_line_style(text: &str) -> Vec<Source> {
    let entry = |line: &str| {
        let line = line.split('#').next()?.trim().strip_prefix("deb ")?.trim_start();
        let (options, line) = match line.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", line),
        };
        let mut words = line.split_whitespace();
        let others = options.split_whitespace().filter_map(|option| option.split_once('='));
        let others = others.map(|(name, value)| match name {
            "signed-by" => ("Signed-By".to_owned(), value.replace(',', " ")),
            "arch" => ("Architectures".to_owned(), value.replace(',', " ")),
            name => (name.to_owned(), value.to_owned()),
        });
        Some(Source {
            uris: words.next()?.to_owned(),
            suites: vec![words.next()?.to_owned()],
            components: words.collect::<Vec<_>>().join(" "),
            others: others.collect(),
        })
    };
    text.lines().filter_map(entry).collect()
}

/// Stanzas of `Field: value`, where a line that starts with a blank goes on with the last field.
fn parse_deb822(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).filter_map(parse_stanza).collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':')?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    let mut take = |name: &str| {
        let index = fields.iter().position(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(fields.remove(index).1)
    };
    let types = take("Types")?;
    let disabled = take("Enabled").is_some_and(|value| value == "no");
    if disabled || !types.split_whitespace().any(|word| word == "deb") {
        return None;
    }
    Some(Source {
        uris: take("URIs")?,
        suites: take("Suites")?.split_whitespace().map(str::to_owned).collect(),
        components: take("Components").unwrap_or_default(),
        others: fields,
    })
}

#[cfg(test)]
mod tests {
    use super::{Source, derive, parse_deb822, parse_one_line_style};

    fn source(suites: &[&str], others: &[(&str, &str)]) -> Source {
        Source {
            uris: "file:/srv/debian".to_owned(),
            suites: suites.iter().map(|&suite| suite.to_owned()).collect(),
            components: "main contrib".to_owned(),
            others: others.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        }
    }

    #[test]
    fn one_line_style_keeps_its_keyring() {
        let text = "# comment\n\
            deb-src file:/srv/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] file:/srv/debian bookworm main contrib # as above\n";
        let others = [("Architectures", "amd64"), ("Signed-By", "/k.gpg")];
        assert_eq!(parse_one_line_style(text), [source(&["bookworm"], &others)]);
    }

    #[test]
    fn deb822_stanzas_are_told_apart() {
        let text = "Types: deb\n# comment\nURIs: file:/srv/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By:\n a key\n\n\
            Types: deb-src\nURIs: file:/srv/debian\nSuites: bookworm\n\n\
            Types: deb\nEnabled: no\nURIs: file:/srv/debian\nSuites: bookworm\n";
        let expected = source(&["bookworm", "bookworm-updates"], &[("Signed-By", "\n a key")]);
        assert_eq!(parse_deb822(text), [expected]);
    }

    #[test]
    fn derived_source_differs_in_the_suite_alone() {
        let sources = [source(&["bookworm-security"], &[]), source(&["bookworm"], &[("A", "b")])];
        let expected = source(&["bullseye"], &[("A", "b")]);
        assert_eq!(derive(&sources, "bookworm", "bullseye").ok(), Some(expected));
        assert!(derive(&sources, "trixie", "bullseye").is_err());
    }
}
