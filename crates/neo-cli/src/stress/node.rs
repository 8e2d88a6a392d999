//! A node as a process under `neostress`: what its own program runs, but for the way it takes to
//! others.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use neo_api::Address;
use neo_testkit::process::Runner;

use super::hub::Via;
use crate::config::NodeKind;
use crate::programs::{self, Alone, Programs};

/// First word of the command line of such a process.
const WORD: &str = "__node";

/// What starts nodes whose connections lead through a hub.
pub(super) fn runner(program: PathBuf, hub: &Address) -> Runner {
    Runner {
        program,
        words: vec![WORD.to_owned(), hub.to_string()],
    }
}

/// Runs a node, if that is what the command line is for.
pub(crate) fn main(
    programs: &Programs,
    mut args: impl Iterator<Item = OsString>,
) -> Option<ExitCode> {
    if args.next()? != WORD {
        return None;
    }
    let hub = args.next()?.to_str()?.parse().ok()?;
    let name = args.next()?.into_string().ok()?;
    let program = args.next()?;
    let kind = [NodeKind::Master, NodeKind::Storage, NodeKind::Admin]
        .into_iter()
        .find(|known| program == known.program())?;
    let args = std::iter::once(program).chain(args);
    let programs = programs.clone().transport(Arc::new(Via::new(hub, name)));
    Some(programs::node(&programs, kind, args, &Alone))
}
