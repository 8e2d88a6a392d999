//! A full disk, as far as this node has noticed: the primary is told, and a node that is sent away
//! because it can't take part comes back ever later.
//!
//! Without that it would be let in and sent away again with each transaction that finds no place.

use std::time::Duration;

use neo_api::{BackendError, BackendResult, Instant};
use neo_proto::{Effects, Packet};

use super::StorageCore;
use super::io::AfterPersist;
use super::master_link::MasterLink;

/// A write that finds place so long after the last one that found none tells that there is space
/// again: next to a large value that finds none, a small one may.
const CALM: Duration = Duration::from_secs(10);

/// How long the node stays away at first; it doubles each time.
const AWAY_MIN: Duration = Duration::from_secs(1);

/// The longest that it stays away, and so the longest until it comes back once there is space.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// Whether there is space, and how it went since there is none.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// When a write last found no place; `None`: there is space.
    refused: Option<Instant>,
    /// How often the node was sent away since.
    sent_away: u32,
}

impl Space {
    pub(crate) const fn is_full(&self) -> bool {
        self.refused.is_some()
    }

    /// A write is done; `true`: that is news.
    pub(crate) fn tried(&mut self, now: Instant, result: &BackendResult<()>) -> bool {
        let is_news = !self.is_full() && matches!(result, Err(BackendError::Full));
        if matches!(result, Err(BackendError::Full)) {
            self.refused = Some(now);
        }
        is_news
    }

    /// This was written; `true`: there is space again.
    pub(crate) fn written(&mut self, now: Instant, what: &AfterPersist) -> bool {
        // What is not data may have been kept a place.
        let is_data = matches!(
            what,
            AfterPersist::Data { .. }
                | AfterPersist::Vote(_)
                | AfterPersist::Fetched(_)
                | AfterPersist::Import { .. }
        );
        let is_news = is_data && self.refused.is_some_and(|at| now.since(at) >= CALM);
        if is_news {
            *self = Self::default();
        }
        is_news
    }

    /// Tells the primary, and the log.
    pub(crate) fn tell(&self, link: &MasterLink, out: &mut Effects<StorageCore>) {
        let is_full = self.is_full();
        if is_full {
            tracing::warn!("no space left: new data is refused; what is missed comes later");
        } else {
            tracing::info!("there is space again: new data was written");
        }
        if let Some(conn) = link.up() {
            out.notify(conn, Packet::NotifySpace { is_full });
        }
    }

    /// The primary has sent this node away: for how long it stays away.
    pub(crate) fn sent_away(&mut self) -> Option<Duration> {
        let away = AWAY_MIN.saturating_mul(1 << self.sent_away.min(16));
        self.is_full().then(|| {
            self.sent_away = self.sent_away.saturating_add(1);
            away.min(AWAY_MAX)
        })
    }
}
