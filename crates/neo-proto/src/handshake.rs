//! The greeting: 8 bytes each way, at once, before any frame.
//!
//! `[4 bytes magic][u16 least version][u16 greatest version]`, big-endian. Both sides then speak
//! the greatest version that both know. Everything else is said in messages: see
//! [`Identification`](crate::Identification).

use std::fmt;

/// First bytes of every connection. The first is no ASCII and starts no TLS record.
pub const MAGIC: [u8; 4] = *b"\x89NEO";

/// Length of a greeting.
pub const GREETING_BYTES: usize = 8;

/// Protocol versions that a node speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The least.
    pub min: u16,
    /// The greatest.
    pub max: u16,
}

impl Versions {
    /// Those of this crate.
    pub const OWN: Self = Self { min: 1, max: 1 };

    /// The greeting that says so.
    #[must_use]
    pub fn greeting(self) -> [u8; GREETING_BYTES] {
        let [a, b, c, d] = MAGIC;
        let ([e, f], [g, h]) = (self.min.to_be_bytes(), self.max.to_be_bytes());
        [a, b, c, d, e, f, g, h]
    }

    /// The version to speak with a peer.
    ///
    /// # Errors
    /// When there is none that both know.
    pub fn agree(self, peer: Self) -> Result<u16, GreetingError> {
        let version = self.max.min(peer.max);
        if version >= self.min.max(peer.min) {
            Ok(version)
        } else {
            Err(GreetingError::NoCommonVersion { own: self, peer })
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// Why two ends do not understand each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// Something else listens or calls there.
    #[error("the peer is not a neo node: it said {}{}", Printable(.0), guess(.0))]
    NotNeo(Vec<u8>),
    /// A TLS record where a greeting should be.
    #[error("the peer speaks TLS, this side does not: configure TLS on both or on none")]
    Tls,
    /// A newer or older neo.
    #[error(
        "no common protocol version: the peer speaks {peer}, this node {own}: upgrade {}",
        who(*.own, *.peer)
    )]
    NoCommonVersion {
        /// Of this side.
        own: Versions,
        /// Of the other.
        peer: Versions,
    },
    /// The end of the stream where a greeting should be.
    #[error(
        "the peer closed the connection before its greeting{}: it does not accept this node now, \
         or it is not a neo node, or it speaks TLS",
        after(.0)
    )]
    Closed(Vec<u8>),
}

/// Looks at what has come of a peer's greeting: `None` when more is needed.
///
/// # Errors
/// As soon as it can't become a greeting that this side understands.
pub fn read_greeting(own: Versions, bytes: &[u8]) -> Option<Result<u16, GreetingError>> {
    // 0x16 starts a TLS handshake, 0x15 is a TLS server's alert about our greeting.
    if let [0x15 | 0x16, rest @ ..] = bytes
        && rest.first().is_none_or(|major| *major == 3)
    {
        return Some(Err(GreetingError::Tls));
    }
    let (greeting, _) = bytes.split_first_chunk::<GREETING_BYTES>()?;
    let [a, b, c, d, e, f, g, h] = *greeting;
    if [a, b, c, d] != MAGIC {
        return Some(Err(not_neo(bytes)));
    }
    let peer = Versions {
        min: u16::from_be_bytes([e, f]),
        max: u16::from_be_bytes([g, h]),
    };
    if peer.min > peer.max {
        return Some(Err(not_neo(bytes)));
    }
    Some(own.agree(peer))
}

/// What to say when a peer closes with its greeting incomplete.
#[must_use]
pub fn closed_in_greeting(bytes: &[u8]) -> GreetingError {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] == MAGIC[..known] {
        GreetingError::Closed(bytes.to_vec())
    } else {
        not_neo(bytes)
    }
}

fn not_neo(bytes: &[u8]) -> GreetingError {
    GreetingError::NotNeo(bytes[..bytes.len().min(32)].to_vec())
}

fn guess(bytes: &[u8]) -> &'static str {
    const HTTP: [&[u8]; 7] = [
        b"HTTP/", b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PRI * ", b"OPTIONS",
    ];
    if HTTP.iter().any(|start| bytes.starts_with(start)) {
        " (it speaks HTTP)"
    } else if bytes.starts_with(b"SSH-") {
        " (it speaks SSH)"
    } else {
        ""
    }
}

fn who(own: Versions, peer: Versions) -> &'static str {
    if peer.min > own.max {
        "this node"
    } else {
        "the peer"
    }
}

fn after(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        ""
    } else {
        " was complete"
    }
}

/// Bytes as a log can show them.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        read_greeting(Versions::OWN, bytes)
            .expect("decided")
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn a_greeting_is_magic_and_two_versions() {
        assert_eq!(
            Versions { min: 1, max: 0x203 }.greeting(),
            *b"\x89NEO\x00\x01\x02\x03"
        );
    }

    #[test]
    fn the_greatest_common_version_is_spoken() {
        let own = Versions { min: 2, max: 5 };
        for (min, max, version) in [(1, 2, 2), (3, 4, 4), (5, 9, 5), (1, 9, 5)] {
            let bytes = Versions { min, max }.greeting();
            assert_eq!(read_greeting(own, &bytes), Some(Ok(version)));
            for len in 0..GREETING_BYTES {
                assert_eq!(read_greeting(own, &bytes[..len]), None);
            }
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let newer = error(&Versions { min: 3, max: 4 }.greeting());
        assert_eq!(
            newer,
            "no common protocol version: the peer speaks 3 to 4, this node 1 to 1: \
             upgrade this node"
        );
        let own = Versions { min: 2, max: 2 };
        let older = own.agree(Versions { min: 1, max: 1 }).unwrap_err();
        assert!(older.to_string().ends_with("upgrade the peer"), "{older}");
        assert_eq!(
            error(b"HTTP/1.1 400 Bad Request\r\n"),
            "the peer is not a neo node: it said \"HTTP/1.1 400 Bad Request\\r\\n\" \
             (it speaks HTTP)"
        );
        assert!(error(b"SSH-2.0-OpenSSH_9.6\r\n").contains("it speaks SSH"));
        // A TLS client's hello, a TLS server's alert about our greeting.
        assert!(error(b"\x16\x03\x01\x02\x00\x01\x00\x01").contains("speaks TLS"));
        assert!(error(b"\x15\x03\x01\x00\x02\x02\x46").contains("speaks TLS"));
        // Versions that make no sense.
        assert!(error(&Versions { min: 4, max: 3 }.greeting()).contains("not a neo node"));
    }

    #[test]
    fn a_close_before_the_greeting_is_told_from_another_protocol() {
        assert!(
            closed_in_greeting(b"")
                .to_string()
                .contains("before its greeting:")
        );
        assert!(
            closed_in_greeting(b"\x89NE")
                .to_string()
                .contains("complete")
        );
        assert!(closed_in_greeting(b"220 ").to_string().contains("\"220 \""));
    }
}
