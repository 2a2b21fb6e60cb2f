//! The levers' figures against entries of the tables that they come from, and what is said of them.
