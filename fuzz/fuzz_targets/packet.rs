#![no_main]
#![expect(dead_code, reason = "each target enters by one of the doors")]

#[path = "../../crates/neo-proto/tests/wire/arbitrary.rs"]
mod arbitrary;
#[path = "../../crates/neo-proto/tests/wire/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::packet(data));
