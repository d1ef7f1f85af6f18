//! Columns that line up.

/// Lines of cells, each column as wide as its widest cell but the last one.
pub(super) fn lines<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up_and_lines_end_with_their_text() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let lines = super::lines(&[row("vpn", "x"), row("direct", ""), row("é", "y")]);
        assert_eq!(lines, ["vpn     x", "direct", "é       y"]);
    }
}
