//! What people do to sources while kindling is killed: saves in every fashion, and pushes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Dice;
use crate::repo::Repo;

/// Fewest manual tasks of a source: removing many at once would need a person.
const FEWEST: usize = 5;
/// Most manual tasks of a source; with the daemon and the long one it stays below ten, for the same reason.
const MOST: usize = 7;

/// What a task is.
pub enum Kind {
    /// Prints its version, its words and its greeting, and ends.
    Manual,
    /// Writes its number and version into this file, and stays.
    Daemon(PathBuf),
    /// Takes 30 seconds.
    Long,
}

/// A source as its files.
pub struct Tree {
    /// The source's name.
    pub name: &'static str,
    dir: PathBuf,
    repo: Option<Repo>,
    started: PathBuf,
    /// Tasks whose manifest is half written, with the whole one.
    broken: BTreeMap<String, String>,
    /// Grows with each save, so that no two are alike.
    saves: u32,
    made: u32,
}

impl Tree {
    pub fn new(name: &'static str, dir: PathBuf, repo: Option<Repo>, started: &Path) -> Self {
        fs::create_dir_all(&dir).unwrap();
        Self { name, dir, repo, started: started.into(), broken: BTreeMap::new(), saves: 0, made: 0 }
    }

    /// The keys of its manual tasks.
    fn keys(&self) -> Vec<String> {
        let names = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut keys: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        keys.retain(|key| key.starts_with('t'));
        keys.sort();
        keys
    }

    fn version(&mut self) -> u32 {
        self.saves += 1;
        self.saves
    }

    /// Makes a task where it belongs.
    pub fn put(&mut self, key: &str, kind: &Kind) {
        let dir = self.dir.join(key);
        self.make(&dir, key, kind);
    }

    fn make(&mut self, dir: &Path, key: &str, kind: &Kind) {
        let version = self.version();
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("task.yaml"), self.manifest(key, kind, version)).unwrap();
        fs::write(dir.join("words.txt"), format!("w{version}")).unwrap();
        fs::write(dir.join("task.sh"), script(kind, version)).unwrap();
    }

    /// The last line is what makes it a manifest, so that every part of it is none.
    fn manifest(&self, key: &str, kind: &Kind, version: u32) -> String {
        let (trigger, file) = match kind {
            Kind::Manual | Kind::Long => ("manual", PathBuf::new()),
            Kind::Daemon(file) => ("daemon", file.clone()),
        };
        let env = format!(
            "STARTED: \"{}\", DAEMONS: \"{}\", GREETING: g{version}",
            self.started.display(),
            file.display()
        );
        format!(
            "apiVersion: kindling/v1\nkind: Task\nname: {key}\nruntime: shell\nenv: {{{env}}}\ntrigger: {{{trigger}: true}}\n"
        )
    }

    /// A new task: written file by file, or moved in as a whole.
    pub fn add(&mut self, whole: bool) {
        let key = format!("t{}", self.made);
        self.made += 1;
        if whole && self.repo.is_none() {
            let aside = self.dir.with_extension("aside");
            self.make(&aside, &key, &Kind::Manual);
            fs::rename(aside, self.dir.join(&key)).unwrap();
        } else {
            self.put(&key, &Kind::Manual);
        }
    }

    fn remove(&mut self, key: &str) {
        fs::remove_dir_all(self.dir.join(key)).unwrap();
        self.broken.remove(key);
    }

    fn rename(&mut self, key: &str) {
        let to = format!("t{}", self.made);
        self.made += 1;
        fs::rename(self.dir.join(key), self.dir.join(&to)).unwrap();
        if let Some(whole) = self.broken.remove(key) {
            self.broken.insert(to, whole);
        }
    }

    /// Replaces text in a file of a task: in place, or by a new file that takes its place.
    fn edit(&mut self, key: &str, file: &str, dice: &mut Dice) {
        let version = self.version();
        let path = self.dir.join(key).join(file);
        let text = fs::read_to_string(&path).unwrap();
        let new = match file {
            "words.txt" => format!("w{version}"),
            "task.sh" => text.replace(&value(&text, "V=", "\n"), &version.to_string()),
            _ => text.replace(&value(&text, "GREETING: ", "}"), &format!("g{version}")),
        };
        if dice.once_in(2) {
            fs::write(path, new).unwrap();
        } else {
            let beside = self.dir.join(key).join(".saved");
            fs::write(&beside, new).unwrap();
            fs::rename(beside, path).unwrap();
        }
    }

    /// Leaves a manifest half written.
    pub fn tear(&mut self, key: &str, dice: &mut Dice) {
        let path = self.dir.join(key).join("task.yaml");
        let whole = fs::read_to_string(&path).unwrap();
        let length = usize::try_from(dice.below(whole.find("trigger").unwrap() as u64)).unwrap();
        fs::write(path, &whole[..length]).unwrap();
        self.broken.insert(key.into(), whole);
    }

    /// Writes whole manifests where half ones are.
    pub fn mend(&mut self) {
        for (key, whole) in std::mem::take(&mut self.broken) {
            fs::write(self.dir.join(key).join("task.yaml"), whole).unwrap();
        }
    }

    /// Commits and pushes, where it is a repository.
    pub fn publish(&self) {
        if let Some(repo) = &self.repo {
            repo.publish(&[]);
        }
    }

    /// What each manual task prints, by its id, as its files say.
    pub fn outputs(&self) -> BTreeMap<String, String> {
        let output = |key: &String| {
            let read = |name: &str| fs::read_to_string(self.dir.join(key).join(name)).unwrap();
            let (version, greeting) =
                (value(&read("task.sh"), "V=", "\n"), value(&read("task.yaml"), "GREETING: ", "}"));
            (format!("{}/{key}", self.name), format!("{version} {} {greeting}", read("words.txt")))
        };
        self.keys().iter().map(output).collect()
    }

    /// The version of the daemon, as its script says.
    pub fn daemon(&self) -> String {
        value(&fs::read_to_string(self.dir.join("daemon/task.sh")).unwrap(), "V=", "\n")
    }
}

