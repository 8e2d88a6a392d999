//! Pages of each partition, to be merged.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

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

/// Pages with the places of the cursors that they are for.
type Replies = Vec<(usize, Reply)>;

/// How far each partition was read, and what is asked for.
pub(crate) struct Cursors<T, N> {
    pub(crate) list: Vec<Cursor<T, N>>,
    /// Kept between polls: a page that was asked for is not asked for again.
    asked: Option<Pin<Box<dyn Future<Output = Result<Replies>> + Send>>>,
}

impl<T: fmt::Debug, N: fmt::Debug> fmt::Debug for Cursors<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursors")
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

impl<T, N: Copy> Cursors<T, N> {
    /// One for each partition.
    pub(crate) fn of_each(partitions: impl Iterator<Item = Partition>, next: Option<N>) -> Self {
        let cursor = |partition| Cursor {
            partition,
            page: VecDeque::new(),
            next,
        };
        Self {
            list: partitions.map(cursor).collect(),
            asked: None,
        }
    }

    /// Those that have something at hand.
    pub(crate) fn filled(&mut self) -> impl Iterator<Item = &mut Cursor<T, N>> {
        let cursors = self.list.iter_mut();
        cursors.filter(|cursor| !cursor.page.is_empty())
    }

    /// What was read is let go; each goes on from there.
    pub(crate) fn reset(&mut self, next: impl Fn(Partition) -> Option<N>) {
        self.asked = None;
        for cursor in &mut self.list {
            cursor.page.clear();
            cursor.next = next(cursor.partition);
        }
    }

    /// Until each has something at hand, or nothing left. All that need a page ask at once.
    ///
    /// After [`Error::NotReady`] and [`Error::Timeout`] it may be polled again, and asks again. After
    /// any other error there is nothing left: who ignores errors comes to an end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        client: &Client,
        page: impl Fn(Partition, N) -> Page,
        take: impl FnMut(&mut Cursor<T, N>, Reply) -> Result<()>,
    ) -> Poll<Result<()>> {
        let filled = ready!(self.poll_pages(cx, client, page, take));
        if let Err(error) = &filled
            && !matches!(error, Error::NotReady(_) | Error::Timeout(_))
        {
            self.reset(|_| None);
        }
        Poll::Ready(filled)
    }

    fn poll_pages(
        &mut self,
        cx: &mut Context<'_>,
        client: &Client,
        page: impl Fn(Partition, N) -> Page,
        mut take: impl FnMut(&mut Cursor<T, N>, Reply) -> Result<()>,
    ) -> Poll<Result<()>> {
        loop {
            let asked = match &mut self.asked {
                Some(asked) => asked,
                None => {
                    let pages = self.missing(&page);
                    if pages.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    self.asked.insert(Box::pin(ask(client.clone(), pages)))
                }
            };
            let replies = ready!(asked.as_mut().poll(cx));
            self.asked = None;
            for (at, reply) in replies? {
                take(&mut self.list[at], reply)?;
            }
        }
    }

    fn missing(&self, page: impl Fn(Partition, N) -> Page) -> Vec<(usize, Page)> {
        let cursors = self.list.iter().enumerate();
        let empty = cursors.filter(|(_, cursor)| cursor.page.is_empty());
        empty
            .filter_map(|(at, cursor)| Some((at, page(cursor.partition, cursor.next?))))
            .collect()
    }
}

/// Asks for pages, all at once; the replies are in their order.
pub(crate) async fn ask(client: Client, pages: Vec<(usize, Page)>) -> Result<Replies> {
    client.inner.shared.check_open()?;
    let mut asked = Vec::with_capacity(pages.len());
    for (at, page) in pages {
        let pending = client.inner.shared.wait()?;
        let reply = pending.id;
        let command = Command::Page { reply, page };
        client.inner.commands.send(command).await?;
        asked.push((at, pending));
    }
    let mut replies = Vec::with_capacity(asked.len());
    for (at, pending) in asked {
        match pending.answer().await? {
            Answer::Reply(reply) => replies.push((at, reply)),
            other => return Err(Error::Node(format!("{other:?} is no page"))),
        }
    }
    Ok(replies)
}

/// A page of one kind from each partition, in their order.
pub(crate) async fn of_all(
    client: &Client,
    page: impl Fn(Partition) -> Page,
) -> Result<Vec<Reply>> {
    let partitioning = client.known_partitioning()?;
    let pages = partitioning.iter().map(page).enumerate().collect();
    let replies = ask(client.clone(), pages).await?;
    Ok(replies.into_iter().map(|(_, reply)| reply).collect())
}
