//! The keys of a run's configuration that a plan depends on: a file over the coordinator's defaults.

use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::cli::UsageError;

const DEFAULTS: &str = include_str!("../../../coordinator/src/config/defaults.toml");

/// Every key with its value.
#[derive(Debug, Clone)]
pub struct Settings(Table);

impl Settings {
    /// The defaults, and over them a TOML file. Errors name the file and the key that nobody knows.
    pub fn read(file: Option<&Path>) -> Result<Self> {
        let mut all: Table = DEFAULTS.parse().context("the built-in defaults are TOML")?;
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let given: Table = text.parse().with_context(|| path.display().to_string())?;
            merge(&mut all, given, "").with_context(|| path.display().to_string())?;
        }
        Ok(Settings(all))
    }

    /// The value of a key such as `batch.tokens_per_microbatch`.
    fn value(&self, key: &str) -> Result<&Value> {
        let (mut parts, mut value) = (key.split('.'), None);
        let first = parts.next().and_then(|part| self.0.get(part));
        value = first.or(value);
        for part in parts {
            value = value.and_then(|value| value.get(part));
        }
        value.with_context(|| format!("`{key}` is not set"))
    }

    /// A number from 0 on.
    pub fn number(&self, key: &str) -> Result<f64> {
        let value = self.value(key)?;
        let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
        number.filter(|number| *number >= 0.0).with_context(|| format!("`{key}` is {value}, not a number from 0 on"))
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<&str> {
        let value = self.value(key)?;
        value.as_str().with_context(|| format!("`{key}` is {value}, not a text"))
    }

    /// Yes or no.
    pub fn flag(&self, key: &str) -> Result<bool> {
        let value = self.value(key)?;
        value.as_bool().with_context(|| format!("`{key}` is {value}, not true or false"))
    }
}

fn merge(all: &mut Table, given: Table, prefix: &str) -> Result<()> {
    for (key, value) in given {
        match (all.get_mut(&key), value) {
            (Some(Value::Table(inside)), Value::Table(given)) => merge(inside, given, &format!("{prefix}{key}."))?,
            (Some(old), value) => *old = value,
            (None, _) => {
                let reason = format!("`{prefix}{key}` is no key; `coordinator --print-config` lists all");
                return Err(UsageError(reason).into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_over_the_defaults_and_an_unknown_key_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "quantisation = \"none\"\n[batch]\ntokens_per_microbatch = 512\n").unwrap();
        let settings = Settings::read(Some(file.path())).unwrap();
        assert_eq!(settings.number("batch.tokens_per_microbatch").unwrap(), 512.0);
        assert_eq!(
            (settings.text("quantisation").unwrap(), settings.number("worker.recompute_layers").unwrap()),
            ("none", 0.0)
        );
        std::fs::write(file.path(), "[batch]\ntokens = 512\n").unwrap();
        let error = format!("{:#}", Settings::read(Some(file.path())).unwrap_err());
        assert!(error.contains("batch.tokens"), "{error}");
    }
}
