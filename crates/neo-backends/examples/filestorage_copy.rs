//! Copies a ZODB FileStorage, or goes on with a copy:
//! `cargo run -p neo-backends --example filestorage_copy -- Data.fs Copy.fs`

use std::process::ExitCode;

use neo_backends::filestorage::{Error, NewData, Reader, Tail, Writer};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [source, copy] = &arguments[..] else {
        eprintln!("usage: filestorage_copy SOURCE.fs COPY.fs");
        return ExitCode::from(2);
    };
    match run(source.as_ref(), copy.as_ref()) {
        Ok(transactions) => println!("{transactions} transactions copied"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(source: &std::path::Path, copy: &std::path::Path) -> Result<u64, Error> {
    let mut reader = Reader::open(source)?;
    let mut writer = if copy.exists() {
        Writer::append(copy)?
    } else {
        Writer::create(copy)?
    };
    if let Some(last) = writer.last_tid() {
        reader.seek_after(last)?;
    }
    let mut transactions = 0;
    while let Some(transaction) = reader.next_transaction()? {
        writer.begin(transaction.tid, transaction.status, &transaction.meta)?;
        while let Some(record) = reader.next_record()? {
            writer.record(record.oid, NewData::from(&record.data))?;
        }
        writer.finish_transaction()?;
        transactions += 1;
    }
    if let Some(Tail::Incomplete { offset }) = reader.tail() {
        eprintln!(
            "{}: unfinished transaction at offset {offset} left out",
            source.display()
        );
    }
    writer.finish()?;
    Ok(transactions)
}
