//! What is too large for a cluster, and what is said to it: the cluster goes on as if nothing had
//! been asked.

use neo_client::{CompressionSetting, Error, Oid, Tid, TransactionMeta};
use neo_testkit::process::CLUSTER;

use crate::cluster;
use crate::load::Load;

const MIB: usize = 1 << 20;

fn words<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("it is refused").to_string()
}

#[test]
fn what_is_too_large_is_refused_with_its_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster::start(dir.path());
    let client = neo_client::Client::builder(CLUSTER)
        .master(cluster.master_address().to_string())
        .compression(CompressionSetting::Off)
        .connect_blocking()
        .expect("connected");
    let load = Load::start(&[cluster::connect(&cluster)]);

    let transaction = client.begin(TransactionMeta::default()).expect("begun");
    let oid = client.new_oid().expect("an oid");
    let stored = transaction.store(oid, Tid::ZERO, vec![7; 64 * MIB + 1]);
    let expected = format!(
        "too large: object {oid} has 67108865 bytes, at most 67108864 can be: store it in parts"
    );
    assert_eq!(words(stored), expected);
    transaction.abort();
    let meta = TransactionMeta {
        user: vec![b'x'; MIB + 1].into(),
        ..TransactionMeta::default()
    };
    assert_eq!(
        words(client.begin(meta)),
        "too large: user has 1048577 bytes, at most 1048576 can be"
    );
    let transaction = client.begin(TransactionMeta::default()).expect("begun");
    let result = transaction
        .store(Oid(1 << 63), Tid::ZERO, "x")
        .and_then(|()| transaction.commit());
    let said = words(result);
    assert!(
        said.ends_with(
            ": not supported by this database: the id 8000000000000000, above 7fffffffffffffff"
        ),
        "{said}"
    );

    // The largest there may be.
    let transaction = client.begin(TransactionMeta::default()).expect("begun");
    let largest = vec![7; 64 * MIB];
    transaction
        .store(oid, Tid::ZERO, largest.clone())
        .expect("stored");
    transaction.commit().expect("committed");
    let reader = cluster::connect(&cluster);
    let found = reader.load(oid).expect("read").expect("there");
    assert!(found.data == largest);

    load.until_committed(5);
    load.end(&reader);
    cluster.stop().expect("a clean stop");
}
