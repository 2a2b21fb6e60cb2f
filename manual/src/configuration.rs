//! steer.toml(5), from the table of keys.

use roff::{Roff, bold, italic, roman};
use steer_agent::config::keys::{Effect, KEYS, Key, SECTIONS};

use crate::PROGRAM;

const INTRODUCTION: [&str; 3] = [
    "steer needs no configuration: every key has a default, and nothing is written to a NIC that is not \
     named. The file is TOML. It is read whole or not at all: an unknown key or a wrong value is an error \
     that names the line and what was expected, and `steer config check` finds them all at once.",
    "What counts, from least to most: the default, this file (a section [interface.NAME] over the other \
     sections), the environment, the command line. `steer config show` tells what is in force and where \
     each value comes from.",
    "SIGHUP, or `systemctl reload steer`, takes a new configuration over, all of it or, where anything is \
     wrong, nothing.",
];

/// A configuration to begin with; a test reads it.
pub(crate) const EXAMPLE: &str = "[run]
interfaces = [\"eth0\", \"eth1\"]

[policy]
denied_cpus = \"0\"

[interface.eth1]
placement = \"dedicated\"
maintenance_window = [\"Sat,Sun\", \"Mon-Fri 22:00-06:00\"]
";

/// The page.
pub(crate) fn page(date: &str) -> Vec<u8> {
    let mut page = Roff::new();
    let source = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["steer.toml", "5", date, &source, "File Formats"]);
    page.control("SH", ["NAME"]);
    page.text([roman("steer.toml - configuration of steer(8)")]);
    page.control("SH", ["SYNOPSIS"]).text([bold("/etc/steer/steer.toml")]);
    page.control("SH", ["DESCRIPTION"]);
    for (index, paragraph) in INTRODUCTION.iter().enumerate() {
        if index > 0 {
            page.control("PP", []);
        }
        page.text([roman(*paragraph)]);
    }
    for (section, about) in SECTIONS {
        let title = format!("SECTION [{section}]").to_uppercase();
        page.control("SH", [title.as_str()]).text([roman(about)]);
        for key in KEYS.iter().filter(|key| key.section == section) {
            describe(&mut page, key);
        }
    }
    page.control("SH", ["SECTIONS [INTERFACE.NAME]"]);
    let own: Vec<&str> = KEYS.iter().filter(|key| key.per_interface).map(|key| key.name).collect();
    page.text([roman(format!(
        "What is different for the NIC of that name. These keys may stand there, without their section: \
         {}.",
        own.join(", ")
    ))]);
    page.control("SH", ["EXAMPLE"]).control("EX", []);
    for line in EXAMPLE.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("steer(8), steer-run(8), steer-config-check(8), steer-config-show(8)")]);
    page.render().into_bytes()
}

fn describe(page: &mut Roff, key: &Key) {
    page.control("TP", []);
    page.text([bold(key.name), roman(" = "), italic(key.default_text())]);
    page.text([roman(key.doc)]);
    page.control("IP", []);
    let when = match key.effect {
        Effect::Start => " Takes effect at the next start.",
        Effect::Reload => "",
    };
    page.text([roman(format!("Expected: {}.{when} Variable: {}.", key.form, key.variable()))]);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use steer_agent::config::Config;

    #[test]
    fn the_example_is_a_configuration() {
        let file = Some((Path::new("steer.toml"), super::EXAMPLE));
        let config = Config::read(file, &[]).map_err(|faulty| faulty.to_string());
        let values = config.map(|config| config.values(Some("eth1")));
        assert_eq!(values.map(|values| values.interfaces.len()), Ok(2));
    }
}
