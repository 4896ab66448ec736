//! A rendezvous between threads of one process: `worker selftest`, `worker bench reduce` and tests.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use worker_member::trainer::Rendezvous;

/// Keys in memory.
#[derive(Default)]
pub struct LocalRendezvous {
    keys: Mutex<BTreeMap<String, Vec<u8>>>,
    changed: Condvar,
}

impl Rendezvous for LocalRendezvous {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), value.to_vec());
        self.changed.notify_all();
        Ok(())
    }

    fn get(&self, key: &str, wait_ms: u64) -> Result<Option<Vec<u8>>, String> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (keys, _) = self
            .changed
            .wait_timeout_while(keys, Duration::from_millis(wait_ms), |keys| !keys.contains_key(key))
            .unwrap_or_else(PoisonError::into_inner);
        Ok(keys.get(key).cloned())
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, String> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let old = keys.get(key).map_or("0".to_owned(), |value| String::from_utf8_lossy(value).into_owned());
        let sum = old.parse::<i64>().map_err(|_| format!("{key} is not a counter"))? + amount;
        keys.insert(key.to_owned(), sum.to_string().into_bytes());
        self.changed.notify_all();
        Ok(sum)
    }
}
