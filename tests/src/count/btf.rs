//! Where a field of a kernel structure is, by the kernel's own type information.
//!
//! The format: Documentation/bpf/btf.rst in the kernel's sources.

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// A kernel's type information.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`; the first is number 1.
    starts: Vec<usize>,
}

/// The head of a type.
struct Type {
    name: u32,
    kind: u32,
    /// Number of members, for the kinds that have some.
    count: usize,
    /// Members carry a width beside their place.
    wide: bool,
}

impl<'a> Btf<'a> {
    /// Reads the head and finds every type.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        ensure!(bytes.len() >= 24 && short(bytes, 0)? == MAGIC, "this is no BTF");
        let head = word(bytes, 4)? as usize;
        let part = |at: usize| {
            let start = head + word(bytes, at)? as usize;
            let end = start + word(bytes, at + 4)? as usize;
            bytes.get(start..end).context("the BTF is cut off")
        };
        let mut btf = Self { types: part(8)?, strings: part(16)?, starts: Vec::new() };
        let mut at = 0;
        while at < btf.types.len() {
            btf.starts.push(at);
            let Type { kind, count, .. } = btf.type_at(at)?;
            at += 12 + extra(kind, count)?;
        }
        Ok(btf)
    }

    /// Bytes from the start of a structure to a member, which may be in an unnamed part of it.
    pub fn offset(&self, structure: &str, member: &str) -> Result<usize> {
        for &start in &self.starts {
            let this = self.type_at(start)?;
            if this.kind == STRUCT && self.name(this.name) == structure.as_bytes() {
                let bits = self.bits(start, member)?;
                return Ok(bits.with_context(|| format!("no {member} in {structure}"))? / 8);
            }
        }
        bail!("the kernel's types have no structure {structure}")
    }

    fn bits(&self, start: usize, member: &str) -> Result<Option<usize>> {
        let Type { count, wide, .. } = self.type_at(start)?;
        for index in 0..count {
            let at = start + 12 + index * 12;
            let place = word(self.types, at + 8)?;
            let place = (if wide { place & 0xff_ffff } else { place }) as usize;
            let name = word(self.types, at)?;
            if name != 0 {
                if self.name(name) == member.as_bytes() {
                    return Ok(Some(place));
                }
                continue;
            }
            let number = word(self.types, at + 4)? as usize;
            let inner = self.starts.get(number.wrapping_sub(1)).copied();
            let Some(inner) = inner else { continue };
            if matches!(self.type_at(inner)?.kind, STRUCT | UNION)
                && let Some(within) = self.bits(inner, member)?
            {
                return Ok(Some(place + within));
            }
        }
        Ok(None)
    }

    fn type_at(&self, start: usize) -> Result<Type> {
        let info = word(self.types, start + 4)?;
        Ok(Type {
            name: word(self.types, start)?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            wide: info >> 31 == 1,
        })
    }

    fn name(&self, at: u32) -> &[u8] {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Bytes that follow the head of a type.
fn extra(kind: u32, count: usize) -> Result<usize> {
    Ok(match kind {
        // Pointers, forward declarations, typedefs, qualifiers, functions, floats, type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, declaration tags.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        STRUCT | UNION | 15 | 19 => 12 * count,
        // Enumerations, and parameters of functions.
        6 | 13 => 8 * count,
        _ => bail!("the kernel's types have an unknown kind {kind}"),
    })
}

fn short(bytes: &[u8], at: usize) -> Result<u16> {
    let bytes = bytes.get(at..at + 2).context("the BTF is cut off")?;
    Ok(u16::from_le_bytes(bytes.try_into()?))
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..at + 4).context("the BTF is cut off")?;
    Ok(u32::from_le_bytes(bytes.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::Btf;

    /// `struct sock_common { int a; union { int b; struct { int c; int d; }; }; }`, by hand.
    #[test]
    fn a_member_of_an_unnamed_part_is_found() {
        let strings = b"\0int\0sock_common\0a\0b\0c\0d\0";
        // Names begin at: int 1, sock_common 5, a 17, b 19, c 21, d 23.
        let structure = |name: u32, kind: u32, size: u32, members: &[[u32; 3]]| {
            let count = u32::try_from(members.len()).unwrap_or_default();
            let mut words = vec![name, kind << 24 | count, size];
            words.extend(members.iter().flatten());
            words
        };
        let types = [
            vec![1, 1 << 24, 4, 32],
            structure(0, 4, 8, &[[21, 1, 0], [23, 1, 32]]),
            structure(0, 5, 8, &[[19, 1, 0], [0, 2, 0]]),
            structure(5, 4, 12, &[[17, 1, 0], [0, 3, 32]]),
        ];
        let types: Vec<u8> = types.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        let [types_len, strings_len] =
            [types.len(), strings.len()].map(|length| u32::try_from(length).unwrap_or_default());
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types_len, types_len, strings_len] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);

        let btf = Btf::parse(&bytes).expect("well-formed");
        let offset = |member: &str| btf.offset("sock_common", member).ok();
        assert_eq!(["a", "b", "c", "d"].map(offset), [Some(0), Some(4), Some(4), Some(8)]);
        assert_eq!(offset("e"), None);
        assert!(Btf::parse(&bytes[..60]).is_err());
    }
}
