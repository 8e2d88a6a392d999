//! The extension module under the Python package `neozodb`: a ZODB storage over `neo-client`.
//!
//! All the work is done here; `python/neozodb` adds what has to be Python: interfaces, ZConfig,
//! iterators in ZODB's shape. The interpreter is let go around every wait.

mod cluster;
mod convert;
mod error;
mod history;
mod iterator;
mod log;
mod pack;
mod shared;
mod storage;
mod transaction;

#[pyo3::pymodule]
mod _neozodb {
    #[pymodule_export]
    use super::cluster::BaseCluster;
    #[pymodule_export]
    use super::error::errors;
    #[pymodule_export]
    use super::iterator::TransactionIterator;
    #[pymodule_export]
    use super::log::log_to;
    #[pymodule_export]
    use super::storage::BaseStorage;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
