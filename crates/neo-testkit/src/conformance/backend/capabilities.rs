//! What is declared of a backend, and what is so.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use neo_api::{At, BackendError, Durability, Oid, WriteBatch};

use super::tools::{Db, P0, data, run, store};
use super::{BackendFactory, Capability};

/// Whether a case may ask for something; when not, it says so.
pub(super) fn is_declared<F: BackendFactory>(factory: &F, capability: Capability) -> bool {
    let is_declared = factory.declared().contains(&capability);
    if !is_declared {
        println!("not declared: {capability}");
    }
    is_declared
}

/// A matrix of what is declared and what was found, which must be the same.
pub fn the_declared_capabilities<F: BackendFactory>(factory: &F) {
    let (_guard, backend) = factory.open();
    let info = backend.info();
    let mut wrong = Vec::new();
    println!("{:<14} {:<13} in {}", "capability", "declared", info.name);
    for capability in Capability::ALL {
        let is_declared = factory.declared().contains(&capability);
        let outcome = match capability {
            Capability::Persistent => persists(factory, info.persistent),
            // Nothing shows these when nobody says so: chance would decide.
            Capability::PowerCut | Capability::Inline if !is_declared => {
                Err("not asked for".to_owned())
            }
            Capability::PowerCut => loses(factory),
            Capability::LimitedSpace => fills(factory),
            Capability::Inline => is_inline(factory),
        };
        let word = if is_declared { "yes" } else { "not declared" };
        let (works, found) = match outcome {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        println!("{capability:<14} {word:<13} {found}");
        if works != is_declared {
            wrong.push(format!("{capability} ({word}): {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}

/// What was found: as words, of what works or of what does not.
type Found = Result<String, String>;

fn persists<F: BackendFactory>(factory: &F, is_told: bool) -> Found {
    let (guard, backend) = factory.open();
    match factory.reopen(&guard) {
        None if is_told => Ok("info() says so, but reopen() gives nothing".to_owned()),
        None => Err("nothing survives the end".to_owned()),
        Some(Err(BackendError::InUse(_))) => {
            run(async { Db(backend).apply(store(10, 1, "a").into()).await });
            let reopened = factory.reopen(&guard).expect("reopen() gave something");
            let reopened = reopened.expect("the database opens again");
            let seen = run(async { Db(reopened).see(1, At::Latest).await });
            if (seen.as_str(), is_told) == ("10.. a", true) {
                Ok("it is opened again, by one at a time, and has what was applied".to_owned())
            } else {
                Err(format!(
                    "info() says {is_told}, and opened again it has: {seen}"
                ))
            }
        }
        Some(Err(error)) => Err(format!("opened twice, it says: {error}")),
        Some(Ok(_)) => Err("it is opened twice".to_owned()),
    }
}

fn loses<F: BackendFactory>(factory: &F) -> Found {
    const CRASHES: u32 = 20;
    for n in 1..=CRASHES {
        let (guard, backend) = factory.open();
        run(async {
            for id in 1..=5 {
                let batch = WriteBatch::from(vec![data(id, "x")]);
                let applied = backend.apply(batch, Durability::Buffered).await;
                applied.expect("the batch is applied");
            }
        });
        let reopened = factory.crash(&guard, backend).expect("it can be crashed");
        let reopened = reopened.expect("the database opens after a crash");
        let next = run(async { reopened.next_data_id().await });
        if next.expect("tells").0 < 6 {
            return Ok(format!("after {n} crashes something was gone"));
        }
    }
    Err(format!("nothing was gone after {CRASHES} crashes"))
}

fn fills<F: BackendFactory>(factory: &F) -> Found {
    const LIMIT: u64 = 8 << 20;
    let Some((_guard, backend)) = factory.open_limited(LIMIT) else {
        return Err("it has no limit of its own".to_owned());
    };
    let text = "x".repeat(1 << 20);
    for id in 1..=LIMIT >> 19 {
        match run(async {
            Db(Arc::clone(&backend))
                .try_apply(vec![data(id, &text)])
                .await
        }) {
            Ok(()) => {}
            Err(BackendError::Full) => {
                return Ok(format!("{id} MiB do not fit in {}", LIMIT >> 20));
            }
            Err(error) => return Err(format!("a full database says: {error}")),
        }
    }
    Err(format!(
        "twice the {} MiB that it has room for fit",
        LIMIT >> 20
    ))
}

fn is_inline<F: BackendFactory>(factory: &F) -> Found {
    let (_guard, backend) = factory.open();
    // A backend on threads may need a runtime to wait in.
    run(async {
        let written = backend.apply(Vec::from(store(10, 1, "a")).into(), Durability::Synced);
        let is_ready = is_ready(written) && is_ready(backend.load(P0, Oid(1), At::Latest));
        // What still runs is let go with the backend.
        Db(Arc::clone(&backend)).apply(Vec::new()).await;
        if is_ready {
            Ok("every answer is there at once".to_owned())
        } else {
            Err("answers come later".to_owned())
        }
    })
}

fn is_ready<T>(future: impl Future<Output = T>) -> bool {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    matches!(future.as_mut().poll(&mut context), Poll::Ready(_))
}
