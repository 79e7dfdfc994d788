//! The places that values of a dicode task may name.

use std::path::Path;

/// Where one run finds itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// The folder of its version.
    pub task: &'a Path,
    /// kindling's data directory.
    pub data: &'a Path,
}

impl Places<'_> {
    /// The text with the places put in. Every other name stays as it is written: nothing leads to a variable of
    /// kindling.
    pub(crate) fn expand(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let place = after.split_once('}').and_then(|(name, behind)| Some((self.of(name)?, behind)));
            match place {
                Some((place, behind)) => {
                    out.push_str(&place);
                    rest = behind;
                }
                None => {
                    out.push_str("${");
                    rest = after;
                }
            }
        }
        out + rest
    }

    fn of(&self, name: &str) -> Option<String> {
        match name {
            "TASK_DIR" => Some(self.task.display().to_string()),
            "DATADIR" => Some(self.data.display().to_string()),
            "HOME" => std::env::var("HOME").ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_are_put_in() {
        let places = Places { task: Path::new("/v/1"), data: Path::new("/d") };
        for (text, expanded) in [
            ("a ${TASK_DIR}/x${DATADIR}", "a /v/1/x/d"),
            (
                "${PATH} ${CARGO_MANIFEST_DIR} $TASK_DIR {TASK_DIR}",
                "${PATH} ${CARGO_MANIFEST_DIR} $TASK_DIR {TASK_DIR}",
            ),
            ("${${TASK_DIR}}", "${/v/1}"),
            ("${TASK_DIR", "${TASK_DIR"),
            ("${TASK_SET_DIR}", "${TASK_SET_DIR}"),
        ] {
            assert_eq!(places.expand(text), expanded);
        }
        assert_eq!(places.expand("${HOME}"), std::env::var("HOME").unwrap_or("${HOME}".into()));
    }
}
