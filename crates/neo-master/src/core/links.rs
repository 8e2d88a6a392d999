//! Connections between masters: one a pair, kept up for the election.
//!
//! Who dials identifies itself; the other answers, and identifies itself on the same connection. So
//! both know under which address the other wants to be known, whatever name was dialled.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Address, ClusterState, Instant, NodeId, Now};
use neo_proto::{Backoff, ConnId, ConnectToken, NodeInfo};

/// Most masters that are known.
pub(super) const MASTERS_MAX: usize = 100;

/// Where the connection to a master is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is none; the next attempt, if it is wanted, is due then.
    None {
        at: Instant,
    },
    Dialing {
        token: ConnectToken,
    },
    /// One of the two has not identified itself; it must until then.
    Identifying {
        conn: ConnId,
        until: Instant,
        is_dialer: bool,
    },
    Up {
        conn: ConnId,
    },
    /// It is the name of a master that is connected under another address: it is not dialled.
    Alias,
}

/// Another master.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stage: Stage,
    /// The election wants a connection.
    is_wanted: bool,
    /// The master that this is another name of.
    alias_of: Option<Address>,
    backoff: Backoff,
    /// Its last trouble, which is logged once.
    trouble: String,
    /// The node id that it asks for.
    pub(super) wish: Option<NodeId>,
    /// What it told of the masters, as the primary.
    pub(super) nodes: BTreeMap<NodeId, NodeInfo>,
    /// What it told of the cluster's state, as the primary.
    pub(super) state: Option<ClusterState>,
}

impl Link {
    fn new(now: Instant) -> Self {
        Self {
            stage: Stage::None { at: now },
            is_wanted: false,
            alias_of: None,
            backoff: Backoff::default(),
            trouble: String::new(),
            wish: None,
            nodes: BTreeMap::new(),
            state: None,
        }
    }
}

/// All of them, by address.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<Address, Link>,
    by_conn: BTreeMap<ConnId, Address>,
    last_token: u64,
    /// Names in the list of masters that turned out to be this master's.
    own_names: BTreeSet<Address>,
}

