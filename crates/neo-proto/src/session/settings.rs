//! Times and bounds of connections.

use std::time::Duration;

use crate::frame::FrameLimits;

/// Times and bounds of a node's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// A heartbeat is sent when nothing else was for so long. Default: 2 s.
    pub heartbeat_interval: Duration,
    /// A peer from which nothing came for so long, or which takes nothing of what waits for it, is
    /// disconnected. Default: 10 s.
    pub silence_max: Duration,
    /// An attempt to connect, greeting included, fails after so long. A peer that connected has as
    /// long for its greeting, and again for its first message. Default: 5 s.
    pub connect_timeout: Duration,
    /// What is still to be sent when a connection closes is given up after so long. Default: 2 s.
    pub close_timeout: Duration,
    /// Object bytes that the peer may send before any are consumed. Default: 8 MiB.
    pub credit_window_bytes: u64,
    /// Messages without object bytes that wait for a peer that does not read. Default: 64 MiB.
    pub control_bytes_max: usize,
    /// Invalidations that wait for a peer: beyond, they become `InvalidateAll`. Default: 10,000.
    pub invalidations_max: usize,
    /// Their bytes: likewise. Default: 16 MiB.
    pub invalidation_bytes_max: usize,
    /// Answers with object bytes that wait for a peer: beyond, its messages are not looked at.
    /// Default: 32 MiB.
    pub held_bytes_max: usize,
    /// Messages that are not looked at: beyond, nothing is read. Default: 16 MiB.
    pub inbox_bytes_max: usize,
    /// Requests without an answer, on one connection. Default: 1,048,576.
    pub requests_max: usize,
    /// Bytes of a frame from a peer that this side has not yet said anything to. Default: 1 MiB.
    pub first_frame_bytes_max: usize,
    /// Connections of a node: beyond, none is accepted. Default: 10,000.
    pub connections_max: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(2),
            silence_max: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(2),
            credit_window_bytes: 8 << 20,
            control_bytes_max: 64 << 20,
            invalidations_max: 10_000,
            invalidation_bytes_max: 16 << 20,
            held_bytes_max: 32 << 20,
            inbox_bytes_max: 16 << 20,
            requests_max: 1 << 20,
            first_frame_bytes_max: 1 << 20,
            connections_max: 10_000,
        }
    }
}

impl SessionSettings {
    pub(super) fn first_frame(&self) -> FrameLimits {
        let all = FrameLimits::default();
        FrameLimits {
            header: all.header.min(self.first_frame_bytes_max),
            payload: all.payload.min(self.first_frame_bytes_max),
        }
    }
}
