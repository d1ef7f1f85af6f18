//! Ranges of addresses as users write them: `203.0.113.0/24`, `2001:db8::/32`, or an address alone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use steer_common::types::Address;

/// The addresses that begin with the same bits (RFC 4632 section 3.1). IPv4 is never written in its mapped form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

impl Net {
    /// The range of that many leading bits around an address; none where the address has fewer.
    pub fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = bits(address);
        if prefix > bits {
            return None;
        }
        let host_bits = u32::from(bits - prefix);
        let address = match address {
            IpAddr::V4(v4) => {
                let kept = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & kept))
            }
            IpAddr::V6(v6) => {
                let kept = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & kept))
            }
        };
        Some(Self { address, prefix })
    }

    /// The range of IPv4 that begins with an address, of which no bit is set beyond the prefix.
    pub(crate) const fn v4(address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            address: IpAddr::V4(address),
            prefix,
        }
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are the same.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Self::around(address, self.prefix).as_ref() == Some(self)
    }

    /// The range as the kernel's map has it: an IPv4 address in mapped form, its prefix from 96 to 128.
    pub fn mapped(&self) -> (Address, u32) {
        let before = match self.address {
            IpAddr::V4(_) => 96,
            IpAddr::V6(_) => 0,
        };
        (self.address.into(), before + u32::from(self.prefix))
    }

    /// Whether a text is meant to be a range or an address, right or wrong.
    pub(super) fn is_meant(text: &str) -> bool {
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let refuse = |why| NetError {
            text: text.to_owned(),
            why,
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse(Why::Address))?;
        let bits = bits(address);
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|&prefix| prefix <= bits)
                .ok_or_else(|| refuse(Why::Prefix(bits)))?,
        };
        let net = Self::around(address, prefix).ok_or_else(|| refuse(Why::Prefix(bits)))?;
        if net.address != address {
            return Err(refuse(Why::HostBits(net)));
        }
        match net.address {
            IpAddr::V6(v6) if prefix >= 96 => match v6.to_ipv4_mapped() {
                Some(v4) => Ok(Self {
                    address: IpAddr::V4(v4),
                    prefix: prefix - 96,
                }),
                None => Ok(net),
            },
            _ => Ok(net),
        }
    }
}

/// Why a text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a range of addresses: {why}")]
pub struct NetError {
    text: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("write one as 203.0.113.0/24 or 2001:db8::/32, or an address alone")]
    Address,
    #[error("after the slash goes a number from 0 to {0}")]
    Prefix(u8),
    #[error(
        "it has bits beyond its prefix; write {0} for the range, or the address without a slash for it alone"
    )]
    HostBits(Net),
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_and_addresses() {
        for (text, shown) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ] {
            assert_eq!(net(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn the_kernel_has_them_in_mapped_form() {
        assert_eq!(
            net("203.0.113.0/24").mapped(),
            (Address::v4([203, 0, 113, 0]), 120)
        );
        let (address, prefix) = net("2001:db8::/32").mapped();
        assert_eq!(address.to_ip().to_string(), "2001:db8::");
        assert_eq!(prefix, 32);
    }

    #[test]
    fn refusals_give_the_right_form() {
        for (text, sentence) in [
            (
                "203.0.113.7/24",
                "\"203.0.113.7/24\" is not a range of addresses: it has bits beyond its prefix; write 203.0.113.0/24 for the range, or the address without a slash for it alone",
            ),
            (
                "2001:db8::1/32",
                "\"2001:db8::1/32\" is not a range of addresses: it has bits beyond its prefix; write 2001:db8::/32 for the range, or the address without a slash for it alone",
            ),
            (
                "203.0.113.0/33",
                "\"203.0.113.0/33\" is not a range of addresses: after the slash goes a number from 0 to 32",
            ),
            (
                "2001:db8::/x",
                "\"2001:db8::/x\" is not a range of addresses: after the slash goes a number from 0 to 128",
            ),
            (
                "example.com",
                "\"example.com\" is not a range of addresses: write one as 203.0.113.0/24 or 2001:db8::/32, or an address alone",
            ),
        ] {
            assert_eq!(text.parse::<Net>().unwrap_err().to_string(), sentence);
        }
    }

    proptest! {
        #[test]
        fn a_printed_range_reads_back_as_itself(bits: u128, v6: bool, prefix in 0u8..=128) {
            let address = if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) };
            let net = Net::around(address, prefix);
            prop_assert_eq!(net.is_none(), !v6 && prefix > 32);
            if let Some(net) = net {
                prop_assert_eq!(net.to_string().parse::<Net>().unwrap(), net);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in r"[0-9a-f:./]{0,20}|\PC{0,20}") {
            let _ = text.parse::<Net>();
        }
    }
}
