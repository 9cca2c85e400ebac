//! From tar to EROFS, on bytes whose headers have the right checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hull_fuzz::convert(&hull_fuzz::made::repaired(data));
});
