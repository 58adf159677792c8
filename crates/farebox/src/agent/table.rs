//! Columns of text.

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows below a head, each column as wide as its widest cell.
pub(crate) fn render(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, (_, align)), width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A decimal with zeros at its end, so that the points of a column stand below each other. The amount stays exact.
pub(crate) fn points_aligned(amounts: &[String]) -> Vec<String> {
    let decimals = |amount: &str| amount.split_once('.').map_or(0, |(_, part)| part.len());
    let most = amounts.iter().map(|amount| decimals(amount)).max().unwrap_or(0);
    let pad = |amount: &String| {
        let zeros = "0".repeat(most - decimals(amount));
        let point = if most > 0 && !amount.contains('.') { "." } else { "" };
        format!("{amount}{point}{zeros}")
    };
    amounts.iter().map(pad).collect()
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn points_stand_below_each_other() {
        let amounts = ["0.000123", "20", "-1.5"].map(str::to_owned);
        assert_eq!(points_aligned(&amounts), ["0.000123", "20.000000", "-1.500000"]);
        assert_eq!(points_aligned(&["20".to_owned()]), ["20"]);
    }
}
