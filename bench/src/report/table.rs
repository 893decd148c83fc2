//! Tables of text, for a terminal and in Markdown.

/// Cells in aligned columns: the first to the left, the others to the right but for the last.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let cell = |(column, cell): (usize, &String)| {
        let width = widths[column];
        if column == 0 || column + 1 == columns { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    };
    let line =
        |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned();
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The same in Markdown; the first row is the head.
pub fn markdown(rows: &[Vec<String>]) -> String {
    let Some((head, body)) = rows.split_first() else { return String::new() };
    let line = |row: &Vec<String>| format!("| {} |", row.join(" | "));
    let rule = |at: usize| if at == 0 || at + 1 == head.len() { "---" } else { "--:" };
    let rule = format!("| {} |", (0..head.len()).map(rule).collect::<Vec<_>>().join(" | "));
    [line(head), rule].into_iter().chain(body.iter().map(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["", "VALUE", "GOAL"], ["acks/s", "12,345", "holds"], ["p99, ms", "3.20", ""]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec()
    }

    #[test]
    fn columns_are_aligned() {
        insta::assert_snapshot!(aligned(&rows()), @r"
                  VALUE  GOAL
        acks/s   12,345  holds
        p99, ms    3.20
        ");
    }

    #[test]
    fn markdown_has_a_rule_under_its_head() {
        insta::assert_snapshot!(markdown(&rows()), @r"
        |  | VALUE | GOAL |
        | --- | --: | --- |
        | acks/s | 12,345 | holds |
        | p99, ms | 3.20 |  |
        ");
    }
}
