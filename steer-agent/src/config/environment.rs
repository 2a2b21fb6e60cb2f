//! Keys from the environment, as containers like to set them: `STEER_SECTION_KEY=value`.

use super::keys::{self, KEYS, SECTIONS};
use super::{Entry, Origin, Problem};

/// A directory in which the host's /proc and /sys are, for both at once.
const ROOT: &str = "STEER_ROOT";

/// The variables of this process that may be ours. A variable that is not text cannot be.
#[must_use]
pub fn variables() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("STEER_"))?;
        Some((name, value.to_string_lossy().into_owned()))
    };
    let mut variables: Vec<(String, String)> = std::env::vars_os().filter_map(text).collect();
    variables.sort();
    variables
}

/// What `variables` set. One that is empty counts as not set; one that is in none of our sections is
/// somebody else's.
pub(super) fn read(variables: &[(String, String)]) -> (Vec<Entry>, Vec<Problem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    let is_ours = |name: &str| {
        SECTIONS.iter().any(|(section, _)| {
            let prefix = format!("STEER_{}_", section.to_uppercase());
            name.starts_with(&prefix)
        })
    };
    for (name, value) in variables.iter().filter(|(_, value)| !value.is_empty()) {
        let place = name.clone();
        if name == ROOT {
            for (section, tree) in [("paths", "proc"), ("paths", "sys")] {
                let Some(key) = keys::find(section, tree) else { continue };
                let path = format!("{}/{tree}", value.trim_end_matches('/'));
                match key.form.read_text(&path) {
                    // What is said of one tree counts for more.
                    Ok(value) => {
                        let origin = Origin::Environment(name.clone());
                        entries.insert(0, Entry { key, interface: None, value, origin });
                    }
                    Err(_) => problems.push(Problem {
                        place: place.clone(),
                        what: format!("`{value}`, expected {}", key.form),
                    }),
                }
            }
            problems.dedup();
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.variable() == *name) else {
            if is_ours(name) {
                let known: Vec<String> = KEYS.iter().map(keys::Key::variable).collect();
                let nearest = keys::nearest(name, known.iter().map(String::as_str));
                let nearest = nearest
                    .map_or(String::new(), |near| format!("; the nearest known one is {near}"));
                let what = format!("unknown variable{nearest}");
                problems.push(Problem { place, what });
            }
            continue;
        };
        match key.form.read_text(value) {
            Ok(value) => {
                let origin = Origin::Environment(name.clone());
                entries.push(Entry { key, interface: None, value, origin });
            }
            Err(why) => {
                let why = if why.is_empty() { why } else { format!(" ({why})") };
                let what = format!("`{value}`, expected {}{why}", key.form);
                problems.push(Problem { place, what });
            }
        }
    }
    (entries, problems)
}
