//! All that a small database answers, as text.

use std::fmt::Write;
use std::task::{Context, Poll, Waker};

use neo_api::{
    At, DataId, Oid, Order, PageLimit, Partition, Reign, RevisionId, StorageBackend, Tid, TxnId,
};

/// The result of a future of a backend that runs inline.
pub(crate) fn ready<R>(future: impl Future<Output = R>) -> R {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the future of an inline backend is not ready"),
    }
}

macro_rules! line {
    ($out:ident, $backend:ident.$read:ident($($arg:expr),*)) => {
        let answer = ready($backend.$read($($arg),*));
        writeln!($out, "{}{:?}: {answer:?}", stringify!($read), ($($arg,)*)).unwrap();
    };
}

/// Every answer about partitions 0 and 1, oids 0 to 5, tids to 70, the reigns 1 and 2.
pub(crate) fn dump(backend: &dyn StorageBackend) -> String {
    let mut out = String::new();
    let every = RevisionId {
        tid: Tid(0),
        oid: Oid(0),
    };
    line!(out, backend.partition_table());
    line!(out, backend.next_data_id());
    line!(out, backend.loose_data(None::<(TxnId, DataId)>, 1000));
    line!(out, backend.unfinished(None::<TxnId>, 1000));
    for key in ["a", "b"] {
        line!(out, backend.config(key));
    }
    for partition in [Partition(0), Partition(1)] {
        line!(out, backend.last_ids(partition));
        line!(out, backend.revisions(partition, every, Tid::MAX, 1000));
        for order in [Order::Ascending, Order::Descending] {
            let (min, limit) = (Tid(0), PageLimit::entries(60));
            line!(
                out,
                backend.transactions(partition, min, Tid::MAX, order, limit)
            );
            let limit = PageLimit::entries(2);
            line!(
                out,
                backend.transactions(partition, Tid(15), Tid(50), order, limit)
            );
        }
        for tid in (0..=70).step_by(5).map(Tid) {
            let limit = PageLimit {
                entries: 4,
                bytes: 12,
            };
            line!(out, backend.current(partition, Oid(0), tid, true, limit));
            line!(out, backend.current(partition, Oid(2), tid, false, limit));
            line!(out, backend.pack_orders(partition, tid, 2));
            for rows in [1, 3, 100] {
                line!(
                    out,
                    backend.obsolete(partition, Oid(rows % 2), tid, rows as usize)
                );
            }
        }
        for limit in [
            PageLimit::entries(1000),
            PageLimit {
                entries: 7,
                bytes: 20,
            },
        ] {
            line!(out, backend.fetch(partition, every, Tid::MAX, limit));
            let from = RevisionId {
                tid: Tid(20),
                oid: Oid(2),
            };
            line!(out, backend.fetch(partition, from, Tid(40), limit));
        }
        let oids: Vec<_> = (0..6).map(|oid| (partition, Oid(oid))).collect();
        line!(out, backend.last_serials(&oids));
        for (partition, oid) in oids {
            line!(out, backend.load(partition, oid, At::Latest));
            line!(out, backend.history(partition, oid, Tid::MAX, 1000));
            line!(out, backend.history(partition, oid, Tid(40), 2));
            for tid in (0..=70).step_by(5) {
                line!(out, backend.load(partition, oid, At::Before(Tid(tid))));
                line!(out, backend.load(partition, oid, At::Exact(Tid(tid))));
            }
        }
        for reign in 1..=2 {
            for ttid in 10..=13 {
                let txn = TxnId {
                    reign: Reign(reign),
                    ttid: Tid(ttid),
                };
                line!(out, backend.final_tid(partition, txn));
                line!(out, backend.unfinished_objects(txn, None::<Oid>, 1000));
                line!(out, backend.unfinished_objects(txn, Some(Oid(1)), 2));
            }
        }
    }
    out
}
