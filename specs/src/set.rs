//! A small set of numbers: storages, or transactions.

/// A set of numbers below 8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Set(u8);

impl Set {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) fn one(member: usize) -> Self {
        Self(1 << member)
    }

    pub(crate) fn has(self, member: usize) -> bool {
        self.0 & (1 << member) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn insert(&mut self, member: usize) {
        self.0 |= 1 << member;
    }

    pub(crate) fn remove(&mut self, member: usize) {
        self.0 &= !(1 << member);
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every member of `other` is in it.
    pub(crate) fn includes(self, other: Self) -> bool {
        other.without(self).is_empty()
    }

    pub(crate) fn members(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |&member| self.has(member))
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(members: I) -> Self {
        members
            .into_iter()
            .fold(Self::EMPTY, |set, member| set.or(Self::one(member)))
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.members()).finish()
    }
}
