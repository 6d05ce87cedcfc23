//! The table's nodes: numbers for names, for as long as anything speaks of them.

use std::collections::BTreeMap;

use kinetic_wire::NodeId;

use super::{DEAD_NODES_MAX, NOBODY, Node, Table};

impl Table {
    /// Number of a node, new where it was not known.
    pub(crate) fn intern(&mut self, name: &NodeId) -> u32 {
        if let Some(&node) = self.node_of.get(name) {
            return node;
        }
        let entry = Node::new(name.clone());
        let node = match self.nodes_free.pop() {
            Some(node) => {
                self.nodes[node as usize] = entry;
                node
            }
            None => {
                self.nodes.push(entry);
                u32::try_from(self.nodes.len() - 1).expect("names are forgotten long before")
            }
        };
        self.node_of.insert(name.clone(), node);
        node
    }

    /// Number of a node that is known.
    pub(crate) fn node_index(&self, name: &NodeId) -> Option<u32> {
        self.node_of.get(name).copied()
    }

    pub(crate) fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    pub(crate) fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    /// What a node owns, leaving and presumed units included, in no order.
    pub(crate) fn owned(&self, node: u32) -> &[u32] {
        &self.nodes[node as usize].units
    }

    /// Forgets the names of nodes that have neither a lease nor units, once there are many. A unit whose last owner is
    /// forgotten counts as never moved.
    pub(crate) fn forget_nodes(&mut self, lives: impl Fn(&NodeId) -> bool) {
        let mut kept = BTreeMap::new();
        let mut dead = Vec::new();
        for (name, &node) in &self.node_of {
            let entry = &self.nodes[node as usize];
            if entry.units.is_empty() && entry.count == 0 && !lives(name) {
                dead.push(node);
            } else {
                kept.insert(name.clone(), node);
            }
        }
        if dead.len() <= DEAD_NODES_MAX {
            return;
        }
        let mut is_dead = vec![false; self.nodes.len()];
        for &node in &dead {
            is_dead[node as usize] = true;
            self.nodes[node as usize] = Node::new(NodeId::new(""));
        }
        for unit in &mut self.units {
            if is_dead[unit.last as usize] {
                unit.last = NOBODY;
            }
        }
        self.node_of = kept;
        self.nodes_free.extend(dead);
    }
}
