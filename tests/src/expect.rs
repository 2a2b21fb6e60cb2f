//! Expectations: each says what was got, and a failed one what was expected instead.

use std::{fmt, ops::RangeBounds};

use anyhow::{Result, bail};

use crate::guest::Guest;

impl Guest {
    /// A figure within a range. `what` names the figure.
    pub fn expect_within<T>(
        &self,
        what: &str,
        got: &T,
        range: impl RangeBounds<T> + fmt::Debug,
    ) -> Result<()>
    where
        T: PartialOrd + fmt::Display,
    {
        if !range.contains(got) {
            bail!("{what}: expected {range:?}, got {got:.3}");
        }
        self.say(format_args!("ok: {what}: {got:.3}"));
        Ok(())
    }

    /// Two values that are the same.
    pub fn expect_equal<T>(&self, what: &str, got: &T, expected: &T) -> Result<()>
    where
        T: PartialEq + fmt::Debug + ?Sized,
    {
        if got != expected {
            bail!("{what}: expected {expected:?}, got {got:?}");
        }
        self.say(format_args!("ok: {what}: {got:?}"));
        Ok(())
    }

    /// A fact, with what was seen instead in case it is none.
    pub fn expect(&self, what: &str, holds: bool, seen: impl fmt::Display) -> Result<()> {
        if !holds {
            bail!("expected: {what}; got {seen}");
        }
        self.say(format_args!("ok: {what}"));
        Ok(())
    }
}
