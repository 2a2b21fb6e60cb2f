//! Offsets of structure members from the kernel's type information (BTF).
//!
//! aya parses BTF too, but keeps the members to itself, and the crates that show them stop at kinds
//! which newer kernels have. What is needed here is little: walk the types once, remember where each
//! begins, and look members up by name through anonymous structures and unions.
//!
//! The format is `Documentation/bpf/btf.rst`. Any bytes are answered: with a type, with absence, or
//! with a sentence, never with a panic.

use std::collections::{HashMap, HashSet};

/// Where the kernel shows its own types (since 5.4, `CONFIG_DEBUG_INFO_BTF`).
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Bytes of `struct btf_header`, the part that this reader needs.
const HEADER: usize = 24;
/// Bytes of `struct btf_type`.
const TYPE: usize = 12;

/// How deep typedefs and anonymous members are followed. Real ones are under ten deep.
const MAX_DEPTH: u32 = 32;

/// Kinds (`enum` in `include/uapi/linux/btf.h`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Bytes that are not BTF as this reader knows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("type information at byte {at}: {why}")]
pub(super) struct BtfError {
    at: usize,
    why: String,
}

/// Parsed type information.
#[derive(Debug)]
pub(super) struct Types<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; type ids begin at 1.
    starts: Vec<usize>,
    /// Named structures by name; the first of a name wins, as in the kernel's own look-up.
    structs: HashMap<&'a str, u32>,
}

/// Where a member lies in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Offset in bits.
    pub(super) bit_offset: u32,
    /// Width in bits; of an array or a structure, all of it.
    pub(super) bits: u32,
}

/// A type's fixed part.
#[derive(Clone, Copy)]
struct Head {
    name: u32,
    kind: u32,
    members: usize,
    /// The members' offsets carry bit-field sizes.
    kind_flag: bool,
    /// Size in bytes, or the id of another type, by kind.
    size_or_type: u32,
}

