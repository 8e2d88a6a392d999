//! Where a storage node keeps its data, and the files of ZODB that it comes from or goes to.

pub mod filestorage;
