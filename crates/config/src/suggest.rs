//! "Did you mean …?"

/// What to say after an unknown word: the nearest known one, or all of them.
pub(crate) fn suggestion(given: &str, known: &[&str]) -> String {
    let given = given.to_lowercase().replace('-', "_");
    let nearest = known
        .iter()
        .map(|word| (distance(&given, &word.to_lowercase().replace('-', "_")), word))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, word)) if distance <= (word.len().max(given.len()) / 3).max(1) => {
            format!(", did you mean `{word}`?")
        }
        Some(_) => format!(", known here: {}", known.join(", ")),
        None => ", nothing can be set here".to_owned(),
    }
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_nearest_or_lists_all() {
        let known = ["fallback", "timeout", "retries"];
        assert_eq!(suggestion("fallbak", &known), ", did you mean `fallback`?");
        assert_eq!(suggestion("timeuot", &known), ", did you mean `timeout`?");
        assert_eq!(suggestion("Retries", &known), ", did you mean `retries`?");
        assert_eq!(suggestion("balance", &known), ", known here: fallback, timeout, retries");
    }
}
