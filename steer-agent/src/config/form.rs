//! The forms that values have, in files, in the environment and on the screen.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as FormError, StrDeserializer};
use toml::Value as Toml;
use toml::de::DeValue;

use crate::model::CpuSet;
use crate::policy::MaintenanceWindow;

/// Longest text that is a path, a name or a list; nothing sensible is longer.
const MOST_TEXT: usize = 4096;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// `true` or `false`.
    Flag,
    /// A number with a fraction, from the first to the second.
    Number(f64, f64),
    /// A whole number, from the first to the second.
    Whole(u64, u64),
    /// A length of time, from the first to the second.
    Time(Duration, Duration),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A CPU list, or this word for what no list says.
    Cpus(&'static str),
    /// Any text that is not empty, or this word for none.
    Text(&'static str),
    /// A list of names, such as this one.
    Names(&'static str),
    /// A list of port numbers, at most so many.
    Ports(usize),
    /// Times of the week.
    Window,
    /// A directory by its absolute path.
    Directory,
    /// A file by its absolute path, or this word for none.
    File(&'static str),
    /// An address with a port, or this word for none.
    Address(&'static str),
}

/// What a key has.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of [`Form::Flag`].
    Flag(bool),
    /// Of [`Form::Number`].
    Number(f64),
    /// Of [`Form::Whole`].
    Whole(u64),
    /// Of [`Form::Time`].
    Time(Duration),
    /// Of [`Form::Choice`].
    Choice(String),
    /// Of [`Form::Cpus`]; the word is `None`.
    Cpus(Option<CpuSet>),
    /// Of [`Form::Text`]; the word is `None`.
    Text(Option<String>),
    /// Of [`Form::Names`].
    Names(Vec<String>),
    /// Of [`Form::Ports`].
    Ports(BTreeSet<u16>),
    /// Of [`Form::Window`].
    Window(MaintenanceWindow),
    /// Of [`Form::Directory`].
    Directory(PathBuf),
    /// Of [`Form::File`]; the word is `None`.
    File(Option<PathBuf>),
    /// Of [`Form::Address`]; the word is `None`.
    Address(Option<SocketAddr>),
}

/// Why a text is no value of its form; empty where there is nothing to add to what was expected.
pub type Why = String;

impl Form {
    /// What to say of a value that is none: "expected ...".
    #[must_use]
    pub fn expected(self) -> String {
        let time = |time| humantime::format_duration(time);
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Time(least, most) => {
                format!("a time such as \"1s\" from {} to {}", time(least), time(most))
            }
            Self::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                match words.as_slice() {
                    [words @ .., last] if !words.is_empty() => {
                        format!("{} or {last}", words.join(", "))
                    }
                    words => words.join(""),
                }
            }
            Self::Cpus(word) => format!("a list of CPUs such as \"0-3,8\", or \"{word}\""),
            Self::Text(word) => format!("a text, or \"{word}\""),
            Self::Names(example) => format!("a list of names such as [\"{example}\"]"),
            Self::Ports(most) => format!("a list of at most {most} ports such as [80, 443]"),
            Self::Window => {
                "a list of times such as [\"Sat,Sun\", \"Mon-Fri 22:00-06:00\"]; an empty one is \
                 always"
                    .to_owned()
            }
            Self::Directory => "an absolute path such as \"/run/steer\"".to_owned(),
            Self::File(word) => format!("the absolute path of a file, or \"{word}\""),
            Self::Address(word) => {
                format!("an address and a port such as \"127.0.0.1:9750\", or \"{word}\"")
            }
        }
    }

    /// The value that a file has.
    pub fn read(self, found: &DeValue<'_>) -> Result<Value, Why> {
        let nothing = || Why::new();
        match (self, found) {
            (Self::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Self::Number(..), DeValue::Float(number)) => {
                self.number(number.as_str().parse().map_err(|_| nothing())?)
            }
            (Self::Number(..), DeValue::Integer(number)) if number.radix() == 10 => {
                self.number(number.as_str().parse().map_err(|_| nothing())?)
            }
            (Self::Whole(..), DeValue::Integer(number)) => {
                let number = u64::from_str_radix(number.as_str(), number.radix());
                self.whole(number.map_err(|_| nothing())?)
            }
            (Self::Ports(_), DeValue::Array(list)) => {
                let ports = list.iter().map(|item| match item.get_ref() {
                    DeValue::Integer(port) if port.radix() == 10 => Ok(port.as_str()),
                    _ => Err(nothing()),
                });
                self.ports(&ports.collect::<Result<Vec<_>, _>>()?)
            }
            (Self::Names(_) | Self::Window, DeValue::Array(list)) => {
                let texts: Option<Vec<&str>> =
                    list.iter().map(|item| item.get_ref().as_str()).collect();
                self.list(&texts.ok_or_else(nothing)?)
            }
            (
                Self::Time(..)
                | Self::Choice(_)
                | Self::Cpus(_)
                | Self::Text(_)
                | Self::Directory
                | Self::File(_)
                | Self::Address(_),
                DeValue::String(text),
            ) => self.text(text),
            _ => Err(nothing()),
        }
    }

    /// The value that a variable of the environment has. Lists are separated by commas, times of the
    /// week, which have commas of their own, by semicolons.
    pub fn read_text(self, text: &str) -> Result<Value, Why> {
        let list = |separator| -> Vec<&str> {
            text.split(separator).map(str::trim).filter(|part| !part.is_empty()).collect()
        };
        match self {
            Self::Flag => text.parse().map(Value::Flag).map_err(|_| Why::new()),
            Self::Number(..) => self.number(text.parse().map_err(|_| Why::new())?),
            Self::Whole(..) => self.whole(text.parse().map_err(|_| Why::new())?),
            Self::Names(_) => self.list(&list(',')),
            Self::Ports(_) => self.ports(&list(',')),
            // There is no empty list of times in a variable: what is empty counts as not set.
            Self::Window if text == "always" => self.list(&[]),
            Self::Window => self.list(&list(';')),
            _ => self.text(text),
        }
    }

    fn number(self, number: f64) -> Result<Value, Why> {
        match self {
            Self::Number(least, most) if (least..=most).contains(&number) => {
                Ok(Value::Number(number))
            }
            _ => Err(Why::new()),
        }
    }

    fn whole(self, number: u64) -> Result<Value, Why> {
        match self {
            Self::Whole(least, most) if (least..=most).contains(&number) => {
                Ok(Value::Whole(number))
            }
            _ => Err(Why::new()),
        }
    }

    fn ports(self, texts: &[&str]) -> Result<Value, Why> {
        let ports: Result<BTreeSet<u16>, Why> = texts
            .iter()
            .map(|text| match text.parse() {
                Ok(0) | Err(_) => Err(format!("{text} is no port: they are 1 to 65535")),
                Ok(port) => Ok(port),
            })
            .collect();
        let ports = ports?;
        match self {
            Self::Ports(most) if ports.len() <= most => Ok(Value::Ports(ports)),
            _ => Err(Why::new()),
        }
    }

    fn list(self, texts: &[&str]) -> Result<Value, Why> {
        if self == Self::Window {
            let window = MaintenanceWindow::parse(texts.iter().copied());
            return window.map(Value::Window).map_err(|error| error.to_string());
        }
        if texts.iter().any(|text| text.is_empty() || text.len() > MOST_TEXT) {
            return Err("a name is empty or very long".to_owned());
        }
        Ok(Value::Names(texts.iter().map(|text| (*text).to_owned()).collect()))
    }

    fn text(self, text: &str) -> Result<Value, Why> {
        if text.len() > MOST_TEXT {
            return Err(format!("it is longer than {MOST_TEXT} bytes"));
        }
        match self {
            Self::Time(least, most) => {
                let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
                if (least..=most).contains(&time) { Ok(Value::Time(time)) } else { Err(Why::new()) }
            }
            Self::Choice(words) if words.contains(&text) => Ok(Value::Choice(text.to_owned())),
            Self::Cpus(word) | Self::Text(word) | Self::File(word) | Self::Address(word)
                if text == word =>
            {
                Ok(match self {
                    Self::Cpus(_) => Value::Cpus(None),
                    Self::File(_) => Value::File(None),
                    Self::Address(_) => Value::Address(None),
                    _ => Value::Text(None),
                })
            }
            Self::Cpus(_) if text.trim().is_empty() => Err("it is empty".to_owned()),
            Self::Cpus(_) => {
                let set = text.parse::<CpuSet>().map_err(|error| error.to_string())?;
                Ok(Value::Cpus(Some(set)))
            }
            Self::Text(_) if !text.is_empty() => Ok(Value::Text(Some(text.to_owned()))),
            Self::Directory if text.starts_with('/') => Ok(Value::Directory(text.into())),
            Self::File(_) if text.starts_with('/') => Ok(Value::File(Some(text.into()))),
            Self::Address(_) => {
                let address: SocketAddr = text.parse().map_err(|_| Why::new())?;
                Ok(Value::Address(Some(address)))
            }
            _ => Err(Why::new()),
        }
    }
}

impl Value {
    /// The word for one of the variants of `T`, whose names serde has.
    #[must_use]
    pub fn choice<T: Serialize>(variant: &T) -> Self {
        let word = Toml::try_from(variant).ok();
        Self::Choice(word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default())
    }

    pub(super) fn as_choice<T: DeserializeOwned>(&self) -> Option<T> {
        let Self::Choice(word) = self else { return None };
        let word: StrDeserializer<'_, FormError> = word.as_str().into_deserializer();
        T::deserialize(word).ok()
    }

    pub(super) fn as_flag(&self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(*flag) } else { None }
    }

    pub(super) fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    pub(super) fn as_whole<T: TryFrom<u64>>(&self) -> Option<T> {
        if let Self::Whole(number) = self { T::try_from(*number).ok() } else { None }
    }

    pub(super) fn as_time(&self) -> Option<Duration> {
        if let Self::Time(time) = self { Some(*time) } else { None }
    }

    pub(super) fn take_cpus(&self, taker: impl FnOnce(Option<CpuSet>)) -> Option<()> {
        let Self::Cpus(value) = self else { return None };
        taker(value.clone());
        Some(())
    }

    pub(super) fn take_text(&self, taker: impl FnOnce(Option<String>)) -> Option<()> {
        let Self::Text(value) = self else { return None };
        taker(value.clone());
        Some(())
    }

    pub(super) fn as_names(&self) -> Option<Vec<String>> {
        if let Self::Names(names) = self { Some(names.clone()) } else { None }
    }

    pub(super) fn as_ports(&self) -> Option<BTreeSet<u16>> {
        if let Self::Ports(ports) = self { Some(ports.clone()) } else { None }
    }

    pub(super) fn as_window(&self) -> Option<MaintenanceWindow> {
        if let Self::Window(window) = self { Some(window.clone()) } else { None }
    }

    pub(super) fn as_directory(&self) -> Option<PathBuf> {
        if let Self::Directory(path) = self { Some(path.clone()) } else { None }
    }

    pub(super) fn take_file(&self, taker: impl FnOnce(Option<PathBuf>)) -> Option<()> {
        let Self::File(value) = self else { return None };
        taker(value.clone());
        Some(())
    }

    pub(super) fn take_address(&self, taker: impl FnOnce(Option<SocketAddr>)) -> Option<()> {
        let Self::Address(value) = self else { return None };
        taker(*value);
        Some(())
    }

    /// As it stands in a file; `form` has the word for what is `None`.
    #[must_use]
    pub fn to_toml(&self, form: Form) -> Toml {
        let list = |texts: Vec<String>| Toml::Array(texts.into_iter().map(Toml::String).collect());
        let word = || match form {
            Form::Cpus(word) | Form::Text(word) | Form::File(word) | Form::Address(word) => {
                word.to_owned()
            }
            _ => String::new(),
        };
        match self {
            Self::Flag(flag) => Toml::Boolean(*flag),
            Self::Number(number) => Toml::Float(*number),
            Self::Whole(number) => i64::try_from(*number)
                .map_or_else(|_| Toml::String(number.to_string()), Toml::Integer),
            Self::Time(time) => Toml::String(humantime::format_duration(*time).to_string()),
            Self::Choice(word) => Toml::String(word.clone()),
            Self::Cpus(cpus) => Toml::String(cpus.as_ref().map_or_else(word, ToString::to_string)),
            Self::Text(text) => Toml::String(text.clone().unwrap_or_else(word)),
            Self::Names(names) => list(names.clone()),
            Self::Ports(ports) => {
                Toml::Array(ports.iter().map(|port| Toml::Integer(i64::from(*port))).collect())
            }
            Self::Window(window) => list(window.texts()),
            Self::File(path) => {
                Toml::String(path.as_ref().map_or_else(word, |path| path.display().to_string()))
            }
            Self::Address(address) => {
                Toml::String(address.map_or_else(word, |address| address.to_string()))
            }
            Self::Directory(path) => Toml::String(path.display().to_string()),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expected())
    }
}
