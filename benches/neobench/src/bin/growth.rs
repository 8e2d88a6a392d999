//! `growth`: what a primary master costs as a cluster grows.
//!
//! The core of a real master runs against played storage nodes, in one thread and without sockets:
//! what is measured is its own work beside sending, and its memory. Each size runs in a process of
//! its own, so that memory is that of this size alone.

use std::collections::{BTreeMap, VecDeque};
use std::process::Command;
use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use neo_api::{
    Address, Instant, NodeId, NodeType, Now, Oid, PartitionTable, Reign, TableVersion, UnixMicros,
};
use neo_master::{MasterCore, MasterSettings};
use neo_proto::{
    ClusterIdentity, ConnId, Core, Effect, Effects, Identification, Input, Message, MsgId, Packet,
    Recovery, WireLastIds,
};
use serde::{Deserialize, Serialize};

/// What a primary master costs with so many storage nodes and partitions.
#[derive(Debug, Parser)]
struct Options {
    /// Numbers of storage nodes.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    storages: Vec<u32>,
    /// Numbers of partitions.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    partitions: Vec<u32>,
    /// Writes the figures to a file, as JSON.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
    /// Measures one size in this process and prints it as JSON.
    #[arg(long, hide = true)]
    alone: bool,
}

/// What one size costs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Figures {
    storages: u32,
    partitions: u32,
    memory_kib: u64,
    start_ms: f64,
    loss_ms: f64,
    return_ms: f64,
    tweak_ms: f64,
    /// Messages that the master sent for each of them.
    messages: [u64; 4],
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.alone {
        let (Some(&storages), Some(&partitions)) =
            (options.storages.first(), options.partitions.first())
        else {
            bail!("--alone wants one size");
        };
        println!(
            "{}",
            serde_json::to_string(&measure(storages, partitions)?)?
        );
        return Ok(());
    }
    let mut all = Vec::new();
    println!(
        "| storages | partitions | memory MiB | start ms | loss ms | return ms | tweak ms | messages |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
    for &partitions in &options.partitions {
        for &storages in &options.storages {
            // More nodes than cells have nothing to do.
            if storages > 2 * partitions {
                continue;
            }
            let figures = in_a_process(storages, partitions)?;
            let [start, loss, back, tweak] = figures.messages;
            println!(
                "| {storages} | {partitions} | {:.1} | {:.1} | {:.2} | {:.2} | {:.1} | {start}, {loss}, {back}, {tweak} |",
                figures.memory_kib as f64 / 1024.0,
                figures.start_ms,
                figures.loss_ms,
                figures.return_ms,
                figures.tweak_ms,
            );
            all.push(figures);
        }
    }
    for (what, of) in COSTS {
        println!("{what}: {}", exponents(&all, of));
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

type Cost = fn(&Figures) -> f64;

const COSTS: [(&str, Cost); 5] = [
    ("memory", |f| f.memory_kib as f64),
    ("start", |f| f.start_ms),
    ("loss", |f| f.loss_ms),
    ("return", |f| f.return_ms),
    ("tweak", |f| f.tweak_ms),
];

/// Exponents a and b of `storages^a * partitions^b`, by least squares over the logarithms.
fn exponents(all: &[Figures], of: Cost) -> String {
    let points: Vec<[f64; 3]> = all
        .iter()
        .map(|f| {
            let cost = of(f).max(1e-6);
            [
                f64::from(f.storages).ln(),
                f64::from(f.partitions).ln(),
                cost.ln(),
            ]
        })
        .collect();
    let n = points.len() as f64;
    let mean = |i: usize| points.iter().map(|p| p[i]).sum::<f64>() / n;
    let means = [mean(0), mean(1), mean(2)];
    let cov = |i: usize, j: usize| {
        let products = points.iter().map(|p| (p[i] - means[i]) * (p[j] - means[j]));
        products.sum::<f64>()
    };
    let determinant = cov(0, 0) * cov(1, 1) - cov(0, 1) * cov(0, 1);
    if determinant.abs() < 1e-9 {
        return "too few sizes for a fit".to_owned();
    }
    let a = (cov(0, 2) * cov(1, 1) - cov(1, 2) * cov(0, 1)) / determinant;
    let b = (cov(1, 2) * cov(0, 0) - cov(0, 2) * cov(0, 1)) / determinant;
    format!("storages^{a:.2} x partitions^{b:.2}")
}

fn in_a_process(storages: u32, partitions: u32) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--alone")
        .arg(format!("--storages={storages}"))
        .arg(format!("--partitions={partitions}"))
        .output()?;
    ensure!(
        output.status.success(),
        "{storages} storages, {partitions} partitions: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn measure(storages: u32, partitions: u32) -> Result<Figures> {
    let settings = MasterSettings {
        autostart: Some(storages),
        replicas: 1,
        partitions,
        ..MasterSettings::new("growth")
    };
    let mut creation = Cluster::new(settings.clone());
    for n in 1..=storages {
        creation.join(n);
    }
    ensure!(
        creation.core.status().serving,
        "it was not created: {:?}",
        creation.core.status()
    );
    let mut peers = creation.peers;
    let table = creation.table.context("there is no table")?;
    drop(creation.core);

    let before = resident_kib()?;
    let mut cluster = Cluster::new(settings);
    cluster.table = Some(table);
    for peer in peers.values_mut() {
        peer.conn = None;
    }
    cluster.peers = peers;
    let start = cluster.timed(|cluster| {
        for n in 1..=storages {
            cluster.join(n);
        }
    });
    ensure!(
        cluster.core.status().serving,
        "it did not start: {:?}",
        cluster.core.status()
    );
    let memory_kib = resident_kib()?.saturating_sub(before);
    let admin = cluster.identify(NodeType::Admin, None);
    for _ in 0..10 {
        cluster.identify(NodeType::Client, None);
    }
    cluster.settle();

    let loss = cluster.timed(|cluster| cluster.lose(1));
    let back = cluster.timed(|cluster| cluster.join(1));
    cluster.join(storages + 1);
    let nid = NodeId::new(NodeType::Storage, storages + 1).context("no such node id")?;
    cluster.ask(admin, Packet::AddPendingNodes { nodes: vec![nid] })?;
    let dry_run = false;
    let ignore = Vec::new();
    let mut refused = Ok(());
    let tweak = cluster.timed(|cluster| {
        refused = cluster.ask(admin, Packet::TweakPartitionTable { dry_run, ignore });
    });
    refused?;
    let ms = |(time, _): (Duration, u64)| time.as_secs_f64() * 1e3;
    Ok(Figures {
        storages,
        partitions,
        memory_kib,
        start_ms: ms(start),
        loss_ms: ms(loss),
        return_ms: ms(back),
        tweak_ms: ms(tweak),
        messages: [start.1, loss.1, back.1, tweak.1],
    })
}

/// Of this process, without what the system may take back.
fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS in /proc/self/status")?.parse()?)
}

/// What a played storage node remembers.
#[derive(Debug, Default, Clone)]
struct Peer {
    conn: Option<ConnId>,
    version: Option<TableVersion>,
    reign: Reign,
    identity: Option<ClusterIdentity>,
}

/// A master's core and those it talks to.
struct Cluster {
    core: MasterCore,
    now: Now,
    last_conn: u64,
    peers: BTreeMap<u32, Peer>,
    by_conn: BTreeMap<ConnId, u32>,
    /// What all storage nodes have stored, once for all of them.
    table: Option<PartitionTable>,
    inbox: VecDeque<(ConnId, Message)>,
    refusal: Option<String>,
    in_core: Duration,
    sent: u64,
}

impl Cluster {
    fn new(settings: MasterSettings) -> Self {
        let core = MasterCore::new(settings, Address::new("m", 1), [1, 2, 3, 4]);
        let mut cluster = Self {
            core,
            now: Now {
                mono: Instant(0),
                wall: UnixMicros(1_795_297_530_000_000),
            },
            last_conn: 0,
            peers: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            table: None,
            inbox: VecDeque::new(),
            refusal: None,
            in_core: Duration::ZERO,
            sent: 0,
        };
        cluster.input(Input::Timer);
        cluster
    }

    /// Time in the core, and messages sent.
    fn timed(&mut self, work: impl FnOnce(&mut Self)) -> (Duration, u64) {
        let before = (self.in_core, self.sent);
        work(self);
        self.settle();
        (self.in_core - before.0, self.sent - before.1)
    }

    fn input(&mut self, input: Input<MasterCore>) {
        let mut out = Effects::new();
        let started = Clock::now();
        self.core.handle(self.now, input, &mut out);
        self.in_core += started.elapsed();
        for effect in out.take() {
            match effect {
                Effect::Send { conn, message } => {
                    self.sent += 1;
                    if self.by_conn.contains_key(&conn) {
                        self.inbox.push_back((conn, message));
                    } else if let Packet::Error { message, .. } = message.packet {
                        self.refusal = Some(message);
                    }
                }
                Effect::Close { conn, reason } => {
                    if let Some(n) = self.by_conn.remove(&conn) {
                        self.refusal = Some(format!("S{n}: {reason}"));
                        self.peers.entry(n).or_default().conn = None;
                    }
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, conn: ConnId, id: MsgId, packet: Packet) {
        let message = Message::new(id, packet);
        self.input(Input::Message { conn, message });
    }

    fn ask(&mut self, conn: ConnId, packet: Packet) -> Result<()> {
        self.refusal = None;
        self.send(conn, MsgId(7), packet);
        self.settle();
        match self.refusal.take() {
            None => Ok(()),
            Some(words) => bail!("refused: {words}"),
        }
    }

    fn identify(&mut self, node_type: NodeType, storage: Option<u32>) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let from = Address::new("peer", 1);
        let known = storage.and_then(|n| self.peers.get(&n)).cloned();
        if let Some(n) = storage {
            self.by_conn.insert(conn, n);
            self.peers.entry(n).or_default().conn = Some(conn);
        }
        self.input(Input::Accepted { conn, from });
        let noted = known.as_ref().and_then(|peer| peer.version);
        let identification = Identification {
            node_type,
            nid: storage.and_then(|n| NodeId::new(NodeType::Storage, n)),
            address: storage.map(|n| Address::new(format!("s{n}"), 1)),
            cluster: "growth".to_owned(),
            identity: known.and_then(|peer| peer.identity),
            session: None,
            read_only: false,
            topology: Vec::new(),
            masters: Vec::new(),
            new_nid: false,
            noted,
            is_full: false,
        };
        let identification = Box::new(identification);
        self.send(
            conn,
            MsgId(1),
            Packet::RequestIdentification { identification },
        );
        conn
    }

    fn join(&mut self, n: u32) {
        self.identify(NodeType::Storage, Some(n));
        self.settle();
    }

    fn lose(&mut self, n: u32) {
        let conn = self.peers.get_mut(&n).and_then(|peer| peer.conn.take());
        if let Some(conn) = conn {
            self.by_conn.remove(&conn);
            let reason = "killed".to_owned();
            self.input(Input::Closed { conn, reason });
            // It is dealt with together with others of the same moment.
            self.input(Input::Timer);
        }
    }

    fn settle(&mut self) {
        while let Some((conn, message)) = self.inbox.pop_front() {
            let Some(&n) = self.by_conn.get(&conn) else {
                continue;
            };
            if let Some((id, packet)) = self.obey(n, message) {
                self.send(conn, id, packet);
            }
        }
    }

    /// What a storage node does with a message.
    fn obey(&mut self, n: u32, message: Message) -> Option<(MsgId, Packet)> {
        let peer = self.peers.entry(n).or_default();
        let stored = |version| (MsgId(0), Packet::NotifyPartitionTableStored { version });
        let answer = match message.packet {
            Packet::AskRecovery {} => Packet::AnswerRecovery {
                recovery: Box::new(Recovery {
                    version: peer.version,
                    reign: peer.reign,
                    identity: peer.identity.clone(),
                    oid_mark: Oid(0),
                    backup_tid: None,
                    truncate_tid: None,
                    import_tid: None,
                }),
            },
            Packet::AskPartitionTable {} => Packet::AnswerPartitionTable {
                table: self.table.clone().map(Box::new),
            },
            Packet::SendPartitionTable { identity, table } => {
                peer.identity = identity;
                peer.version = Some(table.version);
                let version = table.version;
                self.table = Some(*table);
                return Some(stored(version));
            }
            Packet::NotifyPartitionChanges { version, .. } => {
                peer.version = Some(version);
                return Some(stored(version));
            }
            Packet::AskStartReign { reign } => {
                peer.reign = reign;
                Packet::AnswerReignStarted { reign }
            }
            Packet::AskLockedTransactions { .. } => Packet::AnswerLockedTransactions {
                transactions: Vec::new(),
                more: false,
            },
            Packet::AskLastIds {} => Packet::AnswerLastIds {
                ids: WireLastIds::default(),
                version: None,
                cells: Vec::new(),
                committed_in: Reign(0),
            },
            Packet::AskStoreOidMark { mark } => Packet::AnswerOidMarkStored { mark },
            Packet::StartOperation { operation } => {
                return Some((MsgId(0), Packet::NotifyReady { operation }));
            }
            _ => return None,
        };
        Some((message.id, answer))
    }
}
