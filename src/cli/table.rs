//! Tables for people: columns that line up, cells that cannot harm a terminal.

use crate::support::text::printable;

/// Columns that line up.
#[derive(Clone, Debug)]
pub struct Table {
    headers: Vec<&'static str>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(headers: &[&'static str]) -> Self {
        let widths = headers.iter().map(|header| header.len()).collect();
        Self { headers: headers.to_vec(), widths, rows: Vec::new() }
    }

    /// How many columns there are.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.headers.len()
    }

    /// Whether it has no row yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row; its cells are escaped here.
    pub fn push(&mut self, cells: Vec<String>) {
        let cells: Vec<String> = cells
            .into_iter()
            .map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell).into_owned() })
            .collect();
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(cells);
    }

    /// Puts a row in the place of all others, and keeps the widths.
    pub fn replace(&mut self, cells: Vec<String>) {
        self.rows.clear();
        self.push(cells);
    }

    /// The lines of the table.
    #[must_use]
    pub fn render(&self, header: bool, colour: bool) -> String {
        let mut text = String::new();
        if header {
            let headers: Vec<String> = self.headers.iter().map(|header| (*header).to_owned()).collect();
            self.line(&mut text, &headers, false);
        }
        for row in &self.rows {
            self.line(&mut text, row, colour);
        }
        text
    }

    fn line(&self, text: &mut String, cells: &[String], colour: bool) {
        let last = cells.len().saturating_sub(1);
        for (at, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            match colour_of(cell).filter(|_| colour) {
                Some(code) => text.push_str(&format!("\u{1b}[{code}m{cell}\u{1b}[0m")),
                None => text.push_str(cell),
            }
            if at < last {
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
        }
        text.push('\n');
    }
}

/// The colour of words that a person should see first: the parameter of its escape sequence.
#[must_use]
pub fn colour_of(cell: &str) -> Option<&'static str> {
    match cell {
        "False" | "failed" | "timedOut" | "interrupted" | "fail" => Some("31"),
        "Unknown" | "running" | "cancelled" | "superseded" | "warn" => Some("33"),
        "True" | "succeeded" | "ok" => Some("32"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_words_and_not_their_padding() {
        let mut table = Table::new(&["READY", "X"]);
        table.push(vec!["False".into(), "y".into()]);
        assert_eq!(table.render(true, true), "READY  X\n\u{1b}[31mFalse\u{1b}[0m  y\n");
    }

    #[test]
    fn a_row_that_stands_alone_keeps_to_the_columns() {
        let mut table = Table::new(&["A", "B"]);
        table.push(vec!["long name".into(), "x".into()]);
        table.replace(vec!["b\n".into(), String::new()]);
        assert_eq!(table.render(false, false), "b\\n        -\n");
    }
}
