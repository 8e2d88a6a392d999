//! Pages of each partition, to be merged.

use std::collections::VecDeque;

use neo_api::Partition;

use crate::client::Client;
use crate::core::{Command, Page, Reply};
use crate::error::{Error, Result};
use crate::shell::Answer;

/// How far one partition was read.
#[derive(Debug)]
pub(crate) struct Cursor<T, N> {
    pub(crate) partition: Partition,
    pub(crate) page: VecDeque<T>,
    /// Where the next page starts; `None`: there is none.
    pub(crate) next: Option<N>,
}

impl<T, N: Copy> Cursor<T, N> {
    /// One for each partition.
    pub(crate) fn of_each(
        partitions: impl Iterator<Item = Partition>,
        next: Option<N>,
    ) -> Vec<Self> {
        let cursor = |partition| Self {
            partition,
            page: VecDeque::new(),
            next,
        };
        partitions.map(cursor).collect()
    }
}

/// Asks for the pages of all cursors that need one, at once.
pub(crate) async fn fetch<T, N: Copy>(
    client: &Client,
    cursors: &[Cursor<T, N>],
    page: impl Fn(Partition, N) -> Page,
) -> Result<Vec<(usize, Reply)>> {
    let mut asked = Vec::new();
    for (at, cursor) in cursors.iter().enumerate() {
        if let (true, Some(next)) = (cursor.page.is_empty(), cursor.next) {
            let pending = client.inner.shared.wait()?;
            let (reply, page) = (pending.id, page(cursor.partition, next));
            let command = Command::Page { reply, page };
            client.inner.commands.send(command).await?;
            asked.push((at, pending));
        }
    }
    let mut replies = Vec::new();
    for (at, pending) in asked {
        match pending.answer().await? {
            Answer::Reply(reply) => replies.push((at, reply)),
            other => return Err(Error::Node(format!("{other:?} is no page"))),
        }
    }
    Ok(replies)
}
