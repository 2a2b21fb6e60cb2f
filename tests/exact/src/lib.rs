//! The planner against an exact solver: everything is in this package's tests and examples.
