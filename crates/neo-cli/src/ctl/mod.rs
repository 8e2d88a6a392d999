//! `neoctl`: an operator's commands, and what they print.

pub mod args;
pub mod format;

use anyhow::{anyhow, bail};
use neo_admin::{ClusterStatus, Control};
use neo_api::{Env, NodeState, NodeType, PartitionTable, SystemEnv, Tid};

use self::args::{CtlCommand, NodeOrAll, Partitions, PrintCommand, SetCommand, When};
use crate::Programs;

/// Carries a command out; what it returns is for stdout.
///
/// # Errors
/// When the admin node can't be reached, is not ready, or the command is denied.
pub async fn execute(
    programs: &Programs,
    control: &Control,
    command: CtlCommand,
) -> anyhow::Result<String> {
    Ok(match command {
        CtlCommand::Print(what) => match what {
            PrintCommand::Ids => {
                let (ids, version) = control.last_ids().await?;
                format::ids(&ids, version)
            }
            PrintCommand::Pt {
                partitions: None, ..
            } => {
                let table = partition_table(control).await?;
                format::table(&table, &control.nodes(None).await?)
            }
            PrintCommand::Pt {
                partitions: Some(partitions),
                max,
                node,
            } => {
                let ranges = match partitions {
                    // NEO's way: one past the last, or 0.
                    Partitions::From(min) => {
                        let last = max.filter(|max| *max > 0).map_or(u32::MAX, |max| max - 1);
                        vec![(min, last)]
                    }
                    Partitions::Ranges(ranges) => ranges,
                };
                let table = partition_table(control).await?;
                format::table_ranges(&table, &ranges, node).map_err(|words| anyhow!(words))?
            }
            PrintCommand::Node { node_type } => {
                let nodes = control.nodes(node_type).await?;
                format::nodes(&nodes, &control.cluster().await?)
            }
            PrintCommand::Cluster => match control.cluster().await? {
                ClusterStatus {
                    state: None,
                    waiting,
                    ..
                } => bail!("not ready: {waiting}"),
                cluster => format::cluster(&cluster),
            },
            PrintCommand::Primary => match control.primary().await? {
                Some(primary) => primary.to_string(),
                None => bail!("not ready: {}", control.cluster().await?.waiting),
            },
            PrintCommand::Pack => format::pack(&control.pack_progress().await?),
            PrintCommand::Summary => bail!("print summary is not available in this version"),
        },
        CtlCommand::Set(SetCommand::Cluster { state }) => done(
            &control.set_cluster_state(state).await?,
            "Cluster state changed",
        ),
        CtlCommand::Set(SetCommand::Replicas { number }) => {
            done(&control.set_replicas(number).await?, "Number of replicas")
        }
        CtlCommand::Start => done(&control.start().await?, "Cluster state changed"),
        CtlCommand::Add { nodes } => {
            let named = nodes.iter().map(|node| match node {
                NodeOrAll::Node(nid) => Some(*nid),
                NodeOrAll::All => None,
            });
            // Nobody named means all, to the primary too.
            let nodes = named.collect::<Option<Vec<_>>>().unwrap_or_default();
            done(&control.add_nodes(nodes).await?, "Nodes added")
        }
        CtlCommand::Tweak { dry_run, nodes } => {
            let before = partition_table(control).await?;
            let tweaked = control.tweak(dry_run, nodes).await?;
            if tweaked.changed {
                let nodes = control.nodes(None).await?;
                format!(
                    "{}\nbefore:\n{}\nafter:\n{}",
                    tweaked.message,
                    format::table(&before, &nodes),
                    format::table(&tweaked.table, &nodes)
                )
            } else {
                format!("No change done: {}", tweaked.message)
            }
        }
        CtlCommand::Kill { node } => {
            let message = control.set_node_state(node, NodeState::Down).await?;
            done(&message, "state changed")
        }
        CtlCommand::Drop { node } => {
            let message = control.set_node_state(node, NodeState::Unknown).await?;
            done(&message, "node permanently removed")
        }
        CtlCommand::Pack {
            when,
            cluster,
            no_wait,
        } => pack(programs, control, cluster, when, no_wait).await?,
        CtlCommand::Other(words) => {
            let name = words.join(" ");
            bail!("{name} is not available in this version")
        }
    })
}

/// Orders a pack as a client does: of the masters that the admin node knows.
async fn pack(
    programs: &Programs,
    control: &Control,
    cluster: String,
    when: Option<When>,
    no_wait: bool,
) -> anyhow::Result<String> {
    let masters = control.nodes(Some(NodeType::Master)).await?;
    let masters = masters.iter().filter_map(|node| node.address.as_ref());
    let masters: Vec<String> = masters.map(ToString::to_string).collect();
    let client = programs
        .client(&cluster)
        .masters(&masters)
        .cache_bytes(0)
        .connect()
        .await?;
    let now = SystemEnv::new().now().wall;
    let at = when.map_or(Tid::MAX, |when| when.at(now));
    let pack = client.pack(at).await?;
    let ordered = format::tid(pack.id());
    if no_wait {
        client.close().await;
        return Ok(format!("Pack ordered by transaction {ordered}"));
    }
    pack.wait().await?;
    client.close().await;
    Ok(format!("Packed, as transaction {ordered} ordered"))
}

async fn partition_table(control: &Control) -> anyhow::Result<PartitionTable> {
    match control.partition_table().await? {
        Some(table) => Ok(table),
        None => bail!("not ready: the cluster has no partition table yet"),
    }
}

/// NEO's words for a success, then what the primary said.
fn done(message: &str, success: &str) -> String {
    if message.is_empty() {
        success.to_owned()
    } else {
        format!("{success}: {message}")
    }
}