fn script(kind: &Kind, version: u32) -> String {
    let rest = match kind {
        Kind::Manual => {
            "echo \"$KINDLING_RUN\" >> \"$STARTED\"\nprintf '%s %s %s' \"$V\" \"$(cat words.txt)\" \"$GREETING\"\n"
        }
        Kind::Daemon(_) => "echo \"$$ $V\" >> \"$DAEMONS\"\nexport V\nexec sleep 100000\n",
        Kind::Long => "echo \"$KINDLING_RUN\" >> \"$STARTED\"\nsleep 30\n",
    };
    format!("V={version}\n{rest}")
}

/// What stands between two texts.
fn value(text: &str, from: &str, to: &str) -> String {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split_once(to).unwrap().0.to_owned()
}

/// A directory and a repository under a stream of changes.
pub struct Saves {
    pub trees: [Tree; 2],
    pub dice: Dice,
}

impl Saves {
    /// One change to one of them.
    pub fn step(&mut self) {
        let dice = &mut self.dice;
        let which = usize::from(dice.once_in(3));
        let tree = &mut self.trees[which];
        let mut keys = tree.keys();
        let count = keys.len();
        if which == 0 {
            keys.extend(["daemon".into(), "daemon".into()]);
        }
        let whole: BTreeSet<&String> = keys.iter().filter(|key| !tree.broken.contains_key(*key)).collect();
        let whole: Vec<&String> = whole.into_iter().collect();
        // The first one stays: a source that lost all its tasks would wait for a person.
        let movable = dice.one_of(&keys[1..count]).clone();
        match dice.below(10) {
            0..=2 => tree.edit(&dice.one_of(&keys).clone(), "task.sh", dice),
            3 => tree.edit(&dice.one_of(&keys).clone(), "words.txt", dice),
            4 if !whole.is_empty() => tree.edit(&(*dice.one_of(&whole)).clone(), "task.yaml", dice),
            5 if !whole.is_empty() => tree.tear(&(*dice.one_of(&whole)).clone(), dice),
            6 => tree.mend(),
            7 if count < MOST => tree.add(dice.once_in(2)),
            8 if count > FEWEST => tree.remove(&movable),
            9 => tree.rename(&movable),
            _ => {}
        }
        if which == 1 && dice.once_in(2) {
            tree.publish();
        }
    }

    /// Ends what is half done.
    pub fn finish(&mut self) {
        for tree in &mut self.trees {
            tree.mend();
            tree.publish();
        }
    }
}
