//! Built-in defaults < TOML file < environment < `--set`, each value with its origin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::schema::Config;

const DEFAULTS: &str = include_str!("defaults.toml");
/// `POLYA_TRAIN__MAX_LENGTH` is `train.max_length`.
const PREFIX: &str = "POLYA_";
/// Variables with the prefix that are no configuration.
const OTHER_VARIABLES: [&str; 2] = ["POLYA_LOG", "POLYA_LIBTORCH_CUDA"];

/// A configuration that cannot be used. All of them are exit 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not TOML.
    #[error("{path}: {error}")]
    Toml {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// There is no such key.
    #[error("{origin}: there is no key `{key}`; did you mean `{nearest}`? (`coordinator --print-config` lists all)")]
    Unknown {
        /// Which layer.
        origin: String,
        /// The key.
        key: String,
        /// The most similar one.
        nearest: String,
    },
    /// `--set` without `=`.
    #[error("--set {0}: expected KEY=VALUE")]
    Set(String),
    /// A value of the wrong type.
    #[error("`{key}` = {value} ({origin}): {reason}")]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// Where.
        origin: String,
        /// What is expected.
        reason: String,
    },
    /// A path that is not there.
    #[error("`{key}`: {path} does not exist")]
    Missing {
        /// The key.
        key: &'static str,
        /// The path.
        path: PathBuf,
    },
}

/// A configuration and where each value came from.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The values.
    pub config: Config,
    /// By key: `default`, a file, a variable, `--set`.
    pub origins: BTreeMap<String, String>,
}

/// Writes a nested table as dotted keys.
pub(super) fn flatten(prefix: &str, value: &toml::Value, flat: &mut BTreeMap<String, toml::Value>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, flat);
            }
        }
        other => drop(flat.insert(prefix.to_owned(), other.clone())),
    }
}

/// Loads all layers; the environment is the process's own.
pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Resolved, ConfigError> {
    let variables = std::env::vars().filter(|(name, _)| name.starts_with(PREFIX));
    resolve(file.map(read).transpose()?, variables, sets)
}

/// Loads the run.toml of a run, with `--set` on top.
pub fn of_run_toml(path: &Path, sets: &[String]) -> Result<(Config, Resolved), ConfigError> {
    let old = resolve(Some(read(path)?), std::iter::empty(), &[])?;
    let new = resolve(Some(read(path)?), std::iter::empty(), sets)?;
    Ok((old.config, new))
}

type Layer = (String, BTreeMap<String, toml::Value>);

fn read(path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File { path: path.to_owned(), error })?;
    let table: toml::Value = toml::from_str::<toml::Table>(&text)
        .map(toml::Value::Table)
        .map_err(|error| ConfigError::Toml { path: path.to_owned(), error: Box::new(error) })?;
    let mut flat = BTreeMap::new();
    flatten("", &table, &mut flat);
    Ok((path.display().to_string(), flat))
}

fn resolve(
    file: Option<Layer>,
    variables: impl Iterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Resolved, ConfigError> {
    let defaults: toml::Table = toml::from_str(DEFAULTS).expect("the built-in defaults are TOML");
    let mut known = BTreeMap::new();
    flatten("", &toml::Value::Table(defaults), &mut known);
    let mut layers: Vec<Layer> = file.into_iter().collect();
    for (name, text) in variables.filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str())) {
        let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        layers.push((name, BTreeMap::from([(key, value_of(&text))])));
    }
    for set in sets {
        let (key, text) = set.split_once('=').ok_or_else(|| ConfigError::Set(set.clone()))?;
        let mut flat = BTreeMap::new();
        flatten(key.trim(), &value_of(text.trim()), &mut flat);
        layers.push(("--set".to_owned(), flat));
    }
    let mut origins: BTreeMap<String, String> = known.keys().map(|key| (key.clone(), "default".to_owned())).collect();
    let mut builder = config::Config::builder().add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
    for (origin, values) in layers {
        for (key, value) in values {
            if !known.contains_key(&key) {
                let nearest = nearest(&key, known.keys());
                return Err(ConfigError::Unknown { origin, key, nearest });
            }
            check_type(&key, &known[&key], &value, &origin)?;
            builder = builder.set_override(&key, plain(&value)).map_err(|error| wrong(&key, &value, &origin, error))?;
            origins.insert(key, origin.clone());
        }
    }
    let config: Config = builder
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| wrong("configuration", &toml::Value::Boolean(true), "all layers", error))?;
    if let Some((key, expected)) = config.first_fault() {
        let origin = origins.get(key).cloned().unwrap_or_default();
        let value = super::flat(&config).remove(key).unwrap_or_default();
        return Err(ConfigError::Value { key: key.to_owned(), value, origin, reason: format!("must be {expected}") });
    }
    for (key, path) in [
        ("base.path", &config.base.path),
        ("adapter.path", &config.adapter.path),
        ("data.train", &config.data.train),
        ("data.holdout", &config.data.holdout),
    ] {
        if !path.is_empty() && !Path::new(path).exists() {
            return Err(ConfigError::Missing { key, path: PathBuf::from(path) });
        }
    }
    Ok(Resolved { config, origins })
}

