//! The few files a lab machine boots from: a static busybox, the modules that reach the host's
//! file system, and a script that makes that file system the root.
//!
//! The host's root comes by 9p and is read-only on the host's side; an overlay in RAM takes what
//! the guest writes. So every program of the host is there, and nothing of it can be changed.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{kernel::Kernel, process, workspace};

/// What the root needs. The other modules are loaded from the root, by `modprobe`.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

/// The tag of the host's file system, known to QEMU and to the guest.
pub(crate) const HOST_ROOT: &str = "host";

/// Makes the archive for `kernel` whose root starts `program` with `arguments`.
pub(crate) fn build(kernel: &Kernel, program: &Path, arguments: &[String]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "host", "modules", "proc", "ram", "root", "sys"] {
        archive.directory(directory);
    }
    let busybox = workspace::program("busybox").context("busybox is missing")?;
    archive.file("bin/busybox", 0o755, &fs::read(busybox)?);
    for (index, module) in load_order(kernel)?.iter().enumerate() {
        let name = format!("modules/{index:02}.ko");
        archive.file(&name, 0o644, &uncompressed(module)?);
    }
    archive.file("init", 0o755, script(kernel, program, arguments).as_bytes());
    Ok(archive.finish())
}

fn script(kernel: &Kernel, program: &Path, arguments: &[String]) -> String {
    let modules = kernel.modules();
    format!(
        "#!/bin/busybox sh
busybox=/bin/busybox
die() {{ $busybox echo \"initramfs: $1\"; $busybox poweroff -f; }}
$busybox mount -t devtmpfs dev /dev
for module in /modules/*; do
    $busybox insmod $module || die \"cannot load $module\"
done
$busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose {HOST_ROOT} /host \
            || die 'cannot mount the root of the host'
$busybox mount -t tmpfs ram /ram
$busybox mkdir /ram/upper /ram/work
$busybox mount -t overlay -o lowerdir=/host,upperdir=/ram/upper,workdir=/ram/work root /root \
            || die 'cannot lay RAM over the root of the host'
$busybox mkdir -p /root/lib/modules
$busybox mount -o bind /root{} /root/lib/modules || die 'cannot mount the modules'
$busybox umount /dev
exec $busybox switch_root /root {} {}
",
        modules.display(),
        program.display(),
        arguments.join(" "),
    )
}

/// The files of the modules and of what they depend on, each after its dependencies.
fn load_order(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let base = kernel.modules().join(&kernel.release);
    let read = |name: &str| {
        let path = base.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let dependencies = read("modules.dep")?;
    let builtin = read("modules.builtin")?;
    let by_name: HashMap<&str, (&str, &str)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (module_name(path), (path, needs)))
        .collect();
    let mut order: Vec<&str> = Vec::new();
    for module in MODULES {
        let Some((path, needs)) = by_name.get(module) else {
            if builtin.lines().any(|path| module_name(path) == module) {
                continue;
            }
            bail!("kernel {} has no module {module}", kernel.release);
        };
        // depmod lists the nearest dependency first.
        for path in needs.split_whitespace().rev().chain([*path]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order.into_iter().map(|path| base.join(path)).collect())
}

/// `kernel/fs/9p/9p.ko.xz` is the module `9p`.
fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file)
}

fn uncompressed(module: &Path) -> Result<Vec<u8>> {
    let program = match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(fs::read(module)?),
    };
    let mut command = Command::new(program);
    command.args(["--decompress", "--stdout"]).arg(module);
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{} failed ({})", process::name(&command), output.status);
    }
    Ok(output.stdout)
}

/// A cpio archive in the `newc` format that kernels unpack.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) {
        self.entry(name, 0o100_000 | permissions, contents);
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let links = 1;
        let name_size = name.len() + 1;
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{:08x}\
             {:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
            self.entries, // inode
            0,            // owner
            0,            // group
            0,            // modification time
            contents.len(),
            0, // device, major and minor
            0,
            0, // device that a node stands for
            0,
            0, // checksum, unused in this format
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    /// Names and contents both end on a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, module_name};

    #[test]
    fn module_names_lose_path_and_compression() {
        assert_eq!(module_name("kernel/fs/9p/9p.ko.xz"), "9p");
        assert_eq!(module_name("overlay.ko"), "overlay");
    }

    #[test]
    fn archive_entries_are_aligned_and_closed() {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.file("init", 0o755, b"#!");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        // Header of 110 bytes, name with its end, padding.
        assert_eq!(text.find("dev\0"), Some(110));
        assert!(text[116..].starts_with("070701"));
        assert!(text.contains("TRAILER!!!\0"));
    }
}
