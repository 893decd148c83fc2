//! The budgets' memory, with a bound.

use governor::{
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Callers that one budget tells apart: at most 20 MB. Those who come then share one budget, until others are forgotten.
pub(super) const MAX_KEYS: usize = 100_000;

/// A state for each of the first [`MAX_KEYS`] keys, and one for all others.
#[derive(Debug)]
pub(super) struct Store<K>(Mutex<States<K>>);

#[derive(Debug)]
struct States<K> {
    by_key: HashMap<K, Nanos>,
    others: Option<Nanos>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self(Mutex::new(States { by_key: HashMap::new(), others: None }))
    }
}

impl<K> Store<K> {
    /// What is inside is whole after every step, so a panic elsewhere spoils nothing.
    fn lock(&self) -> MutexGuard<'_, States<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Store<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut states = self.lock();
        if let Some(state) = states.by_key.get_mut(key) {
            let (outcome, new) = measure(Some(*state))?;
            *state = new;
            return Ok(outcome);
        }
        if states.by_key.len() < MAX_KEYS {
            let (outcome, new) = measure(None)?;
            states.by_key.insert(key.clone(), new);
            return Ok(outcome);
        }
        let (outcome, new) = measure(states.others)?;
        states.others = Some(new);
        Ok(outcome)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Store<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut states = self.lock();
        states.by_key.retain(|_, state| *state > drop_below);
        // A rush leaves no large table behind.
        states.by_key.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
