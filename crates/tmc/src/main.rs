//! The tmc binary.
fn main() {}
