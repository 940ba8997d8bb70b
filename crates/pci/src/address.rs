//! The name of a device on the bus.

use std::fmt;
use std::str::FromStr;

use crate::PciError;

/// `0000:00:03.0`: domain, bus, device and function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciAddress {
    /// Whether a device's name is such an address, with its domain or without: no driver's name looks like one.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        Self::parse(text).is_some()
    }

    fn parse(text: &str) -> Option<Self> {
        let (rest, function) = text.rsplit_once('.')?;
        let (rest, device) = rest.rsplit_once(':')?;
        let (domain, bus) = rest.split_once(':').unwrap_or(("0", rest));
        let hex = |text: &str, digits, most: u32| {
            let whole =
                (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            u32::from_str_radix(text, 16)
                .ok()
                .filter(|number| whole && *number <= most)
        };
        let byte = |text, most| u8::try_from(hex(text, 2, most)?).ok();
        Some(Self {
            domain: hex(domain, 8, u32::MAX)?,
            bus: byte(bus, 0xff)?,
            device: byte(device, 0x1f)?,
            function: byte(function, 7)?,
        })
    }
}

impl FromStr for PciAddress {
    type Err = PciError;

    fn from_str(text: &str) -> Result<Self, PciError> {
        Self::parse(text).ok_or_else(|| PciError::BadAddress {
            got: text.to_owned(),
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With and without the domain; nothing else is taken for one.
    #[test]
    fn parses() {
        let text = |text: &str| text.parse::<PciAddress>().map(|a| a.to_string()).ok();
        assert_eq!(text("0000:00:03.0").as_deref(), Some("0000:00:03.0"));
        assert_eq!(text("3:1F.7").as_deref(), Some("0000:03:1f.7"));
        assert_eq!(text("10000:e1:00.1").as_deref(), Some("10000:e1:00.1"));
        for bad in [
            "",
            "net_vhost0",
            "00:03",
            "00:20.0",
            "00:03.8",
            "0:0:0:0.0",
            "00:+3.0",
            "100:03.0",
        ] {
            assert_eq!(text(bad), None, "{bad}");
            assert!(!PciAddress::is_one(bad));
        }
    }
}
