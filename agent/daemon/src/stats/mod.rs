//! What containers use.
