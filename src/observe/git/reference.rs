//! What of a repository is followed, and which of its tags that means.

use gix::ObjectId;
use gix::refs::FullName;
use semver::{Version, VersionReq};

use crate::config::remote::{check_branch, check_commit, check_range, check_tag};
use crate::model::source::GitRef;

/// Where tags are.
pub(super) const TAGS: &str = "refs/tags/";

/// What is followed, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// The branch that the remote's HEAD names.
    Head,
    /// A branch or a tag.
    Ref(FullName),
    /// The tag with the highest version in this range.
    Highest(VersionReq),
    /// A commit, which never moves.
    Commit(ObjectId),
}

/// Why something cannot be followed: the reason word and the sentence.
pub(super) type BadReference = (&'static str, String);

impl Followed {
    /// Checks what is configured.
    pub(super) fn parse(reference: &GitRef) -> Result<Self, BadReference> {
        let bad = |word, text: &str, why: &str| (word, format!("`{}` {why}", text.escape_debug()));
        let name = |word, prefix: &str, name: &str| {
            let full = FullName::try_from(format!("{prefix}{name}"));
            full.map(Self::Ref).map_err(|_| bad(word, name, "is not a name that git takes"))
        };
        match reference {
            GitRef::Head => Ok(Self::Head),
            GitRef::Branch(branch) => {
                check_branch(branch).map_err(|why| bad("BadBranch", branch, why))?;
                name("BadBranch", "refs/heads/", branch)
            }
            GitRef::Tag(tag) => {
                check_tag(tag).map_err(|why| bad("BadTag", tag, why))?;
                name("BadTag", TAGS, tag)
            }
            GitRef::Semver(range) => {
                check_range(range).map_err(|why| bad("BadRange", range, why))?;
                let range = VersionReq::parse(range);
                range.map(Self::Highest).map_err(|error| ("BadRange", error.to_string()))
            }
            GitRef::Commit(id) => {
                check_commit(id).map_err(|why| bad("BadCommit", id, why))?;
                let id = ObjectId::from_hex(id.as_bytes());
                id.map(Self::Commit).map_err(|error| ("BadCommit", error.to_string()))
            }
        }
    }

    /// A text of its own for each that can be followed; what follows the same shares a fetch.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Head => "HEAD".to_owned(),
            Self::Ref(name) => name.as_bstr().to_string(),
            Self::Highest(range) => format!("semver {range}"),
            Self::Commit(id) => format!("commit {id}"),
        }
    }
}

/// The one with the highest version in `range` among `tags`, which are named by the part after [`TAGS`]. A name is a
/// version with or without a leading `v`; a pre-release counts only where the range names one of the same version.
pub(super) fn highest<T>(range: &VersionReq, tags: impl Iterator<Item = (String, T)>) -> Option<(String, T)> {
    let versioned = tags.filter_map(|(name, rest)| {
        let text = name.strip_prefix(['v', 'V']).unwrap_or(&name);
        let version = Version::parse(text).ok().filter(|version| range.matches(version))?;
        Some((version, name, rest))
    });
    let best = versioned.max_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    best.map(|(_, name, rest)| (name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(range: &str, tags: &[&str]) -> Option<String> {
        let tags = tags.iter().map(|tag| ((*tag).to_owned(), ()));
        highest(&VersionReq::parse(range).unwrap(), tags).map(|(name, ())| name)
    }

    #[test]
    fn the_highest_version_in_the_range_wins() {
        let tags = ["v1.2.0", "1.10.0", "v1.9.9", "v2.0.0", "latest", "v1.11", "vv1.12.0", "1.10.0-rc.1"];
        assert_eq!(best("^1", &tags).as_deref(), Some("1.10.0"));
        assert_eq!(best("1.2.x", &tags).as_deref(), Some("v1.2.0"));
        assert_eq!(best("*", &tags).as_deref(), Some("v2.0.0"));
        assert_eq!(best(">=3", &tags), None);
        assert_eq!(best("*", &[]), None);
    }

    #[test]
    fn a_pre_release_counts_only_where_the_range_names_one() {
        let tags = ["v1.0.0", "v2.0.0-rc.1", "v2.0.0-rc.2", "v2.1.0-beta"];
        assert_eq!(best("*", &tags).as_deref(), Some("v1.0.0"));
        assert_eq!(best(">=1", &tags).as_deref(), Some("v1.0.0"));
        assert_eq!(best(">=2.0.0-rc", &tags).as_deref(), Some("v2.0.0-rc.2"));
    }

    #[test]
    fn refuses_what_git_would_not_take() {
        for (reference, word) in [
            (GitRef::Branch("-x".into()), "BadBranch"),
            (GitRef::Tag("a..b".into()), "BadTag"),
            (GitRef::Semver("latest".into()), "BadRange"),
            (GitRef::Commit("HEAD".into()), "BadCommit"),
        ] {
            assert_eq!(Followed::parse(&reference).unwrap_err().0, word);
        }
        assert!(Followed::parse(&GitRef::Tag("v1.0".into())).is_ok());
    }
}
