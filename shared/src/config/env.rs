//! Reading variables so that all faults come out together, and so that `--help` is made of the same calls.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// Stands for a value that is not UTF-8. No environment can hold it.
const NOT_UTF8: &str = "\0";

/// What a variable expects, for `--help`.
#[derive(Clone, Debug)]
struct Doc {
    name: &'static str,
    expects: &'static str,
    default: String,
}

/// Every variable that is missing or malformed, a line each. Values are never shown.
#[derive(Debug)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// The environment, the notes of what was asked of it, and the faults found so far.
#[derive(Debug, Default)]
pub struct Env {
    values: BTreeMap<String, String>,
    docs: Vec<Doc>,
    faults: Vec<String>,
}

impl Env {
    /// The process's environment, over what a `.env` in the working directory says.
    #[expect(clippy::disallowed_methods, reason = "this is the substitute that clippy.toml names")]
    pub fn from_process() -> Self {
        let mut env = Self::default();
        match dotenvy::from_path_iter(".env") {
            Ok(lines) => {
                for line in lines {
                    match line {
                        Ok((name, value)) => drop(env.values.insert(name, value)),
                        Err(_) => env.faults.push("the file .env has a line that is not NAME=value".into()),
                    }
                }
            }
            Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => env.faults.push("the file .env cannot be read".into()),
        }
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            // A secret that was read wrong would be a guessable one, so nothing accepts this value.
            env.values.insert(name, value.into_string().unwrap_or_else(|_| NOT_UTF8.into()));
        }
        env
    }

    /// Sets a variable, as the environment would.
    pub fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// An environment of these variables only.
    pub fn of<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { values, ..Self::default() }
    }

    /// A variable that must be there.
    pub fn required<T: FromStr>(&mut self, name: &'static str, expects: &'static str) -> Option<T> {
        self.required_as(name, expects, |text| text.parse().ok())
    }

    /// The same, with a way of its own to read it.
    pub fn required_as<T>(
        &mut self,
        name: &'static str,
        expects: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name, expects, "required");
        if value.is_none() {
            self.fault(name, "is missing", expects);
        }
        self.read(name, expects, &value?, read)
    }

    /// A variable with a default. The outer `None` means that it is malformed.
    pub fn or<T: FromStr + fmt::Display>(
        &mut self,
        name: &'static str,
        expects: &'static str,
        default: T,
    ) -> Option<T> {
        match self.value(name, expects, &default.to_string()) {
            Some(text) => self.read(name, expects, &text, |text| text.parse().ok()),
            None => Some(default),
        }
    }

    /// The same for a whole number within `range`.
    pub fn number_or(
        &mut self,
        name: &'static str,
        expects: &'static str,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        match self.value(name, expects, &default.to_string()) {
            Some(text) => {
                self.read(name, expects, &text, |text| text.parse().ok().filter(|number| range.contains(number)))
            }
            None => Some(default),
        }
    }

    /// A variable that may be absent. The outer `None` means that it is malformed.
    pub fn optional<T: FromStr>(&mut self, name: &'static str, expects: &'static str) -> Option<Option<T>> {
        self.optional_as(name, expects, "unset", |text| text.parse().ok())
    }

    /// The same, with a way of its own to read it, and a word for what its absence means.
    pub fn optional_as<T>(
        &mut self,
        name: &'static str,
        expects: &'static str,
        absent: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.value(name, expects, absent) {
            Some(text) => self.read(name, expects, &text, read).map(Some),
            None => Some(None),
        }
    }

    /// A path that must be there, and what its file holds.
    pub fn file(&mut self, name: &'static str, expects: &'static str) -> Option<Vec<u8>> {
        let path: String = self.required(name, expects)?;
        self.contents(name, expects, &path)
    }

    /// The same for a path that may be absent. The outer `None` means that it is malformed.
    pub fn optional_file(&mut self, name: &'static str, expects: &'static str) -> Option<Option<Vec<u8>>> {
        match self.optional::<String>(name, expects)? {
            Some(path) => self.contents(name, expects, &path).map(Some),
            None => Some(None),
        }
    }

    /// Notes a fault of `name` that only its reader could see.
    pub fn fault(&mut self, name: &'static str, what: &str, expects: &str) {
        self.faults.push(format!("{name} {what}; it expects {expects}"));
    }

    /// All faults found so far.
    pub fn faults(&mut self) -> Faults {
        Faults(std::mem::take(&mut self.faults))
    }

    /// Whether nothing was wrong so far.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// A table of every variable that was asked for.
    pub fn help(&self) -> String {
        let name = self.docs.iter().map(|doc| doc.name.len()).max().unwrap_or(0);
        let default = self.docs.iter().map(|doc| doc.default.len()).max().unwrap_or(0);
        let line = |doc: &Doc| format!("  {:name$}  {:default$}  {}", doc.name, doc.default, doc.expects);
        self.docs.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn value(&mut self, name: &'static str, expects: &'static str, default: &str) -> Option<String> {
        self.docs.push(Doc { name, expects, default: default.to_owned() });
        // Compose files and CI systems set an empty text where they mean nothing.
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        expects: &str,
        text: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = if text == NOT_UTF8 { None } else { read(text) };
        if value.is_none() {
            self.fault(name, "is malformed", expects);
        }
        value
    }

    fn contents(&mut self, name: &'static str, expects: &str, path: &str) -> Option<Vec<u8>> {
        std::fs::read(path)
            .inspect_err(|error| {
                self.fault(name, &format!("names a file that cannot be read ({error})"), expects);
            })
            .ok()
    }
}
