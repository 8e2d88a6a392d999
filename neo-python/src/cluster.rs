//! Whole clusters in this process, for tests.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};

use neo_testkit::{Cluster as Nodes, ClusterError};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::runtime::Runtime;

struct Running {
    nodes: Nodes,
    runtime: Runtime,
}

/// A cluster in this process: masters and storage nodes on threads of their own, data in memory,
/// reached over the loopback interface.
#[pyclass(frozen, subclass, weakref, module = "neozodb._neozodb")]
pub(crate) struct BaseCluster {
    running: Mutex<Option<Running>>,
    /// Whose it is: after a fork, its threads do not run in the child.
    process: u32,
}

/// Storage nodes are many threads' work; a few do for a test.
const THREADS: usize = 2;

/// What is said of a parent's cluster in a child process.
const FORKED: &str = "the cluster was started before a fork, and is the parent's: start another one \
                      in the child process, or open a storage at the addresses of its masters";

fn failed(error: &ClusterError) -> PyErr {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        words = format!("{words}: {reason}");
        source = reason.source();
    }
    PyRuntimeError::new_err(words)
}

impl Drop for BaseCluster {
    fn drop(&mut self) {
        if self.is_of_parent() {
            let running = self
                .running
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            // Dropping it would wait for its threads.
            std::mem::forget(running.take());
        }
    }
}

impl BaseCluster {
    fn is_of_parent(&self) -> bool {
        std::process::id() != self.process
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Running) -> Result<T, ClusterError> + Send,
    ) -> PyResult<T> {
        if self.is_of_parent() {
            return Err(PyRuntimeError::new_err(FORKED));
        }
        let done = py.detach(|| {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_mut().map(f)
        });
        done.ok_or_else(|| PyRuntimeError::new_err("the cluster was stopped"))?
            .map_err(|error| failed(&error))
    }
}

/// A node that is there, from 1.
fn check(n: usize, nodes: usize) -> Result<usize, PyErr> {
    if (1..=nodes).contains(&n) {
        return Ok(n);
    }
    let words = format!("there are nodes 1 to {nodes}, no {n}");
    Err(PyValueError::new_err(words))
}

#[pymethods]
impl BaseCluster {
    #[new]
    #[pyo3(signature = (*, name = "test", masters = 1, storages = 1, replicas = None, partitions = 12))]
    fn new(
        py: Python<'_>,
        name: &str,
        masters: usize,
        storages: usize,
        replicas: Option<u32>,
        partitions: u32,
    ) -> PyResult<Self> {
        if masters == 0 || storages == 0 || partitions == 0 {
            let words = "a cluster has at least one master, one storage and one partition";
            return Err(PyValueError::new_err(words));
        }
        let builder = Nodes::builder()
            .name(name)
            .masters(masters)
            .storages(storages)
            .replicas(replicas.unwrap_or_else(|| u32::from(storages > 1)))
            .partitions(partitions)
            .tcp();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("neo-cluster")
            .enable_all()
            .build()?;
        let nodes = py
            .detach(|| runtime.block_on(builder.start()))
            .map_err(|error| failed(&error))?;
        Ok(Self {
            running: Mutex::new(Some(Running { nodes, runtime })),
            process: std::process::id(),
        })
    }

    /// The name of the cluster.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |running| Ok(running.nodes.name().to_owned()))
    }

    /// Addresses of its masters, separated by spaces.
    #[getter]
    fn masters(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |running| {
            let masters = running.nodes.masters();
            let words: Vec<String> = masters.iter().map(ToString::to_string).collect();
            Ok(words.join(" "))
        })
    }

    /// Ends a master as a crash does.
    fn kill_master(&self, py: Python<'_>, n: usize) -> PyResult<()> {
        let n = check(
            n,
            self.with(py, |running| Ok(running.nodes.masters().len()))?,
        )?;
        self.with(py, |running| {
            running.runtime.block_on(running.nodes.kill_master(n));
            Ok(())
        })
    }

    /// Starts a master again, at the address that it had.
    fn restart_master(&self, py: Python<'_>, n: usize) -> PyResult<()> {
        let n = check(
            n,
            self.with(py, |running| Ok(running.nodes.masters().len()))?,
        )?;
        self.with(py, |running| {
            running.runtime.block_on(running.nodes.restart_master(n))
        })
    }

    /// Ends a storage node as a crash does.
    fn kill_storage(&self, py: Python<'_>, n: usize) -> PyResult<()> {
        let n = check(n, self.with(py, |running| Ok(running.nodes.storages()))?)?;
        self.with(py, |running| {
            running.runtime.block_on(running.nodes.kill_storage(n));
            Ok(())
        })
    }

    /// Starts a storage node again, with the data that it had.
    fn restart_storage(&self, py: Python<'_>, n: usize) -> PyResult<()> {
        let n = check(n, self.with(py, |running| Ok(running.nodes.storages()))?)?;
        self.with(py, |running| {
            running.runtime.block_on(running.nodes.restart_storage(n))
        })
    }

    /// Ends all nodes, and the data. May be called twice; does nothing in a child process, whose
    /// parent's it is.
    fn stop(&self, py: Python<'_>) {
        if self.is_of_parent() {
            return;
        }
        py.detach(|| {
            let running = self
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(mut running) = running {
                running.runtime.block_on(running.nodes.kill_all());
                running.runtime.shutdown_background();
            }
        });
    }
}
