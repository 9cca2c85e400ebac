//! The tar reader, on bytes whose headers have the right checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hull_fuzz::read_tar(&hull_fuzz::made::repaired(data)));
