//! Transports with one thing wrong: each case of the suite finds one out, at least.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use neo_proto::net::MemoryNetwork;
use neo_testkit::conformance::transport::{TransportFactory, cases};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[macro_use]
#[path = "support/mutants.rs"]
mod mutants;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    Nothing,
    PortIsUnknown,
    BindsTwice,
    AddressesStayTaken,
    ConnectsToNobody,
    ConnectsTenTimes,
    Garbles,
    SlicesBackwards,
    HoldsBack,
    ShutdownEndsBoth,
    SaysGoodbye,
    EndsEarly,
}

use Mutation as M;

#[derive(Debug)]
struct Mutant {
    inner: MemoryNetwork,
    mutation: Mutation,
    attempts: AtomicU32,
}

#[async_trait]
impl Transport for Mutant {
    async fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        let attempts = self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.mutation == M::ConnectsTenTimes && attempts >= 10 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let stream = match self.inner.connect(to).await {
            Err(_) if self.mutation == M::ConnectsToNobody => {
                let mut nobody = self.inner.bind(&Address::new("nobody", 0)).await?;
                let address = nobody.local_address();
                let (near, far) = tokio::join!(self.inner.connect(&address), nobody.accept());
                mem::forget(far?);
                near?
            }
            outcome => outcome?,
        };
        Ok(Box::new(MutantStream::new(stream, self.mutation)))
    }

    async fn bind(&self, at: &Address) -> io::Result<Box<dyn Listener>> {
        let inner = match self.inner.bind(at).await {
            Err(_) if self.mutation == M::BindsTwice => {
                self.inner.bind(&Address::new("elsewhere", 0)).await?
            }
            outcome => outcome?,
        };
        Ok(Box::new(MutantListener {
            inner: Some(inner),
            mutation: self.mutation,
        }))
    }
}

#[derive(Debug)]
struct MutantListener {
    inner: Option<Box<dyn Listener>>,
    mutation: Mutation,
}

#[async_trait]
impl Listener for MutantListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, Address)> {
        let (stream, from) = self.inner.as_mut().unwrap().accept().await?;
        Ok((Box::new(MutantStream::new(stream, self.mutation)), from))
    }

    fn local_address(&self) -> Address {
        let address = self.inner.as_ref().unwrap().local_address();
        match self.mutation {
            M::PortIsUnknown => Address::new(address.host(), 0),
            _ => address,
        }
    }
}

impl Drop for MutantListener {
    fn drop(&mut self) {
        if self.mutation == M::AddressesStayTaken {
            mem::forget(self.inner.take());
        }
    }
}

#[derive(Debug)]
struct MutantStream {
    inner: Box<dyn Stream>,
    mutation: Mutation,
    read: usize,
    is_shut: bool,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl MutantStream {
    fn new(inner: Box<dyn Stream>, mutation: Mutation) -> Self {
        Self {
            inner,
            mutation,
            read: 0,
            is_shut: false,
            pause: None,
        }
    }
}

impl AsyncRead for MutantStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let has_ended = match self.mutation {
            M::ShutdownEndsBoth => self.is_shut,
            M::EndsEarly => self.read > 1 << 20,
            _ => false,
        };
        if has_ended {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        self.read += buffer.filled().len() - before;
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for MutantStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.mutation == M::Garbles && bytes.len() > 1_000 {
            let mut bytes = bytes.to_vec();
            bytes[0] ^= 1;
            return Pin::new(&mut self.inner).poll_write(context, &bytes);
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut full = slices.iter().filter(|slice| !slice.is_empty());
        let first = match self.mutation {
            M::SlicesBackwards => full.next_back(),
            _ => full.next(),
        };
        let first = first.map_or(&[][..], |slice| slice);
        Pin::new(&mut self.inner).poll_write(context, first)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.mutation == M::HoldsBack {
            let sleep = || Box::pin(tokio::time::sleep(Duration::from_millis(16)));
            ready!(self.pause.get_or_insert_with(sleep).as_mut().poll(context));
            self.pause = None;
        }
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl Drop for MutantStream {
    fn drop(&mut self) {
        if self.mutation == M::SaysGoodbye {
            let mut context = Context::from_waker(Waker::noop());
            let said = Pin::new(&mut self.inner).poll_write(&mut context, b"goodbye");
            assert!(!matches!(said, Poll::Pending), "there is room for a word");
        }
    }
}

impl TransportFactory for Mutation {
    fn open(&self) -> Arc<dyn Transport> {
        Arc::new(Mutant {
            inner: MemoryNetwork::new(),
            mutation: *self,
            attempts: AtomicU32::new(0),
        })
    }

    fn address(&self) -> Address {
        Address::new("node", 0)
    }
}

found_out! {
    listeners::port_0_takes_any_free_port: PortIsUnknown;
    listeners::an_address_is_taken_once: BindsTwice;
    listeners::an_address_is_free_again: AddressesStayTaken;
    listeners::nobody_listens: ConnectsToNobody;
    listeners::a_listener_that_is_gone: ConnectsToNobody;
    listeners::a_dropped_attempt_harms_nobody: ConnectsTenTimes;
    listeners::many_connections_at_once: ConnectsTenTimes;
    streams::bytes_keep_their_order: Garbles;
    streams::large_transfers_both_ways_at_once: Garbles EndsEarly;
    streams::many_slices_are_written_in_order: SlicesBackwards;
    streams::bytes_are_sent_without_waiting_for_more: HoldsBack;
    streams::half_a_connection_is_closed: ShutdownEndsBoth;
    streams::dropping_closes: SaysGoodbye;
    streams::bytes_written_before_the_end_arrive: EndsEarly;
    random::any_traffic_arrives_as_it_was_sent: Garbles SlicesBackwards ShutdownEndsBoth;
}
