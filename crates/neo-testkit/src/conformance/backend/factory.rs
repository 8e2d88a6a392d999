//! How the suite gets at databases, and what is declared of them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use neo_api::{BackendResult, StorageBackend};
use tempfile::TempDir;

/// How the suite gets at databases.
pub trait BackendFactory: Sync {
    /// What a database needs, a directory say; dropping it removes the database.
    type Guard: Send;

    /// Creates a database that has nothing in it, and opens it.
    fn open(&self) -> (Self::Guard, Arc<dyn StorageBackend>);

    /// What the backend can do beyond what each must. Nothing, as the default has it.
    ///
    /// A case of what is declared fails when it does not work. A case of what is not says by name
    /// that it is not declared; and [`the_declared_capabilities`] fails when it would work.
    ///
    /// [`the_declared_capabilities`]: super::capabilities::the_declared_capabilities
    fn declared(&self) -> &[Capability] {
        &[]
    }

    /// Opens a database again; it may still be open, which the backend has to refuse.
    ///
    /// `None`, as the default has it, when nothing survives the end of a backend: when
    /// [`Capability::Persistent`] is not declared.
    fn reopen(&self, _guard: &Self::Guard) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        None
    }

    /// Ends a backend as a loss of power would, or as nearly so as it can be made to, and opens the
    /// database again. By default it is dropped without being closed.
    fn crash(
        &self,
        guard: &Self::Guard,
        backend: Arc<dyn StorageBackend>,
    ) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        drop(backend);
        self.reopen(guard)
    }

    /// Creates and opens a database that has room for about so many bytes: some MiB.
    ///
    /// `None`, as the default has it, when the backend has no limit of its own: when
    /// [`Capability::LimitedSpace`] is not declared.
    fn open_limited(&self, _bytes: u64) -> Option<(Self::Guard, Arc<dyn StorageBackend>)> {
        None
    }

    /// How many random sequences are tried, each on a database of its own. Fewer where it takes
    /// long to create one.
    fn sequences(&self) -> u32 {
        48
    }
}

/// What some backends can do, and others need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// What was applied is there when the database is opened again; a second node can't open it
    /// meanwhile. It is what [`BackendInfo::persistent`](neo_api::BackendInfo::persistent) says.
    Persistent,
    /// [`BackendFactory::crash`] takes what was not synced, at least now and then.
    PowerCut,
    /// It keeps within a number of bytes, and tells when there is no space left.
    LimitedSpace,
    /// Every future is ready when it is first polled: it runs in the simulator.
    Inline,
}

impl Capability {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self::Persistent,
        Self::PowerCut,
        Self::LimitedSpace,
        Self::Inline,
    ];
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Persistent => "persistent",
            Self::PowerCut => "power cut",
            Self::LimitedSpace => "limited space",
            Self::Inline => "inline",
        })
    }
}

/// Databases at a path, which a function opens, and creates where there is none.
#[derive(Debug, Clone, Copy)]
pub struct OnDisk<F>(pub F);

impl<F> BackendFactory for OnDisk<F>
where
    F: Fn(&Path) -> BackendResult<Arc<dyn StorageBackend>> + Sync,
{
    type Guard = TempDir;

    fn open(&self) -> (TempDir, Arc<dyn StorageBackend>) {
        let directory = tempfile::tempdir().expect("a temporary directory is made");
        let backend = (self.0)(&directory.path().join("database"));
        (directory, backend.expect("a database is created"))
    }

    fn declared(&self) -> &[Capability] {
        &[Capability::Persistent]
    }

    fn reopen(&self, directory: &TempDir) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        Some((self.0)(&directory.path().join("database")))
    }
}
