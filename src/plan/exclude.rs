//! Which files of a unit's directory are no part of it (DESIGN 3), the same for git and for a directory.

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::model::path::RelPath;

/// Names of directories and files that never belong to a task, at any depth.
pub const NEVER: [&str; 4] = [".git", "node_modules", ".venv", "__pycache__"];

/// Whether a path lies in, or is, something that never belongs to a task.
#[must_use]
pub fn is_never(path: &RelPath) -> bool {
    path.as_str().split('/').any(|name| NEVER.contains(&name))
}

/// The unit's own patterns, ready to match.
pub struct Excludes(Gitignore);

impl Excludes {
    /// Takes patterns in gitignore syntax, relative to the unit's directory.
    ///
    /// # Errors
    /// The first pattern that cannot be read, and why.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in patterns {
            builder.add_line(None, pattern).map_err(|why| format!("the pattern cannot be read: {why}"))?;
        }
        builder.build().map(Self).map_err(|why| why.to_string())
    }

    /// Whether the file at `path`, relative to the unit, is left out.
    #[must_use]
    pub fn leaves_out(&self, path: &RelPath) -> bool {
        is_never(path) || self.0.matched_path_or_any_parents(path.as_str(), false).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_by_name_at_any_depth_and_by_pattern() {
        let patterns = ["*.log", "!keep.log", "/tmp/"].map(String::from);
        let excludes = Excludes::new(&patterns).unwrap();
        for (path, out) in [
            ("node_modules/x/y.js", true),
            ("a/__pycache__/m.pyc", true),
            (".venv/bin/python", true),
            ("a/b.log", true),
            ("keep.log", false),
            ("tmp/x", true),
            ("a/tmp/x", false),
            ("node_modules.txt", false),
            (".gitignore", false),
        ] {
            assert_eq!(excludes.leaves_out(&RelPath::parse(path).unwrap()), out, "{path}");
        }
    }
}
