//! How many sets of notifications a process works on at once, and which of them must be alone.

use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// While one set is verified, PostgreSQL writes the other. More would only make each of them smaller.
pub const SETS: u32 = 2;

/// The sets that a process has in hand. Clones are of the same ones. Whoever waits is served in turn, so neither kind keeps
/// the other waiting for ever.
#[derive(Clone, Debug)]
pub struct InHand(Arc<Semaphore>);

impl Default for InHand {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SETS as usize)))
    }
}

impl InHand {
    /// For a set that nobody is blamed for, whatever happens: as soon as there is room.
    pub async fn beside_others(&self) -> SemaphorePermit<'_> {
        self.take(1).await
    }

    /// For a set that is blamed when the process dies, see `notify::suspects`: once nothing else is in hand that it may have
    /// died of, and nothing else until it is done.
    pub async fn alone(&self) -> SemaphorePermit<'_> {
        self.take(SETS).await
    }

    /// Whether nothing is in hand, and nobody waits to take something.
    pub fn is_free(&self) -> bool {
        self.0.available_permits() == SETS as usize
    }

    async fn take(&self, room: u32) -> SemaphorePermit<'_> {
        self.0.acquire_many(room).await.expect("it is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn two_sets_share_the_process_and_one_that_may_kill_it_has_it_alone() {
        let in_hand = InHand::default();
        let first = in_hand.beside_others().now_or_never().expect("nothing is in hand");
        let second = in_hand.beside_others().now_or_never().expect("there is room for two");
        assert!(in_hand.beside_others().now_or_never().is_none(), "a third one waits");
        drop(first);
        assert!(in_hand.alone().now_or_never().is_none(), "one is still in hand");
        assert!(!in_hand.is_free());
        drop(second);
        assert!(in_hand.is_free());
        let alone = in_hand.alone().now_or_never().expect("nothing is in hand");
        assert!(in_hand.beside_others().now_or_never().is_none(), "it is alone");
        assert!(in_hand.alone().now_or_never().is_none(), "in its own kind too");
        drop(alone);
        assert!(in_hand.beside_others().now_or_never().is_some());
    }

    #[tokio::test]
    async fn whoever_waits_is_served_in_turn() {
        let in_hand = InHand::default();
        let first = in_hand.beside_others().await;
        let mut alone = Box::pin(in_hand.alone());
        assert!(alone.as_mut().now_or_never().is_none(), "one is in hand");
        assert!(in_hand.beside_others().now_or_never().is_none(), "there is room, but somebody was here before");
        drop(first);
        assert!(alone.as_mut().now_or_never().is_some());
    }
}
