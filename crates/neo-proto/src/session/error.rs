//! Why a connection ends.

use std::fmt;
use std::time::Duration;

use crate::codec::DecodeError;
use crate::error::ErrorCode;
use crate::frame::FrameError;
use crate::handshake::GreetingError;
use crate::packet::MsgId;

/// Why a session can't go on; the words are for logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The two ends do not understand each other.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// Bytes that are no frame.
    #[error("protocol error: {0}")]
    Frame(#[from] FrameError),
    /// A frame that holds no message.
    #[error("protocol error: {0}")]
    Decode(#[from] DecodeError),
    /// An answer to nothing.
    #[error("protocol error: {name} answers request {}, which was not sent or is answered", .id.0)]
    UnknownAnswer {
        /// What came.
        name: &'static str,
        /// Which request it names.
        id: MsgId,
    },
    /// More object bytes than were allowed.
    #[error("protocol error: {name} brings object bytes without credit")]
    NoCredit {
        /// What came.
        name: &'static str,
    },
    /// The peer ends the connection, and says why.
    #[error("the peer says: {code}: {message}")]
    Peer {
        /// Its code.
        code: ErrorCode,
        /// Its words.
        message: String,
    },
    /// Nothing came.
    #[error("silent for {}", Seconds(*.0))]
    Silent(Duration),
    /// Nothing was taken.
    #[error("took nothing of what waits for it for {}", Seconds(*.0))]
    Stalled(Duration),
    /// None of the answers that it asked for was taken.
    #[error("took none of the {bytes} bytes that it asked for, for {}", Seconds(*.waited))]
    NotTaking {
        /// How much waits.
        bytes: usize,
        /// How long.
        waited: Duration,
    },
    /// Too much waits.
    #[error("does not read: {bytes} bytes of messages wait for it")]
    NotReading {
        /// How much.
        bytes: usize,
    },
    /// Too many requests wait.
    #[error("{requests} requests are not answered")]
    NotAnswering {
        /// How many.
        requests: usize,
    },
    /// A message of this side that no frame can hold.
    #[error("{name} can't be sent: {error}")]
    TooLong {
        /// What was to be sent.
        name: &'static str,
        /// Which limit.
        error: FrameError,
    },
}

impl SessionError {
    /// Whether the peer broke the protocol, and is told so.
    #[must_use]
    pub const fn is_protocol(&self) -> bool {
        matches!(
            self,
            Self::Frame(_) | Self::Decode(_) | Self::UnknownAnswer { .. } | Self::NoCredit { .. }
        )
    }

    /// Whether there is no use in sending anything more.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        matches!(
            self,
            Self::Silent(_) | Self::Stalled(_) | Self::NotTaking { .. } | Self::NotReading { .. }
        )
    }
}

/// A duration in words.
#[derive(Debug)]
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() == 0 && self.0.as_secs() > 0 {
            write!(f, "{} s", self.0.as_secs())
        } else {
            write!(f, "{} ms", self.0.as_millis())
        }
    }
}