impl Links {
    /// Those that are known, connected or not.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        let known = self.links.iter();
        known.filter_map(|(address, link)| (link.stage != Stage::Alias).then_some(address))
    }

    /// Those that are connected.
    pub(super) fn connected(&self) -> impl Iterator<Item = (&Address, ConnId)> {
        self.links
            .iter()
            .filter_map(|(address, link)| match link.stage {
                Stage::Up { conn } => Some((address, conn)),
                _ => None,
            })
    }

    pub(super) fn get(&self, address: &Address) -> Option<&Link> {
        self.links.get(address)
    }

    pub(super) fn get_mut(&mut self, address: &Address) -> Option<&mut Link> {
        self.links.get_mut(address)
    }

    /// The master at the other end of a connection.
    pub(super) fn at(&self, conn: ConnId) -> Option<&Address> {
        self.by_conn.get(&conn)
    }

    /// The connection to a master, once both have identified themselves.
    pub(super) fn conn(&self, address: &Address) -> Option<ConnId> {
        match self.links.get(address)?.stage {
            Stage::Up { conn } => Some(conn),
            _ => None,
        }
    }

    /// Whether it turned out to be another name of this master, or of one that is connected.
    pub(super) fn is_other_name(&self, address: &Address) -> bool {
        let link = self.links.get(address);
        self.own_names.contains(address) || link.is_some_and(|link| link.stage == Stage::Alias)
    }

    /// A connection is wanted from now on; `false`: there are too many masters.
    pub(super) fn want(&mut self, now: Instant, address: Address) -> bool {
        if self.own_names.contains(&address) {
            return true;
        }
        let known = self.links.contains_key(&address);
        if !known && self.links.len() >= MASTERS_MAX {
            return false;
        }
        let link = self.links.entry(address).or_insert_with(|| Link::new(now));
        link.is_wanted = true;
        true
    }

    /// The next attempt that is due, if there is one.
    pub(super) fn dial(&mut self, now: Instant) -> Option<(ConnectToken, Address)> {
        let due = |link: &Link| match link.stage {
            Stage::None { at } => link.is_wanted && at <= now,
            _ => false,
        };
        let (address, link) = self.links.iter_mut().find(|(_, link)| due(link))?;
        self.last_token += 1;
        let token = ConnectToken(self.last_token);
        link.stage = Stage::Dialing { token };
        Some((token, address.clone()))
    }

    /// Who was dialled.
    pub(super) fn dialed(&self, token: ConnectToken) -> Option<Address> {
        let dialing = Stage::Dialing { token };
        let link = self.links.iter().find(|(_, link)| link.stage == dialing);
        link.map(|(address, _)| address.clone())
    }

    /// A master that came: it is known from now on, as long as it is connected.
    pub(super) fn known(&mut self, now: Instant, address: &Address, wish: Option<NodeId>) {
        let link = self.links.entry(address.clone());
        link.or_insert_with(|| Link::new(now)).wish = wish;
    }

    /// Somebody is at the other end, and must say who it is.
    pub(super) fn identifying(
        &mut self,
        address: &Address,
        conn: ConnId,
        until: Instant,
        is_dialer: bool,
    ) {
        if let Some(link) = self.links.get_mut(address) {
            link.stage = Stage::Identifying {
                conn,
                until,
                is_dialer,
            };
            self.by_conn.insert(conn, address.clone());
        }
    }

    /// Both have identified themselves.
    pub(super) fn up(&mut self, address: &Address, conn: ConnId) {
        if let Some(link) = self.links.get_mut(address) {
            link.stage = Stage::Up { conn };
            link.backoff.reset();
            link.trouble.clear();
            link.nodes.clear();
            link.state = None;
            self.by_conn.insert(conn, address.clone());
        }
    }

    /// A connection turned out to be another one's, or of no use.
    pub(super) fn forget_conn(&mut self, conn: ConnId) {
        self.by_conn.remove(&conn);
    }

    /// What was dialled is another name of a master: it is not dialled while that is connected.
    pub(super) fn alias(&mut self, dialed: &Address, of: &Address) {
        if let Some(link) = self.links.get_mut(dialed) {
            link.stage = Stage::Alias;
            link.alias_of = Some(of.clone());
        }
    }

    /// What was dialled is this master.
    pub(super) fn own_name(&mut self, dialed: Address) {
        self.links.remove(&dialed);
        self.own_names.insert(dialed);
    }

    /// There is no connection, or no attempt any more. Another attempt follows, after a pause.
    pub(super) fn gone(&mut self, now: Instant, address: &Address, random: u64) {
        let Some(link) = self.links.get_mut(address) else {
            return;
        };
        if let Stage::Identifying { conn, .. } | Stage::Up { conn } = link.stage {
            self.by_conn.remove(&conn);
        }
        if link.is_wanted {
            link.nodes.clear();
            link.stage = Stage::None {
                at: now + link.backoff.delay(random),
            };
            return;
        }
        // Nobody dials this address: another name of it may be.
        self.links.remove(address);
        for link in self.links.values_mut() {
            if link.stage == Stage::Alias && link.alias_of.as_ref() == Some(address) {
                link.stage = Stage::None {
                    at: now + link.backoff.delay(random),
                };
            }
        }
    }

    /// Notes what is wrong with a master; `true`: it is news.
    pub(super) fn trouble(&mut self, address: &Address, words: &str) -> bool {
        let Some(link) = self.links.get_mut(address) else {
            return true;
        };
        let is_news = link.trouble != words;
        link.trouble = words.to_owned();
        is_news
    }

    /// An identification that has taken too long.
    pub(super) fn overdue(&self, now: Now) -> Option<ConnId> {
        self.links.values().find_map(|link| match link.stage {
            Stage::Identifying { conn, until, .. } if until <= now.mono => Some(conn),
            _ => None,
        })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = self.links.values().filter_map(|link| match link.stage {
            Stage::None { at } if link.is_wanted => Some(at),
            Stage::Identifying { until, .. } => Some(until),
            _ => None,
        });
        deadlines.min()
    }
}