impl<'a> Types<'a> {
    /// Walks over all types.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let fail = |at, why: &str| BtfError { at, why: why.to_owned() };
        let truncated = |at| fail(at, "it ends in the middle");
        if half(bytes, 0) != Some(MAGIC) {
            return Err(fail(0, "no BTF of this machine's byte order"));
        }
        let field = |at| word(bytes, at).map(|value| value as usize).ok_or_else(|| truncated(at));
        let header = field(4)?;
        if header < HEADER {
            return Err(fail(4, "the header is too short"));
        }
        let section = |offset_at: usize, length_at: usize| -> Result<(usize, usize), BtfError> {
            let start = header.saturating_add(field(offset_at)?);
            let end = start.saturating_add(field(length_at)?);
            if end <= bytes.len() { Ok((start, end)) } else { Err(truncated(bytes.len())) }
        };
        let (types, types_end) = section(8, 12)?;
        let (strings, strings_end) = section(16, 20)?;
        let mut parsed = Self {
            bytes: bytes.get(..types_end).unwrap_or_default(),
            strings: bytes.get(strings..strings_end).unwrap_or_default(),
            starts: Vec::new(),
            structs: HashMap::new(),
        };
        let mut at = types;
        while at < types_end {
            let head = parsed.head(at).ok_or_else(|| truncated(at))?;
            let length = body_length(&head).ok_or_else(|| BtfError {
                at,
                why: format!("a type of kind {}, which is not known", head.kind),
            })?;
            parsed.starts.push(at);
            if head.kind == kind::STRUCT && head.name != 0 {
                let id = u32::try_from(parsed.starts.len()).map_err(|_| fail(at, "too many"))?;
                if let Some(name) = parsed.string(head.name) {
                    parsed.structs.entry(name).or_insert(id);
                }
            }
            at += TYPE + length;
        }
        if at == types_end { Ok(parsed) } else { Err(truncated(at)) }
    }

    /// A member of a structure by its path, `__sk_common.skc_net.net`. Anonymous structures and
    /// unions on the way need not be named.
    #[must_use]
    pub(super) fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let mut id = *self.structs.get(structure)?;
        let mut bit_offset = 0u32;
        let mut found = None;
        for name in path.split('.') {
            let (offset, bits, next) = self.find(id, name, 0, &mut HashSet::new())?;
            bit_offset = bit_offset.checked_add(offset)?;
            found = Some(Member { bit_offset, bits });
            id = next;
        }
        found
    }

    /// Offset, width in bits and type of a member, looked for in anonymous members too. What is in
    /// `seen` has no such member: without it, types that hold themselves or one another several times
    /// would be looked through in every way that leads to them.
    fn find(
        &self,
        id: u32,
        name: &str,
        depth: u32,
        seen: &mut HashSet<usize>,
    ) -> Option<(u32, u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (start, head) = self.resolve(id)?;
        let is_structure = matches!(head.kind, kind::STRUCT | kind::UNION);
        if !is_structure || !seen.insert(start) {
            return None;
        }
        let mut anonymous = Vec::new();
        for at in (0..head.members).map(|member| start + TYPE + member * 12) {
            let member_name = word(self.bytes, at)?;
            let member_type = word(self.bytes, at + 4)?;
            let packed = word(self.bytes, at + 8)?;
            let (bitfield, offset) =
                if head.kind_flag { (packed >> 24, packed & 0x00ff_ffff) } else { (0, packed) };
            if member_name == 0 {
                anonymous.push((offset, member_type));
            } else if self.string(member_name) == Some(name) {
                let bits = match bitfield {
                    0 => self.size(member_type, 0)?.checked_mul(8)?,
                    bits => bits,
                };
                return Some((offset, bits, member_type));
            }
        }
        anonymous.into_iter().find_map(|(offset, member_type)| {
            let (inner, bits, next) = self.find(member_type, name, depth + 1, seen)?;
            Some((offset.checked_add(inner)?, bits, next))
        })
    }

    /// Size of a type in bytes.
    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (start, head) = self.resolve(id)?;
        match head.kind {
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                Some(head.size_or_type)
            }
            kind::PTR => u32::try_from(size_of::<usize>()).ok(),
            kind::ARRAY => {
                let element = self.size(word(self.bytes, start + TYPE)?, depth + 1)?;
                element.checked_mul(word(self.bytes, start + TYPE + 8)?)
            }
            _ => None,
        }
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<(usize, Head)> {
        for _ in 0..MAX_DEPTH {
            let start = *self.starts.get((id as usize).checked_sub(1)?)?;
            let head = self.head(start)?;
            match head.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = head.size_or_type;
                }
                _ => return Some((start, head)),
            }
        }
        None
    }

    fn head(&self, at: usize) -> Option<Head> {
        let info = word(self.bytes, at + 4)?;
        Some(Head {
            name: word(self.bytes, at)?,
            kind: (info >> 24) & 0x1f,
            members: (info & 0xffff) as usize,
            kind_flag: info >> 31 != 0,
            size_or_type: word(self.bytes, at + 8)?,
        })
    }

    fn string(&self, offset: u32) -> Option<&'a str> {
        let tail = self.strings.get(offset as usize..)?;
        let end = tail.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(tail.get(..end)?).ok()
    }
}

