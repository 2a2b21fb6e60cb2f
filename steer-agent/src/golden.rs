//! Text that is compared with a file, in tests. After a wanted change run them with `STEER_ACCEPT=1` in
//! the environment and look at the difference.

use std::fs;
use std::path::{Path, PathBuf};

/// Compares `found` with tests/golden/`name`, or writes it there. Other places are named from there.
pub(crate) fn golden(name: &str, found: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("STEER_ACCEPT").is_some() {
        fs::write(&path, found).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "differs from {}", path.display());
}
