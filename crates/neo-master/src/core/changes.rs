//! Changes of the partition table while it is served: what is sent to whom, in which order.

use neo_api::{CellChange, NodeType, Now, Partition, TableVersion};
use neo_proto::{ConnId, MsgId, Packet};

use super::effect::Out;
use super::{MasterCore, Phase};

/// Most commands that may wait for a change of the table.
const COMMANDS_MAX: usize = 100;

impl MasterCore {
    /// Changes cells, and tells everybody: storage nodes first, since they make it durable before
    /// they answer anything that comes later.
    ///
    /// A promotion that is under way is void: its version may be on disks, so that this one is
    /// above it, and storage nodes get the whole table, whatever they have.
    pub(super) fn change_table(&mut self, changes: &[CellChange], out: &mut Out) {
        if let Some(replicas) = self.table.as_ref().map(|table| table.get().replicas) {
            self.change_replicas(replicas, changes, out);
        }
    }

    /// The same, with the number of replicas that are wanted.
    pub(super) fn change_replicas(&mut self, replicas: u32, changes: &[CellChange], out: &mut Out) {
        let void = self.promotion_void();
        let reign = self.reign;
        let Some(table) = &mut self.table else {
            return;
        };
        if changes.is_empty() && void.is_none() && replicas == table.get().replicas {
            return;
        }
        let base = table.version();
        let ptid = void.map_or(base.ptid, |void| void.ptid.max(base.ptid));
        let version = TableVersion {
            reign,
            ptid: ptid.next(),
        };
        table.apply(version, replicas, changes);
        tracing::info!(%version, cells = changes.len(), "the partition table changed");
        if let Phase::Running(running) = &mut self.phase {
            running.catching_up.changed(changes);
            running.packs.changed(changes);
            if void.is_some() {
                running.packs.forget_unreadable(table);
            }
        }
        let packet = Packet::NotifyPartitionChanges {
            base,
            version,
            replicas,
            changes: changes.to_vec(),
        };
        for (_, conn) in self.nodes.followers() {
            match void {
                Some(_) => self.send_table(conn, out),
                None => out.notify(conn, packet.clone()),
            }
        }
        self.tell_users(&packet, out);
    }

    /// Tells clients and admins.
    pub(super) fn tell_users(&self, packet: &Packet, out: &mut Out) {
        for node_type in [NodeType::Client, NodeType::Admin] {
            for (_, conn) in self.nodes.online(node_type) {
                out.notify(conn, packet.clone());
            }
        }
    }

    /// Feeding cells that are not needed any more go. It is a change of its own: that what replaces
    /// them is complete is durable on every node that is relied on.
    pub(super) fn discard_surplus(
        &mut self,
        partitions: impl Iterator<Item = Partition>,
        out: &mut Out,
    ) {
        let changes = self.table.as_ref().map(|table| table.surplus(partitions));
        if let Some(changes) = changes.filter(|changes| !changes.is_empty()) {
            self.change_table(&changes, out);
        }
    }

    /// Keeps a command that changes the table until the change that is under way is done. The error
    /// is for the operator.
    pub(super) fn postpone(
        &mut self,
        conn: ConnId,
        id: MsgId,
        packet: Packet,
    ) -> Result<(), String> {
        match self.running() {
            Some(running) if running.commands.len() < COMMANDS_MAX => {
                running.commands.push_back((conn, id, packet));
                Ok(())
            }
            _ => Err("too many commands are waiting: try again".to_owned()),
        }
    }

    /// Whether the table must not be changed now but for a loss.
    pub(super) fn is_table_changing(&mut self) -> bool {
        self.running().is_some_and(|r| r.promotion.is_some())
    }

    /// No change of the table is under way, perhaps: what waited goes on, operators first.
    pub(super) fn table_settled(&mut self, now: Now, out: &mut Out) {
        while let Some(running) = self.running()
            && running.promotion.is_none()
            && let Some((conn, id, packet)) = running.commands.pop_front()
        {
            if self.peers.contains_key(&conn) {
                self.admin_message(now, conn, id, packet, out);
            }
        }
        self.promote(now, out);
        self.retry_unvoted(now, out);
    }
}
