//! Packs, and the wait for them, which ends with Ctrl-C.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use neo_api::{Oid, Tid};
use neo_client::blocking::Client;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{self, tid_bytes};
use crate::error::raise;
use crate::storage::{BaseStorage, tid_argument};

/// The order that is under way, readable cells that have done it, readable cells, and the tid up to
/// which there was a pack.
type Progress<'py> = (
    Option<Bound<'py, PyBytes>>,
    u32,
    u32,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
);

/// How often a wait looks for signals.
pub(crate) const SIGNALS: Duration = Duration::from_millis(100);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for what may take hours: without the interpreter, which handles its signals now and then.
fn interruptible<F: Future + Send>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F::Output: Send,
{
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        let polled = py.detach(|| {
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                std::thread::park_timeout(SIGNALS);
            }
            polled
        });
        match polled {
            Poll::Ready(output) => return Ok(output),
            Poll::Pending => py.check_signals()?,
        }
    }
}

#[pymethods]
impl BaseStorage {
    /// Orders that what was replaced up to `at` is removed: of all objects, or of these. Gives the
    /// tid of the order.
    fn _order_pack<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = tid_argument)] at: Tid,
        oids: Option<Vec<Vec<u8>>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let oids = oids.map(|oids| oids.iter().map(|oid| convert::oid(oid)).collect());
        let oids: Option<Vec<Oid>> = oids.transpose()?;
        let pack = self.wait(py, |client| match oids {
            Some(oids) => client.pack_objects(at, oids),
            None => client.pack(at),
        })?;
        Ok(tid_bytes(py, pack.id()))
    }

    /// Waits until the pack of an order is done, which `pack` gave.
    fn wait_pack(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = tid_argument)] order: Tid,
    ) -> PyResult<()> {
        let client = self.client(py)?;
        let pack = client.as_async().pack_of(order);
        interruptible(py, pack.wait())?.map_err(|error| raise(py, &error))
    }

    /// How far the cluster is with its packs.
    fn _pack_progress<'py>(&self, py: Python<'py>) -> PyResult<Progress<'py>> {
        let progress = self.wait(py, Client::pack_progress)?;
        let order = progress.order.map(|order| tid_bytes(py, order));
        let packed_at = tid_bytes(py, progress.packed_at);
        let whole_packed_at = tid_bytes(py, progress.whole_packed_at);
        let (cells_done, cells) = (progress.cells_done, progress.cells);
        Ok((order, cells_done, cells, packed_at, whole_packed_at))
    }
}
