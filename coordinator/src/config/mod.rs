//! The configuration of a run: typed, layered, every value with its origin.

mod layers;
mod schema;

pub use layers::{ConfigError, Resolved, load, of_run_toml};
pub use schema::Config;

use std::collections::BTreeMap;

/// Keys that may change at `--resume`: they do not touch the outcome.
const FREE: [&str; 10] = [
    "run.min_workers",
    "run.second_computation",
    "run.allow_mixed",
    "failure_detection",
    "checkpoint.keep",
    "checkpoint.store",
    "evaluation.batch",
    "worker.park_limit",
    "worker.device",
    "worker.recompute_layers",
];

/// Every value as text, by key.
pub fn flat(config: &Config) -> BTreeMap<String, String> {
    let value = toml::Value::try_from(config).expect("the configuration is plain numbers, texts and tables");
    let mut flat = BTreeMap::new();
    layers::flatten("", &value, &mut flat);
    flat.into_iter().map(|(key, value)| (key, value.to_string())).collect()
}

/// The values that decide the outcome, as one text that is hashed into the journal.
pub fn outcome_text(config: &Config) -> String {
    let deciding = flat(config).into_iter().filter(|(key, _)| !FREE.contains(&key.as_str()));
    deciding.map(|(key, value)| format!("{key} = {value}\n")).collect()
}

/// Keys whose change at `--resume` would change the outcome.
pub fn changed_outcome(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (flat(old), flat(new));
    let changed = old.into_iter().filter(|(key, value)| new.get(key) != Some(value));
    changed.map(|(key, _)| key).filter(|key| !FREE.contains(&key.as_str())).collect()
}
