//! Names that are refused outside every unit: nothing in them is looked at, and somebody has to say so.

use crate::model::path::RelPath;
use crate::model::problem::{Problem, Reason};
use crate::model::tree::Tree;

use super::catalog::Catalog;

/// A problem for each refused name that lies in no unit of `catalog`; those in a unit are the unit's own problems.
#[must_use]
pub fn strays(tree: &Tree, catalog: &Catalog) -> Vec<Problem> {
    let is_in_unit = |dir: &RelPath| catalog.reached(dir).any(|(_, entry)| dir.is_within(&entry.dir));
    let outside = tree.refused().iter().filter(|refused| !is_in_unit(&refused.dir));
    let problem = |refused: &crate::model::tree::Refused| {
        let message =
            format!("\"{}\" is refused, and nothing in it is looked at: {}", refused.name, refused.why);
        let problem = Problem::new(Reason::RefusedPath, message);
        if refused.dir.is_root() { problem } else { problem.in_file(refused.dir.clone()) }
    };
    outside.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::model::path::PathRefusal;
    use crate::model::tree::Refused;
    use crate::plan::catalog::{Entry, Found};

    #[test]
    fn only_what_lies_in_no_unit_is_a_stray() {
        let path = |text: &str| RelPath::parse(text).unwrap();
        let refused = |dir: &str, name: &str| Refused {
            dir: if dir.is_empty() { RelPath::root() } else { path(dir) },
            name: name.into(),
            why: PathRefusal::TooDeep,
        };
        let mut tree = Tree::default();
        tree.replace_refused(
            |_| true,
            vec![refused("", "a"), refused("unit/lib", "b"), refused("other", "c")],
        );
        let mut catalog = Catalog::default();
        let entry = Entry { dir: path("unit"), state: Err(Vec::new()), reach: Some(path("unit")) };
        let units = BTreeMap::from([(Arc::from("unit"), Some(entry))]);
        catalog.apply(Found { units, ..Found::default() });
        let told: Vec<String> = strays(&tree, &catalog).iter().map(ToString::to_string).collect();
        let why = PathRefusal::TooDeep;
        let nothing = "is refused, and nothing in it is looked at";
        assert_eq!(told, [format!("\"a\" {nothing}: {why}"), format!("other: \"c\" {nothing}: {why}")]);
    }
}
