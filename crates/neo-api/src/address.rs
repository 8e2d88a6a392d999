//! Addresses: `host:port` and `[ipv6]:port`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a node listens: a host name or IP address, and a port.
///
/// ```
/// use neo_api::Address;
/// let a: Address = "[::1]:10000".parse()?;
/// assert_eq!((a.host(), a.port()), ("::1", 10000));
/// assert_eq!(a.to_string(), "[::1]:10000");
/// # Ok::<(), neo_api::ParseAddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    host: String,
    port: u16,
}

/// A string that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: {problem} (write HOST:PORT or [IPV6]:PORT)")]
pub struct ParseAddressError {
    text: String,
    problem: &'static str,
}

impl Address {
    /// An address from its parts; `host` without brackets.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 in an address to bind means any free one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The same host with another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self {
            host: self.host.clone(),
            port,
        }
    }

    /// Parses an address whose port may be left out.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn parse_with_default_port(text: &str, port: u16) -> Result<Self, ParseAddressError> {
        let error = |problem| ParseAddressError {
            text: text.to_owned(),
            problem,
        };
        let (host, rest) = if let Some(inner) = text.strip_prefix('[') {
            let (host, rest) = inner
                .split_once(']')
                .ok_or_else(|| error("the bracket is not closed"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(error("what is in brackets is no IPv6 address"));
            }
            (host, rest)
        } else {
            let end = text.find(':').unwrap_or(text.len());
            if text[end..].matches(':').count() > 1 {
                return Err(error("an IPv6 address needs brackets"));
            }
            text.split_at(end)
        };
        if host.is_empty() {
            return Err(error("the host is missing"));
        }
        if host.chars().any(|c| c.is_whitespace() || c == '/') {
            return Err(error("the host has a character that no host has"));
        }
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => port,
            None => {
                return Err(error(
                    "the bracket is followed by something else than a port",
                ));
            }
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .map_err(|_| error("the port is not between 0 and 65535"))?,
            Some(_) => return Err(error("the port is not a number")),
        };
        Ok(Self::new(host, port))
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        // Two defaults that differ tell whether the text has a port.
        let (a, b) = (
            Self::parse_with_default_port(text, 1)?,
            Self::parse_with_default_port(text, 2)?,
        );
        if a != b {
            return Err(ParseAddressError {
                text: text.to_owned(),
                problem: "the port is missing",
            });
        }
        Ok(a)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Its text: for whoever takes addresses as a user writes them.
impl From<&Address> for String {
    fn from(address: &Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_and_what_is_not_an_address() {
        for text in ["127.0.0.1:10000", "[::1]:0", "node-1.example.org:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in [
            "", ":1", "a", "a:", "a:x", "a:65536", "::1:5", "[::1", "[a]:1", "[::1]5", "a b:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert_eq!(
            Address::parse_with_default_port("a", 7),
            Ok(Address::new("a", 7))
        );
        let e = "::1".parse::<Address>().unwrap_err().to_string();
        assert!(e.contains("needs brackets"), "{e}");
    }
}
