//! Tables on the terminal.

use std::io::{Write, stdout};

/// Prints rows under a header, each column as wide as its widest cell.
pub fn print<const N: usize>(header: [&str; N], rows: &[[String; N]]) {
    // Whoever closes the pipe has seen enough; the exit code still counts.
    let _ = stdout().write_all(render(header, rows).as_bytes());
}

fn render<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let lines = || std::iter::once(&header).chain(rows);
    let widths: [usize; N] =
        std::array::from_fn(|n| lines().map(|line| line[n].chars().count()).max().unwrap_or_default());
    let mut table = String::new();
    for line in lines() {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["balances".to_owned(), "ok".to_owned()], ["log".to_owned(), "2 violations".to_owned()]];
        let expected = "CHECK     RESULT\nbalances  ok\nlog       2 violations\n";
        assert_eq!(render(["CHECK", "RESULT"], &rows), expected);
    }
}
