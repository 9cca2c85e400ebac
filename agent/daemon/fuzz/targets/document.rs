//! Manifests, indexes and configs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hull_fuzz::read_document(data));