/// Bytes after the fixed part.
fn body_length(head: &Head) -> Option<usize> {
    match head.kind {
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => Some(0),
        kind::INT | kind::VAR | kind::DECL_TAG => Some(4),
        kind::ARRAY => Some(12),
        kind::ENUM | kind::FUNC_PROTO => Some(head.members * 8),
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => Some(head.members * 12),
        _ => None,
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Any bytes as type information, asked for members as the fields are.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn any_bytes(bytes: &[u8]) {
    if let Ok(types) = Types::parse(bytes) {
        let _ = super::fields::find(&types, &[]);
        let _ = (types.member("out", "one.b"), types.member("out", "q"), types.member("in", "a.b"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A hand-made set of types:
    ///
    /// ```c
    /// struct in { u32 a; u16 b[3]; };
    /// struct out { u32 x; union { struct in one; u32 two; }; u8 p:1, q:1; struct in named; };
    /// ```
    fn sample() -> Vec<u8> {
        let names = b"\0in\0out\0a\0b\0x\0one\0two\0p\0q\0named\0";
        let name = |text: &str| -> u32 {
            let wanted = [&[0], text.as_bytes(), &[0]].concat();
            let at = names.windows(wanted.len()).position(|window| window == wanted);
            u32::try_from(at.expect("in the list") + 1).expect("small")
        };
        let info = |kind: u32, members: u32, flag: u32| (flag << 31) | (kind << 24) | members;
        let types: Vec<u32> = [
            vec![0, info(kind::INT, 0, 0), 4, 32],          // 1: u32
            vec![0, info(kind::INT, 0, 0), 2, 16],          // 2: u16
            vec![0, info(kind::INT, 0, 0), 1, 8],           // 3: u8
            vec![0, info(kind::ARRAY, 0, 0), 0, 2, 1, 3],   // 4: u16[3]
            vec![name("in"), info(kind::STRUCT, 2, 0), 12], // 5
            vec![name("a"), 1, 0, name("b"), 4, 32],
            vec![0, info(kind::UNION, 2, 0), 12], // 6
            vec![name("one"), 7, 0, name("two"), 1, 0],
            vec![0, info(kind::CONST, 0, 0), 5], // 7: const struct in
            vec![name("out"), info(kind::STRUCT, 5, 1), 32], // 8
            vec![name("x"), 1, 0, 0, 6, 32],
            vec![name("p"), 3, (1 << 24) + 128, name("q"), 3, (1 << 24) + 129],
            vec![name("named"), 5, 160],
        ]
        .concat();
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small").to_ne_bytes();
        [
            &MAGIC.to_ne_bytes()[..],
            &[1, 0],
            &24u32.to_ne_bytes(),
            &0u32.to_ne_bytes(),
            &length(&types),
            &length(&types),
            &length(names),
            &types,
            names,
        ]
        .concat()
    }

    #[test]
    fn finds_members_by_path() {
        let bytes = sample();
        let types = Types::parse(&bytes).expect("valid");
        let member = |path| types.member("out", path).map(|found| (found.bit_offset, found.bits));
        assert_eq!(member("x"), Some((0, 32)));
        assert_eq!(member("one"), Some((32, 96)), "through the anonymous union");
        assert_eq!(member("one.b"), Some((64, 48)), "through the qualifier, whole array");
        assert_eq!(member("two"), Some((32, 32)));
        assert_eq!(member("q"), Some((129, 1)), "a bit-field");
        assert_eq!(member("named.a"), Some((160, 32)));
        assert_eq!(member("named.c"), None);
        assert_eq!(member("x.a"), None, "a number has no members");
        assert_eq!(types.member("none", "x"), None);
    }

    #[test]
    fn refuses_what_is_cut_off() {
        let bytes = sample();
        for end in 0..bytes.len() {
            assert!(Types::parse(&bytes[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn a_kind_from_the_future_is_named() {
        let mut bytes = sample();
        bytes[HEADER + 7] = 31;
        let error = Types::parse(&bytes).expect_err("unknown kind");
        assert!(error.to_string().contains("kind 31"), "{error}");
    }

    #[test]
    fn reads_the_running_kernel() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            println!("skipped: no {VMLINUX}");
            return;
        };
        let types = Types::parse(&bytes).expect("the kernel's own types");
        let ifindex = types.member("net_device", "ifindex").expect("every kernel has it");
        assert_eq!((ifindex.bits, ifindex.bit_offset % 32), (32, 0));
        let common = types.member("sock", "__sk_common").expect("every kernel has it");
        assert_eq!(common.bit_offset, 0);
        let port = types.member("sock", "__sk_common.skc_dport").expect("in anonymous members");
        assert_eq!(Some(port), types.member("sock_common", "skc_dport"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Types::parse(&bytes);
        }

        #[test]
        fn damaged_types_are_answered(at in 0usize..400, value: u8, path in "[a-z]{1,5}(\\.[a-z])?") {
            let mut bytes = sample();
            let length = bytes.len();
            bytes[at % length] = value;
            if let Ok(types) = Types::parse(&bytes) {
                for name in ["in", "out"] {
                    let _ = types.member(name, &path);
                    let _ = types.member(name, "one.b");
                }
            }
        }
    }
}
