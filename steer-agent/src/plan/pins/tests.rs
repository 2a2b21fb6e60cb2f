//! Worked examples of choosing rules, and the properties that it guarantees.
