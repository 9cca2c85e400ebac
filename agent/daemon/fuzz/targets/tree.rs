//! The tree with its links and whiteouts, and the EROFS writer: archives of entries whose names meet.
#![no_main]

libfuzzer_sys::fuzz_target!(|entries: Vec<hull_fuzz::made::Made>| {
    hull_fuzz::convert(&hull_fuzz::made::tar(&entries));
});
