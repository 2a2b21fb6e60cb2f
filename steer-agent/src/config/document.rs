//! The configuration in words: what is in force and where each value comes from, and the example.

use serde_json::{Value as Json, json};

use super::keys::{KEYS, Key, SECTIONS};
use super::{Config, Origin};

/// Columns of the example's comments.
const WIDTH: usize = 100;

/// What is in force, as a file that says the same; the comment behind each value is its origin.
/// Interfaces have a section where they differ.
#[must_use]
pub fn describe(config: &Config, interfaces: &[String]) -> String {
    let mut text = String::new();
    for (section, _) in SECTIONS {
        text += &format!("[{section}]\n");
        let lines = KEYS.iter().filter(|key| key.section == section);
        let lines: Vec<_> = lines.map(|key| line(config, key, None)).collect();
        text += &aligned(&lines);
        text += "\n";
    }
    for interface in named(config, interfaces) {
        let own = KEYS.iter().filter(|key| key.per_interface);
        let own: Vec<_> = own
            .filter(|key| config.origin(key, Some(&interface)) != config.origin(key, None))
            .map(|key| line(config, key, Some(&interface)))
            .collect();
        if !own.is_empty() {
            text += &format!("[interface.{}]\n{}\n", quoted(&interface), aligned(&own));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The same as a document. Fields may be added; `schema` rises where one changes.
#[must_use]
pub fn json(config: &Config, interfaces: &[String]) -> Json {
    let entry = |key: &Key, interface: Option<&str>| {
        let value = (key.get)(&config.values(interface)).to_toml(key.form);
        let origin = config.origin(key, interface);
        let mut entry = json!({
            "key": key.path(),
            "value": value,
            "source": origin.kind(),
            "per_interface": key.per_interface,
            "environment": key.variable(),
        });
        if let (Origin::File { file, line }, Some(entry)) = (origin, entry.as_object_mut()) {
            entry.insert("file".to_owned(), json!(file));
            entry.insert("line".to_owned(), json!(line));
        }
        entry
    };
    let all: Vec<Json> = KEYS.iter().map(|key| entry(key, None)).collect();
    let own: serde_json::Map<String, Json> = named(config, interfaces)
        .into_iter()
        .map(|interface| {
            let keys = KEYS.iter().filter(|key| key.per_interface);
            let values: Vec<Json> = keys.map(|key| entry(key, Some(&interface))).collect();
            (interface, json!(values))
        })
        .collect();
    json!({ "schema": 1, "file": config.file(), "values": all, "interfaces": own })
}

fn named(config: &Config, interfaces: &[String]) -> Vec<String> {
    if interfaces.is_empty() {
        return config.interfaces().into_iter().map(str::to_owned).collect();
    }
    interfaces.to_vec()
}

fn line(config: &Config, key: &Key, interface: Option<&str>) -> (String, String) {
    let value = (key.get)(&config.values(interface)).to_toml(key.form);
    (format!("{} = {value}", key.name), config.origin(key, interface).to_string())
}

fn aligned(lines: &[(String, String)]) -> String {
    let longest = lines.iter().map(|(value, _)| value.chars().count()).max().unwrap_or(0);
    let width = longest.min(40);
    let mut text = String::new();
    for (value, origin) in lines {
        text += &format!("{value:width$}  # {origin}\n");
    }
    text
}

/// A name as a key of TOML.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    toml::Value::String(name.to_owned()).to_string()
}

/// The example: every key with its meaning, what it takes and its default, all commented out.
#[must_use]
pub fn example() -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "The configuration of steer: every key with its default. Take the `#` away to change one; \
         `steer config check` finds what is wrong, and `systemctl reload steer` (SIGHUP) takes it over: \
         whole, or not at all.",
    );
    text += "#\n";
    comment(
        &mut text,
        "Each key can also be set by a variable of the environment, STEER_SECTION_KEY (STEER_RUN_PERIOD); \
         lists are separated by commas there, times of the week by semicolons. STEER_CONFIG names the file, \
         STEER_ROOT a directory with the host's proc and sys. The command line counts for more than the \
         environment, which counts for more than this file.",
    );
    let values = Config::default().values(None);
    for (section, about) in SECTIONS {
        text += "\n";
        comment(&mut text, about);
        text += &format!("[{section}]\n");
        for key in KEYS.iter().filter(|key| key.section == section) {
            text += "\n";
            comment(&mut text, key.doc);
            let start = match key.effect {
                super::keys::Effect::Start => " Takes effect at the next start.",
                super::keys::Effect::Reload => "",
            };
            comment(&mut text, &format!("Expected: {}.{start}", key.form));
            text += &format!("#{} = {}\n", key.name, (key.get)(&values).to_toml(key.form));
        }
    }
    text += "\n";
    let own: Vec<&str> = KEYS.iter().filter(|key| key.per_interface).map(|key| key.name).collect();
    comment(
        &mut text,
        &format!("What is different for one NIC. All of these can be: {}.", own.join(", ")),
    );
    text += "#[interface.eth0]\n#placement = \"same-llc\"\n#denied_cpus = \"0\"\n";
    text
}

fn comment(text: &mut String, sentences: &str) {
    let mut line = String::from("#");
    for word in sentences.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
