//! Handles to responses, and the one store of what proposers and scorers keep behind them.
//!
//! A *batch* is what one call left for some rows (caches, states); a node stands for a row of one
//! batch. A batch lives as long as one of its nodes does.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// A handle to one response: its path, the prompt's number and then that of each continuation among
/// those of the response before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(Arc<[u32]>);

impl Node {
    /// The empty response to prompt number `prompt`.
    pub fn of_prompt(prompt: u32) -> Self {
        Self([prompt].into())
    }

    /// The empty response that this one continues.
    pub fn root(&self) -> Self {
        Self(self.0[..1].into())
    }

    /// Continuation number `number` of this response.
    pub fn child(&self, number: u32) -> Self {
        Self(self.0.iter().copied().chain([number]).collect())
    }
}

/// Rows of batches by their nodes.
#[derive(Debug)]
pub struct Nodes<Batch, Row> {
    /// By the root of their prompt.
    prompts: HashMap<Node, HashMap<Node, Entry<Batch, Row>>>,
    opened: u32,
}

#[derive(Debug)]
struct Entry<Batch, Row> {
    batch: Rc<Batch>,
    place: usize,
    row: Row,
    children: u32,
}

/// Where a node's row lies, and what is its own.
#[derive(Debug)]
pub struct Kept<'a, Batch, Row> {
    pub batch: &'a Rc<Batch>,
    /// The row's number in the batch.
    pub place: usize,
    pub row: &'a Row,
}

/// The requests that continue rows of one batch.
#[derive(Debug)]
pub struct Group<Batch> {
    pub batch: Rc<Batch>,
    /// Distinct, in the order of their first request.
    pub parents: Vec<Node>,
    /// Numbers of the requests, and each one's parent.
    pub requests: Vec<(usize, usize)>,
}

impl<Batch, Row> Default for Nodes<Batch, Row> {
    fn default() -> Self {
        Self { prompts: HashMap::new(), opened: 0 }
    }
}

impl<Batch, Row> Nodes<Batch, Row> {
    /// A batch whose rows are the empty responses to as many new prompts; their nodes.
    pub fn open(&mut self, batch: Batch, rows: impl IntoIterator<Item = Row>) -> Vec<Node> {
        let batch = Rc::new(batch);
        let mut roots = Vec::new();
        for (place, row) in rows.into_iter().enumerate() {
            let root = Node::of_prompt(self.opened);
            self.opened += 1;
            let entry = Entry { batch: batch.clone(), place, row, children: 0 };
            self.prompts.entry(root.clone()).or_default().insert(root.clone(), entry);
            roots.push(root);
        }
        roots
    }

    /// A new handle to a continuation of `parent`, behind which nothing is kept until
    /// [`Self::insert`]; `None` where nothing is kept behind the parent.
    pub fn child(&mut self, parent: &Node) -> Option<Node> {
        let entry = self.prompts.get_mut(&parent.root())?.get_mut(parent)?;
        entry.children += 1;
        Some(parent.child(entry.children - 1))
    }

    /// A batch, and nodes for some of its rows: node, place and the row's own.
    pub fn insert(
        &mut self,
        batch: impl Into<Rc<Batch>>,
        rows: impl IntoIterator<Item = (Node, usize, Row)>,
    ) {
        let batch = batch.into();
        for (node, place, row) in rows {
            let entry = Entry { batch: batch.clone(), place, row, children: 0 };
            self.prompts.entry(node.root()).or_default().insert(node, entry);
        }
    }

    /// Row i of `batch` takes the place of what lies behind `nodes[i]`; what is the row's own
    /// stays.
    pub fn replace(&mut self, batch: Batch, nodes: &[Node]) {
        let batch = Rc::new(batch);
        for (place, node) in nodes.iter().enumerate() {
            if let Some(entry) =
                self.prompts.get_mut(&node.root()).and_then(|prompt| prompt.get_mut(node))
            {
                (entry.batch, entry.place) = (batch.clone(), place);
            }
        }
    }

