//! References.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| hull_fuzz::normalize(text));
