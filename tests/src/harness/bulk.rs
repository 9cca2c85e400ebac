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
    amount.div_ceil(*DIVISOR.get_or_init(|| given("HULL_TEST_BULK_DIVISOR").unwrap_or(1)))
}

/// The number that a variable of the environment gives instead of a test's own.
///
/// # Panics
/// If it is there and no number.
pub fn given(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