    /// `None` where nothing is kept behind the node: it was pruned, or there was nothing to keep.
    pub fn get(&self, node: &Node) -> Option<Kept<'_, Batch, Row>> {
        let Entry { batch, place, row, .. } = self.prompts.get(&node.root())?.get(node)?;
        Some(Kept { batch, place: *place, row })
    }

    /// The rows that are kept of the prompt that `root` belongs to, in no order.
    pub fn rows(&self, root: &Node) -> impl Iterator<Item = &Row> {
        self.prompts
            .get(root)
            .into_iter()
            .flat_map(|prompt| prompt.values().map(|entry| &entry.row))
    }

    /// Requests to continue these nodes, one each, by the batches that their rows lie in, in the
    /// order of their first requests; `None` where nothing is kept behind one.
    pub fn groups<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> Option<Vec<Group<Batch>>> {
        let mut groups: Vec<Group<Batch>> = Vec::new();
        let mut of_batch: HashMap<*const Batch, usize> = HashMap::new();
        let mut known: HashMap<&Node, (usize, usize)> = HashMap::new();
        for (number, node) in nodes.enumerate() {
            let (group, parent) = match known.get(node) {
                Some(&place) => place,
                None => {
                    let Kept { batch, .. } = self.get(node)?;
                    let group = *of_batch.entry(Rc::as_ptr(batch)).or_insert_with(|| {
                        groups.push(Group {
                            batch: batch.clone(),
                            parents: Vec::new(),
                            requests: Vec::new(),
                        });
                        groups.len() - 1
                    });
                    let parents = &mut groups[group].parents;
                    parents.push(node.clone());
                    known.insert(node, (group, parents.len() - 1));
                    (group, parents.len() - 1)
                }
            };
            groups[group].requests.push((number, parent));
        }
        Some(groups)
    }

    /// Frees what is kept of the prompt that `root` belongs to but for `live`.
    pub fn retain(&mut self, root: &Node, live: &[Node]) {
        let live: HashSet<&Node> = live.iter().collect();
        if let Some(prompt) = self.prompts.get_mut(root) {
            prompt.retain(|node, _| live.contains(node));
            if prompt.is_empty() {
                self.prompts.remove(root);
            }
        }
    }

    /// Frees all that is kept of a prompt.
    pub fn release(&mut self, root: &Node) {
        self.prompts.remove(root);
    }

    /// Whether nothing is kept of any prompt.
    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_grouped_by_the_batches_of_their_rows() {
        let mut nodes: Nodes<&str, char> = Nodes::default();
        let roots = nodes.open("prompts", ['x', 'y']);
        let children: Vec<Node> = (0..3).map(|_| nodes.child(&roots[0]).unwrap()).collect();
        nodes.insert(
            "chunk",
            children.iter().cloned().zip([2, 0, 1]).map(|(node, place)| (node, place, 'c')),
        );
        let asked = [&children[1], &roots[1], &children[1], &roots[0], &children[0]];
        let groups = nodes.groups(asked.into_iter()).unwrap();
        let told: Vec<_> = groups
            .iter()
            .map(|group| (*group.batch, group.parents.clone(), group.requests.clone()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "chunk",
                    vec![children[1].clone(), children[0].clone()],
                    vec![(0, 0), (2, 0), (4, 1)]
                ),
                ("prompts", vec![roots[1].clone(), roots[0].clone()], vec![(1, 0), (3, 1)])
            ]
        );
        assert_eq!(
            (nodes.get(&children[0]).unwrap().place, *nodes.get(&children[0]).unwrap().row),
            (2, 'c')
        );
        assert!(nodes.groups([&roots[0], &roots[0].child(9)].into_iter()).is_none());
    }

    #[test]
    fn a_batch_lives_as_long_as_one_of_its_nodes() {
        let mut nodes: Nodes<Rc<()>, ()> = Nodes::default();
        let (opened, chunk) = (Rc::new(()), Rc::new(()));
        let roots = nodes.open(opened.clone(), [(), ()]);
        let held = |batch: &Rc<()>| Rc::strong_count(batch) > 1;
        let children: Vec<Node> = (0..2).map(|_| nodes.child(&roots[0]).unwrap()).collect();
        nodes.insert(chunk.clone(), children.iter().cloned().map(|node| (node, 0, ())));
        nodes.retain(&roots[0], &children[1..]);
        assert!(held(&opened) && held(&chunk), "the other prompt's row lies in the same batch");
        assert!(
            nodes.get(&roots[0]).is_none()
                && nodes.get(&children[0]).is_none()
                && nodes.get(&children[1]).is_some()
        );
        nodes.release(&roots[1]);
        assert!(!held(&opened) && held(&chunk));
        assert_eq!(children[1].root(), roots[0]);
        nodes.replace(Rc::new(()), &children[1..]);
        assert!(!held(&chunk) && nodes.get(&children[1]).is_some());
        nodes.retain(&roots[0], &[]);
        assert!(nodes.is_empty());
    }

    #[test]
    fn no_two_continuations_have_one_handle() {
        let mut nodes: Nodes<(), ()> = Nodes::default();
        let root = nodes.open((), [()]).remove(0);
        let first = nodes.child(&root).unwrap();
        nodes.insert((), [(first.clone(), 0, ())]);
        let mut all = vec![
            root.clone(),
            first.clone(),
            nodes.child(&root).unwrap(),
            nodes.child(&first).unwrap(),
        ];
        all.extend(nodes.open((), [()]));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 5);
        nodes.retain(&root, &[]);
        assert!(nodes.child(&root).is_none(), "a pruned response has no continuations");
    }
}
