//! Storage nodes without space: told once, and to everybody who asks for the nodes.

use neo_api::NodeId;

use super::MasterCore;

impl MasterCore {
    /// A storage node tells whether it has space.
    pub(super) fn note_space(&mut self, nid: NodeId, is_full: bool) {
        if !self.nodes.set_full(nid, is_full) {
            return;
        }
        if is_full {
            tracing::warn!(
                "no space left on {nid}: transactions go on without it where they can; it catches \
                 up once there is space"
            );
        } else {
            tracing::info!("there is space again on {nid}");
        }
    }
}
