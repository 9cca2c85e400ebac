//! How much the tests do of what they do in bulk.

use std::sync::OnceLock;

/// So many bytes or rounds, divided for slow machines by HULL_TEST_BULK_DIVISOR (default 1): the one place where it is read.
///
/// For what another kernel shows with a part of it as well; a bound of the product's is tested with the whole.
///
/// # Panics
/// If the variable is no number from 1 on.
pub fn bulk(amount: usize) -> usize {
    static DIVISOR: OnceLock<usize> = OnceLock::new();
    let divisor = DIVISOR.get_or_init(|| {
        std::env::var("HULL_TEST_BULK_DIVISOR")
            .map_or(1, |text| text.parse().expect("HULL_TEST_BULK_DIVISOR is a number"))
    });
    amount.div_ceil(*divisor)
}
