//! A set of CPUs in the kernel's own text forms.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::CpuId;

/// CPU numbers above this are refused: no kernel is built for more (`CONFIG_NR_CPUS` ends at 8192).
const MAX_CPU: CpuId = 8191;

/// A set of CPUs; its text form is the kernel's list form, `0-3,8`
/// (`/proc/irq/N/smp_affinity_list`, cpuset(7) "List format").
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(BTreeSet<CpuId>);

/// Text that is not a CPU list or mask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a CPU list such as `0-3,8`: {why}")]
pub struct ParseCpuSetError {
    text: String,
    why: &'static str,
}

impl CpuSet {
    /// The set that holds `cpu` alone.
    #[must_use]
    pub fn single(cpu: CpuId) -> Self {
        Self(BTreeSet::from([cpu]))
    }

    /// The only member, where there is just one.
    #[must_use]
    pub fn as_single(&self) -> Option<CpuId> {
        match self.0.len() {
            1 => self.0.first().copied(),
            _ => None,
        }
    }

    /// Whether `cpu` is in the set.
    #[must_use]
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0.contains(&cpu)
    }

    /// The members in rising order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        self.0.iter().copied()
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest member.
    #[must_use]
    pub fn first(&self) -> Option<CpuId> {
        self.0.first().copied()
    }

    /// Members of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Members of `self` that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Reads the mask form, `ff` or `00000001,00000000`: groups of 32 bits, highest first
    /// (`xps_cpus`, `rps_cpus`; `bitmap_parse` in the kernel's lib/bitmap-str.c).
    pub fn from_mask(text: &str) -> Result<Self, ParseCpuSetError> {
        let fail = |why| ParseCpuSetError { text: text.trim().to_owned(), why };
        let groups: Vec<&str> = text.trim().split(',').collect();
        let mut cpus = BTreeSet::new();
        for (index, group) in groups.iter().rev().enumerate() {
            let digits_ok = (1..=8).contains(&group.len())
                && group.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !digits_ok {
                return Err(fail("a mask has groups of up to eight hexadecimal digits"));
            }
            let bits = u32::from_str_radix(group, 16).map_err(|_| fail("not hexadecimal"))?;
            let base = u32::try_from(index).unwrap_or(u32::MAX).saturating_mul(32);
            for bit in (0..32).filter(|bit| bits & (1 << bit) != 0) {
                let cpu = base.saturating_add(bit);
                if cpu > MAX_CPU {
                    return Err(fail("CPU number too large"));
                }
                cpus.insert(cpu);
            }
        }
        Ok(Self(cpus))
    }

    /// The mask form that the kernel accepts for this set.
    #[must_use]
    pub fn to_mask(&self) -> String {
        let groups = self.0.last().map_or(1, |last| last / 32 + 1);
        let words: Vec<String> = (0..groups)
            .rev()
            .map(|group| {
                let bits = self
                    .0
                    .range(group * 32..group * 32 + 32)
                    .fold(0u32, |bits, cpu| bits | 1 << (cpu % 32));
                format!("{bits:08x}")
            })
            .collect();
        words.join(",")
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = ParseCpuSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why| ParseCpuSetError { text: text.trim().to_owned(), why };
        let number = |part: &str| -> Result<CpuId, ParseCpuSetError> {
            let digits_ok = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if !digits_ok {
                return Err(fail("expected CPU numbers and ranges"));
            }
            match part.parse() {
                Ok(cpu) if cpu <= MAX_CPU => Ok(cpu),
                _ => Err(fail("CPU number too large")),
            }
        };
        let mut cpus = BTreeSet::new();
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Ok(Self(cpus));
        }
        for part in trimmed.split(',') {
            let (low, high) = match part.split_once('-') {
                Some((low, high)) => (number(low)?, number(high)?),
                None => (number(part)?, number(part)?),
            };
            if low > high {
                return Err(fail("a range runs from low to high"));
            }
            cpus.extend(low..=high);
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut first = true;
        while let Some(low) = cpus.next() {
            let mut high = low;
            while cpus.next_if_eq(&(high + 1)).is_some() {
                high += 1;
            }
            if !first {
                f.write_str(",")?;
            }
            first = false;
            if low == high {
                write!(f, "{low}")?;
            } else {
                write!(f, "{low}-{high}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuSet {
    type Error = ParseCpuSetError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_the_list_form() {
        let set: CpuSet = "0-2,5,7-8\n".parse().expect("a valid list");
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 5, 7, 8]);
        assert_eq!(set.to_string(), "0-2,5,7-8");
        assert_eq!("".parse(), Ok(CpuSet::default()));
    }

    #[test]
    fn mask_groups_are_highest_first() {
        let set = CpuSet::from_mask("00000001,0000000a").expect("a valid mask");
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 3, 32]);
        assert_eq!(set.to_mask(), "00000001,0000000a");
        assert_eq!(CpuSet::from_mask("f").expect("short mask").to_string(), "0-3");
        assert_eq!(CpuSet::default().to_mask(), "00000000");
    }

    #[test]
    fn refuses_nonsense() {
        for text in ["a", "3-1", "1,,2", "-1", "1-", "99999", "+1", "1 2"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
        for text in ["", "xyz", "123456789", "0x1", "1,,2"] {
            assert!(CpuSet::from_mask(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_forms_round_trip(cpus in prop::collection::btree_set(0u32..=MAX_CPU, 0..64)) {
            let set: CpuSet = cpus.into_iter().collect();
            prop_assert_eq!(set.to_string().parse::<CpuSet>(), Ok(set.clone()));
            prop_assert_eq!(CpuSet::from_mask(&set.to_mask()), Ok(set));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            let _ = text.parse::<CpuSet>();
            let _ = CpuSet::from_mask(&text);
        }
    }
}
