//! steer.
fn main() {}
