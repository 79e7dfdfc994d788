//! Conditions: what is so about a unit or a source, why, and since when.

use super::time::Timestamp;

/// What a condition speaks of (DESIGN 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// What is desired is deployed.
    Ready,
    /// Work is under way, or will be tried again.
    Reconciling,
    /// A person is needed; nothing is tried until something changes.
    Stalled,
    /// What runs is well.
    Healthy,
    /// What is there is not what was recorded.
    Drifted,
    /// A source's tree is taken from a working copy.
    DevMode,
    /// What the configuration says holds only after a start of the service.
    RestartRequired,
}

impl ConditionType {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::Healthy,
        Self::Drifted,
        Self::DevMode,
        Self::RestartRequired,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Healthy => "Healthy",
            Self::Drifted => "Drifted",
            Self::DevMode => "DevMode",
            Self::RestartRequired => "RestartRequired",
        }
    }

    /// Reads [`ConditionType::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Whether it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Not known (yet).
    Unknown,
}

impl ConditionStatus {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// Reads [`ConditionStatus::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::True, Self::False, Self::Unknown].into_iter().find(|status| status.as_str() == word)
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it speaks of.
    pub kind: ConditionType,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// One word in CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when the status is what it is.
    pub since: Timestamp,
}

/// A set of conditions, at most one of each type, in the order of [`ConditionType::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    /// Takes conditions as they were recorded.
    #[must_use]
    pub fn recorded(mut all: Vec<Condition>) -> Self {
        all.sort_by_key(|condition| condition.kind);
        all.dedup_by_key(|condition| condition.kind);
        Self(all)
    }

    /// Sets one; `since` moves only when the status changes. Gives back whether anything changed.
    pub fn set(
        &mut self,
        now: Timestamp,
        kind: ConditionType,
        status: ConditionStatus,
        reason: &str,
        message: &str,
    ) -> bool {
        let made = |since| Condition { kind, status, reason: reason.into(), message: message.into(), since };
        match self.0.binary_search_by_key(&kind, |condition| condition.kind) {
            Ok(at) => {
                let since = if self.0[at].status == status { self.0[at].since } else { now };
                let next = made(since);
                let changed = self.0[at] != next;
                self.0[at] = next;
                changed
            }
            Err(at) => {
                self.0.insert(at, made(now));
                true
            }
        }
    }

    /// Takes one away; gives back whether it was there.
    pub fn clear(&mut self, kind: ConditionType) -> bool {
        let before = self.0.len();
        self.0.retain(|condition| condition.kind != kind);
        self.0.len() != before
    }

    /// The condition of this type.
    #[must_use]
    pub fn get(&self, kind: ConditionType) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.kind == kind)
    }

    /// Whether the condition of this type is there and `True`.
    #[must_use]
    pub fn is_true(&self, kind: ConditionType) -> bool {
        self.get(kind).is_some_and(|condition| condition.status == ConditionStatus::True)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_moves_only_with_the_status() {
        let mut all = Conditions::default();
        let ready = |all: &mut Conditions, at, status, message: &str| {
            all.set(Timestamp(at), ConditionType::Ready, status, "Deployed", message)
        };
        assert!(ready(&mut all, 1, ConditionStatus::True, "a"));
        assert!(ready(&mut all, 2, ConditionStatus::True, "b"));
        assert_eq!(all.get(ConditionType::Ready).unwrap().since, Timestamp(1));
        assert!(!ready(&mut all, 3, ConditionStatus::True, "b"));
        assert!(ready(&mut all, 4, ConditionStatus::False, "b"));
        assert_eq!(all.get(ConditionType::Ready).unwrap().since, Timestamp(4));
        assert!(all.clear(ConditionType::Ready) && !all.clear(ConditionType::Ready));
    }
}
