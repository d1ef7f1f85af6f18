//! The nearest right word to one that was mistyped.

/// The candidate nearest to `word`, when it is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: Levenshtein's distance with a swap of neighbours counted as one mistake.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_finds_its_word() {
        let keys = ["interface", "on_down"];
        assert_eq!(nearest("inteface", keys), Some("interface"));
        assert_eq!(nearest("interfaec", keys), Some("interface"));
        assert_eq!(nearest("on-down", keys), Some("on_down"));
        assert_eq!(nearest("Interface", keys), Some("interface"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn short_words_allow_one_mistake() {
        assert_eq!(nearest("vpm", ["vpn", "attach"]), Some("vpn"));
        assert_eq!(nearest("xyz", ["vpn", "attach"]), None);
    }
}
