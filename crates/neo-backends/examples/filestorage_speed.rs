//! How fast FileStorage files are written and read:
//! `cargo run --release -p neo-backends --example filestorage_speed`

use std::time::Instant;

use neo_api::{Oid, Tid, TransactionMeta};
use neo_backends::filestorage::{Data, NewData, Reader, Status, Writer};

const BYTES: u64 = 200 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    for (records, len) in [
        (1, 500),
        (20, 500),
        (10, 4_000),
        (5, 100_000),
        (2, 2_000_000),
    ] {
        let path = dir.path().join(format!("{records}x{len}.fs"));
        let data = vec![b'.'; len];
        let start = Instant::now();
        let mut writer = Writer::create(&path)?;
        let mut tid = 0;
        while writer.position() < BYTES {
            tid += 1;
            writer.begin(Tid(tid), Status::Normal, &TransactionMeta::default())?;
            for n in 0..records {
                let oid = Oid((tid * records + n) % 100_000);
                writer.record(oid, NewData::Data(&data))?;
            }
            writer.finish_transaction()?;
        }
        let size = writer.position() as f64 / 1e6;
        let written = start.elapsed();
        writer.finish()?;
        let synced = start.elapsed();

        let start = Instant::now();
        let mut reader = Reader::open(&path)?;
        let mut bytes = 0;
        while reader.next_transaction()?.is_some() {
            while let Some(record) = reader.next_record()? {
                if let Data::Data(data) = record.data {
                    bytes += data.len();
                }
            }
        }
        let read = start.elapsed();
        assert_eq!(bytes as u64, tid * records * len as u64);

        let start = Instant::now();
        reader.seek_after(Tid::ZERO)?;
        reader.seek_after(Tid(tid - 1))?;
        let skipped = start.elapsed();
        let start = Instant::now();
        Writer::append(&path)?;
        let opened = start.elapsed();
        let speed = |elapsed: std::time::Duration| size / elapsed.as_secs_f64();
        println!(
            "{records} records of {len} bytes: write {:.0} MB/s ({:.0} with sync), read {:.0}, \
             skip {:.0}, append {:.0}",
            speed(written),
            speed(synced),
            speed(read),
            speed(skipped),
            speed(opened),
        );
        std::fs::remove_file(path)?;
    }
    Ok(())
}