/// A value as TOML, else as a text.
fn value_of(text: &str) -> toml::Value {
    let parsed =
        toml::from_str::<toml::Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// The value for the `config` crate.
fn plain(value: &toml::Value) -> config::Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(flag) => (*flag).into(),
        other => other.to_string().into(),
    }
}

/// A value has the default's type; whole numbers serve as fractions.
fn check_type(key: &str, default: &toml::Value, value: &toml::Value, origin: &str) -> Result<(), ConfigError> {
    use toml::Value::{Float, Integer};
    let fits = match (default, value) {
        (Float(_), Float(_) | Integer(_)) => true,
        (Integer(_), Integer(number)) => *number >= 0,
        (default, value) => default.same_type(value),
    };
    let expected = match default {
        Integer(_) => "a whole number, 0 or above",
        Float(_) => "a number",
        toml::Value::Boolean(_) => "true or false",
        _ => "a text",
    };
    let reason = format!("expected {expected}");
    let (key, value, origin) = (key.to_owned(), value.to_string(), origin.to_owned());
    if fits { Ok(()) } else { Err(ConfigError::Value { key, value, origin, reason }) }
}

fn wrong(key: &str, value: &toml::Value, origin: &str, error: config::ConfigError) -> ConfigError {
    let (key, value, origin) = (key.to_owned(), value.to_string(), origin.to_owned());
    ConfigError::Value { key, value, origin, reason: error.to_string() }
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> String {
    let similarity = |a: &str| (strsim::jaro_winkler(key, a) * 1e9) as u64;
    known.max_by_key(|name| similarity(name)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(list: &[&str]) -> Result<Resolved, ConfigError> {
        let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
        resolve(None, std::iter::empty(), &list)
    }

    #[test]
    fn later_layers_win_and_say_so() {
        let file = ("run.toml".to_owned(), BTreeMap::from([("train.steps".to_owned(), toml::Value::Integer(7))]));
        let variables =
            [("POLYA_TRAIN__MAX_LENGTH".to_owned(), "77".to_owned()), ("POLYA_LOG".to_owned(), "x".to_owned())];
        let resolved = resolve(Some(file), variables.into_iter(), &["train.steps=9".to_owned()]).unwrap();
        assert_eq!((resolved.config.train.steps, resolved.config.train.max_length), (9, 77));
        assert_eq!(resolved.origins["train.steps"], "--set");
        assert_eq!(resolved.origins["train.max_length"], "POLYA_TRAIN__MAX_LENGTH");
        assert_eq!(resolved.origins["run.seed"], "default");
    }

    #[test]
    fn a_mistyped_key_names_the_nearest_one() {
        let error = sets(&["train.step=3"]).unwrap_err().to_string();
        assert!(error.contains("`train.step`") && error.contains("`train.steps`"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_expected() {
        for (set, expected) in [
            ("train.steps=many", "a whole number"),
            ("train.steps=-1", "a whole number"),
            ("adapter.verification=3", "true or false"),
            ("adapter.dropout=1.0", "less than 1"),
            ("loss.mode=slowest", "`static`, `dynamic` or `uniform`"),
            ("worker.device=gpu", "`cuda`"),
            ("data.prompt=chat", "instruct base"),
            ("failure_detection=2", "a text"),
            ("failure_detection=1ms", "100ms"),
        ] {
            let error = sets(&[set]).unwrap_err().to_string();
            assert!(error.contains(expected), "{set}: {error}");
        }
        assert!(matches!(sets(&["base.path=/no/such/place"]), Err(ConfigError::Missing { key: "base.path", .. })));
        assert!(matches!(sets(&["train.steps"]), Err(ConfigError::Set(_))));
        assert_eq!(sets(&["loss.weights={plan=0.5}"]).unwrap().config.loss.weights.plan, 0.5);
    }

    #[test]
    fn run_toml_reads_back_as_it_was() {
        let config = sets(&["train.learning_rate=1e-4", "run.seed=7"]).unwrap().config;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let (old, new) =
            of_run_toml(&path, &["train.steps=5".to_owned(), "worker.recompute_layers=4".to_owned()]).unwrap();
        assert_eq!(old, config);
        assert_eq!(super::super::changed_outcome(&old, &new.config), ["train.steps"]);
    }
}
