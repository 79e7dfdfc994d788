//! The removal guard (DESIGN 2): a pass that would take away most of a source stops and asks.

/// Whether removing `gone` of `total` units needs a person's word: every unit of a source that has more than one,
/// or more than half of ten or more.
#[must_use]
pub fn needs_permission(total: usize, gone: usize) -> bool {
    (total > 1 && gone >= total) || (total >= 10 && gone * 2 > total)
}

#[cfg(test)]
mod tests {
    use super::needs_permission;

    #[test]
    fn asks_for_all_of_several_and_for_most_of_many() {
        for (total, gone, asks) in [
            (0, 0, false),
            (1, 1, false),
            (2, 1, false),
            (2, 2, true),
            (9, 8, false),
            (9, 9, true),
            (10, 5, false),
            (10, 6, true),
            (1000, 500, false),
            (1000, 501, true),
        ] {
            assert_eq!(needs_permission(total, gone), asks, "{gone} of {total}");
        }
    }
}
