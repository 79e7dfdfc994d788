//! Which configuration file is meant. Looks whether files are there; reads none.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The name that is looked for.
pub const FILE_NAME: &str = "kindling.yaml";

/// The variable that names the file.
pub const VARIABLE: &str = "KINDLING_CONFIG";

const SYSTEM: &str = "/etc/kindling/kindling.yaml";

/// Gives the value of a variable of the environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// How a file was found. A file that lies above the working directory is trusted less than one that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// `--config`.
    Flag,
    /// `KINDLING_CONFIG`.
    Variable,
    /// It lies in the working directory.
    Here,
    /// It lies in a directory above.
    Above,
    /// It lies in the user's configuration folder.
    User,
    /// It lies in `/etc/kindling`.
    System,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "named by --config",
            Self::Variable => "named by KINDLING_CONFIG",
            Self::Here => "in this directory",
            Self::Above => "in a directory above",
            Self::User => "in the user's configuration folder",
            Self::System => "in /etc/kindling",
        })
    }
}

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The file.
    pub file: PathBuf,
    /// How it was found.
    pub by: FoundBy,
}

/// Why there is no configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// The file that was named is not there.
    #[error("there is no file {}, {by}", file.display())]
    NotThere {
        /// The file.
        file: PathBuf,
        /// Who named it.
        by: FoundBy,
    },
    /// There is none in any of the places.
    #[error("no {FILE_NAME} was found; looked at {}", list(looked))]
    NotFound {
        /// The places in their order.
        looked: Vec<PathBuf>,
    },
}

impl LocateError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotThere { .. } => "correct the path, or make the file there with `kindling init`",
            Self::NotFound { .. } => "make one with `kindling init`, or name one with --config",
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Finds the configuration file: the one that is named, else the first of the usual places. `here` is the working
/// directory, absolute.
///
/// # Errors
/// The file that is named is not there, or there is none in any place.
pub fn locate(flag: Option<&Path>, env: Env<'_>, here: &Path) -> Result<Located, LocateError> {
    locate_with(flag, env, here, Path::new(SYSTEM))
}

fn locate_with(
    flag: Option<&Path>,
    env: Env<'_>,
    here: &Path,
    system: &Path,
) -> Result<Located, LocateError> {
    let set = |name| env(name).filter(|value| !value.is_empty());
    let variable = set(VARIABLE).map(PathBuf::from);
    let named =
        flag.map(|file| (file, FoundBy::Flag)).or(variable.as_deref().map(|file| (file, FoundBy::Variable)));
    if let Some((file, by)) = named {
        let file = here.join(file);
        return if file.is_file() {
            Ok(Located { file, by })
        } else {
            Err(LocateError::NotThere { file, by })
        };
    }
    let above = |dir: &Path| if dir == here { FoundBy::Here } else { FoundBy::Above };
    let mut places: Vec<Located> =
        here.ancestors().map(|dir| Located { file: dir.join(FILE_NAME), by: above(dir) }).collect();
    // The XDG base directory specification: a relative path is ignored.
    let user = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));
    places.extend(user.map(|dir| Located { file: dir.join("kindling").join(FILE_NAME), by: FoundBy::User }));
    places.push(Located { file: system.to_owned(), by: FoundBy::System });
    match places.iter().find(|place| place.file.is_file()) {
        Some(place) => Ok(place.clone()),
        None => Err(LocateError::NotFound { looked: places.into_iter().map(|place| place.file).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::*;

    struct Place {
        root: tempfile::TempDir,
        env: HashMap<&'static str, PathBuf>,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("work/deep/er")).unwrap();
            let env = HashMap::from([("HOME", root.path().join("home"))]);
            Self { root, env }
        }

        fn make(&self, file: &str) -> PathBuf {
            let file = self.root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            file
        }

        fn locate(&self, flag: Option<&str>) -> Result<Located, LocateError> {
            let env = |name: &str| self.env.get(name).map(|value| value.clone().into_os_string());
            let here = self.root.path().join("work/deep/er");
            locate_with(flag.map(Path::new), &env, &here, &self.root.path().join("etc/kindling.yaml"))
        }

        fn found(&self, flag: Option<&str>) -> (PathBuf, FoundBy) {
            self.locate(flag).map(|located| (located.file, located.by)).unwrap()
        }
    }

    #[test]
    fn a_nearer_place_wins() {
        let mut place = Place::new();
        let system = place.make("etc/kindling.yaml");
        assert_eq!(place.found(None), (system, FoundBy::System));
        let user = place.make("home/.config/kindling/kindling.yaml");
        assert_eq!(place.found(None), (user.clone(), FoundBy::User));
        let xdg = place.make("xdg/kindling/kindling.yaml");
        place.env.insert("XDG_CONFIG_HOME", place.root.path().join("xdg"));
        assert_eq!(place.found(None), (xdg, FoundBy::User));
        place.env.insert("XDG_CONFIG_HOME", "relative".into());
        assert_eq!(place.found(None), (user, FoundBy::User));
        let above = place.make("work/kindling.yaml");
        assert_eq!(place.found(None), (above, FoundBy::Above));
        let here = place.make("work/deep/er/kindling.yaml");
        assert_eq!(place.found(None), (here.clone(), FoundBy::Here));
        place.env.insert(VARIABLE, "".into());
        assert_eq!(place.found(None), (here, FoundBy::Here));
        let named = place.make("named.yaml");
        place.env.insert(VARIABLE, named.clone());
        assert_eq!(place.found(None), (named, FoundBy::Variable));
        let flag = place.make("work/deep/er/flag.yaml");
        assert_eq!(place.found(Some("flag.yaml")), (flag, FoundBy::Flag));
    }

    #[test]
    fn a_named_file_that_is_not_there_is_not_replaced_by_another() {
        let place = Place::new();
        place.make("work/kindling.yaml");
        let error = place.locate(Some("no.yaml")).unwrap_err();
        assert!(error.to_string().ends_with("/work/deep/er/no.yaml, named by --config"), "{error}");
    }

    #[test]
    fn without_one_it_names_the_places_and_the_command_that_makes_one() {
        let error = Place::new().locate(None).unwrap_err();
        let LocateError::NotFound { looked } = &error else { panic!("{error}") };
        assert!(looked.len() > 4 && looked[0].ends_with("work/deep/er/kindling.yaml"));
        assert!(looked[looked.len() - 2].ends_with("home/.config/kindling/kindling.yaml"));
        assert!(error.to_string().starts_with("no kindling.yaml was found; looked at /"));
        assert!(error.hint().contains("kindling init"));
    }
}
