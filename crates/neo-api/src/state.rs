//! Types and states of nodes, cells and clusters, named as NEO names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::ParseIdError;

// An enum that travels as a small number and prints as NEO writes its states.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident, $what:literal {
        $($(#[$vmeta:meta])* $variant:ident = $code:literal => $text:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u8", into = "u8")]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vmeta])* $variant = $code,)+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> Self {
                value as Self
            }
        }

        impl TryFrom<u8> for $name {
            type Error = ParseIdError;

            fn try_from(code: u8) -> Result<Self, ParseIdError> {
                match code {
                    $($code => Ok(Self::$variant),)+
                    _ => Err(ParseIdError { text: code.to_string(), expected: $what }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $text,)+ })
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// As printed, in any case.
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                $(if s.eq_ignore_ascii_case($text) { return Ok(Self::$variant); })+
                Err(ParseIdError { text: s.to_owned(), expected: $what })
            }
        }
    };
}

wire_enum! {
    /// What a node is.
    NodeType, "a node type (STORAGE, MASTER, CLIENT, ADMIN)" {
        /// Keeps data.
        Storage = 0 => "STORAGE",
        /// Gives out ids and drives commits; one of them is the primary.
        Master = 1 => "MASTER",
        /// Reads and writes; a library in an application.
        Client = 2 => "CLIENT",
        /// Relays an operator's commands.
        Admin = 3 => "ADMIN",
    }
}

impl NodeType {
    /// The letter that starts the node ids of this type.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Storage => 'S',
            Self::Master => 'M',
            Self::Client => 'C',
            Self::Admin => 'A',
        }
    }

    /// The type whose node ids start with `letter`.
    #[must_use]
    pub const fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'S' => Self::Storage,
            'M' => Self::Master,
            'C' => Self::Client,
            'A' => Self::Admin,
            _ => return None,
        })
    }
}

wire_enum! {
    /// What the primary master knows of a node.
    NodeState, "a node state (UNKNOWN, DOWN, RUNNING, PENDING)" {
        /// Forgotten; a node that receives it for itself stops.
        Unknown = 0 => "UNKNOWN",
        /// Known, not connected.
        Down = 1 => "DOWN",
        /// Identified and taking part.
        Running = 2 => "RUNNING",
        /// A storage node that is connected and has no part yet.
        Pending = 3 => "PENDING",
    }
}

wire_enum! {
    /// What the cluster is doing.
    ClusterState, "a cluster state (RECOVERING, VERIFYING, RUNNING, STOPPING, ...)" {
        /// Looking for the newest partition table and its readable cells.
        Recovering = 0 => "RECOVERING",
        /// Finishing or dropping what was unfinished.
        Verifying = 1 => "VERIFYING",
        /// Serving.
        Running = 2 => "RUNNING",
        /// Ending; pending transactions finish, new ones are refused.
        Stopping = 3 => "STOPPING",
        /// Connecting to the upstream cluster.
        StartingBackup = 4 => "STARTING_BACKUP",
        /// Following the upstream cluster.
        BackingUp = 5 => "BACKINGUP",
        /// Leaving backup mode.
        StoppingBackup = 6 => "STOPPING_BACKUP",
    }
}

wire_enum! {
    /// State of a cell: one partition on one storage node.
    CellState, "a cell state (OUT_OF_DATE, UP_TO_DATE, FEEDING, CORRUPTED, DISCARDED)" {
        /// Lacks data: written, but not read, until it has caught up.
        OutOfDate = 0 => "OUT_OF_DATE",
        /// Complete.
        UpToDate = 1 => "UP_TO_DATE",
        /// Complete, to be discarded when its replacement is.
        Feeding = 2 => "FEEDING",
        /// Found to be wrong; neither read nor written.
        Corrupted = 3 => "CORRUPTED",
        /// Only in change messages: the cell is no more.
        Discarded = 4 => "DISCARDED",
    }
}

impl CellState {
    /// Whether it holds every committed transaction of its partition.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        matches!(self, Self::UpToDate | Self::Feeding)
    }

    /// Whether transactions are written to it.
    ///
    /// One that is out of date is: what it gets while it catches up, it need not fetch.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::UpToDate | Self::Feeding | Self::OutOfDate)
    }

    /// The letter of `neoctl print pt`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::OutOfDate => 'O',
            Self::UpToDate => 'U',
            Self::Feeding => 'F',
            Self::Corrupted => 'C',
            Self::Discarded => '.',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_print_and_parse_as_neo_writes_them() {
        for state in ClusterState::ALL {
            assert_eq!(state.to_string().parse(), Ok(*state));
            assert_eq!(ClusterState::try_from(u8::from(*state)), Ok(*state));
        }
        assert_eq!("running".parse(), Ok(NodeState::Running));
        let error = "STOPED".parse::<ClusterState>().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("\"STOPED\" is not a cluster state"),
            "{error}"
        );
        assert!(CellState::try_from(5).is_err());
    }

    #[test]
    fn what_is_readable_is_writable_and_so_is_what_catches_up() {
        for state in CellState::ALL {
            let catches_up = *state == CellState::OutOfDate;
            assert_eq!(state.is_writable(), state.is_readable() || catches_up);
        }
    }
}
