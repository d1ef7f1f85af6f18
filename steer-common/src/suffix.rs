//! Keyed 64-bit hashes of a domain name and of each of its suffixes.
//!
//! A name is hashed from its last label to its first, so that the running state at each label boundary is the hash of
//! the suffix that begins there: one pass over `a.b.example` yields `example`, `b.example` and `a.b.example`.
//! The function is SipHash-1-3 over 8-byte words; each label is fed with its length octet in front (the wire form of
//! RFC 1035 section 3.1), lower-cased, and padded with zeros to whole words. The key is random and lives with the
//! maps, so that nobody can craft two names with one hash.

/// The key of the hash.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key(pub [u64; 2]);

/// A running hash.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    v: [u64; 4],
}

impl Hasher {
    /// No state yet.
    pub const fn empty() -> Self {
        Self { v: [0; 4] }
    }

    /// The state before any label.
    #[inline(always)]
    pub fn new(key: &Key) -> Self {
        let [k0, k1] = key.0;
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    /// Takes in the next word of a label.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        round(&mut self.v);
        self.v[0] ^= word;
    }

    /// The hash of all that was taken in; more may follow.
    #[inline(always)]
    pub fn finish(&self) -> u64 {
        let mut v = self.v;
        v[2] ^= 0xff;
        round(&mut v);
        round(&mut v);
        round(&mut v);
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }

    /// Takes in a whole label, of at most 63 octets.
    pub fn label(&mut self, label: &[u8]) {
        let mut wire = [0u8; 64];
        let size = label.len().min(63);
        wire[0] = size as u8;
        wire[1..=size].copy_from_slice(&label[..size]);
        for start in (0..=size).step_by(8) {
            let mut word = [0u8; 8];
            word.copy_from_slice(&wire[start..start + 8]);
            self.word(lower(u64::from_le_bytes(word)));
        }
    }
}

/// The hash of a name in text form, without a trailing dot; the empty name is the root.
pub fn hash_name(key: &Key, name: &str) -> u64 {
    let mut hasher = Hasher::new(key);
    for label in name.rsplit('.').filter(|label| !label.is_empty()) {
        hasher.label(label.as_bytes());
    }
    hasher.finish()
}

/// A word whose first `count` octets are kept and whose rest is zero; 8 and more keep all.
#[inline(always)]
pub fn keep(word: u64, count: u32) -> u64 {
    if count >= 8 {
        return word;
    }
    word & !(u64::MAX << ((count & 7) * 8))
}

/// A word of eight octets with its ASCII capitals made small.
#[inline(always)]
pub fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (EACH * 0x7f);
    let from_a = low + EACH * (0x80 - b'A' as u64);
    let after_z = low + EACH * (0x7f - b'Z' as u64);
    let capital = (from_a ^ after_z) & !word & (EACH * 0x80);
    word | (capital >> 2)
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = Key([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);

    #[test]
    fn one_pass_yields_every_suffix() {
        let mut hasher = Hasher::new(&KEY);
        for (label, suffix) in [
            ("io", "io"),
            ("docker", "docker.io"),
            ("hub", "hub.docker.io"),
        ] {
            hasher.label(label.as_bytes());
            assert_eq!(hasher.finish(), hash_name(&KEY, suffix));
        }
    }

    #[test]
    fn boundaries_and_keys_tell_names_apart() {
        let names = [
            "ab.c",
            "a.bc",
            "abc",
            "a.b.c",
            "c.b.a",
            "",
            "abcdefg",
            "abcdefgh",
            "abcdefghi",
        ];
        for (i, a) in names.iter().enumerate() {
            for b in &names[i + 1..] {
                assert_ne!(hash_name(&KEY, a), hash_name(&KEY, b), "{a} and {b}");
            }
        }
        assert_ne!(hash_name(&KEY, "a"), hash_name(&Key([1, 2]), "a"));
    }

    proptest! {
        #[test]
        fn case_makes_no_difference(name in "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9_-]{1,63}){0,3}") {
            prop_assert_eq!(hash_name(&KEY, &name), hash_name(&KEY, &name.to_ascii_lowercase()));
        }

        #[test]
        fn lower_is_ascii_lower(octets: [u8; 8]) {
            let mut expected = octets;
            expected.make_ascii_lowercase();
            prop_assert_eq!(lower(u64::from_le_bytes(octets)), u64::from_le_bytes(expected));
        }

        #[test]
        fn keep_keeps_the_first(octets: [u8; 8], count in 0u32..10) {
            let mut expected = octets;
            expected.iter_mut().skip(count as usize).for_each(|octet| *octet = 0);
            prop_assert_eq!(keep(u64::from_le_bytes(octets), count), u64::from_le_bytes(expected));
        }
    }
}
