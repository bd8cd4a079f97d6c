//! Tables for a terminal, column by column; one that has nothing to say of any item is left out.

use comfy_table::{CellAlignment, Table, presets};

use crate::monitor::number::{fixed, signed};

/// Something of a run, and the run's name where there are several.
#[derive(Clone, Copy)]
pub struct OfRun<'a, T> {
    pub run: Option<&'a str>,
    pub it: T,
}

/// What a column says of an item.
type Cell<'a, T> = Box<dyn Fn(&T) -> Option<String> + 'a>;

/// A header, and what stands below it.
pub struct Column<'a, T> {
    header: String,
    alignment: CellAlignment,
    /// What stands where there is nothing to say.
    absent: &'static str,
    cell: Cell<'a, T>,
}

impl<'a, T> Column<'a, T> {
    pub fn words(header: &str, cell: impl Fn(&T) -> Option<String> + 'a) -> Self {
        let (header, cell) = (header.to_owned(), Box::new(cell));
        Self { header, alignment: CellAlignment::Left, absent: "", cell }
    }

    pub fn number(header: &str, cell: impl Fn(&T) -> Option<String> + 'a) -> Self {
        let (header, cell) = (header.to_owned(), Box::new(cell));
        Self { header, alignment: CellAlignment::Right, absent: "–", cell }
    }
}

/// The table with its header; the empty string where there is no item.
pub fn draw<T>(columns: &[Column<T>], items: &[T]) -> String {
    let filled: Vec<(&Column<T>, Vec<Option<String>>)> = columns
        .iter()
        .map(|column| (column, items.iter().map(&column.cell).collect::<Vec<_>>()))
        .filter(|(_, cells)| cells.iter().any(Option::is_some))
        .collect();
    if filled.is_empty() {
        return String::new();
    }
    let row = |i: usize| -> Vec<String> {
        let cell = |(column, cells): &(&Column<T>, Vec<Option<String>>)| {
            cells[i].clone().unwrap_or_else(|| column.absent.to_owned())
        };
        filled.iter().map(cell).collect()
    };
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_header(filled.iter().map(|(column, _)| &column.header))
        .add_rows((0..items.len()).map(row));
    for (column, (of, _)) in table.column_iter_mut().zip(&filled) {
        column.set_cell_alignment(of.alignment);
    }
    table.to_string()
}

/// An interval of a quantity, or of a difference.
pub fn interval([low, high]: [f64; 2], is_difference: bool) -> String {
    let number = if is_difference { signed } else { fixed };
    format!("{} … {}", number(low, 3), number(high, 3))
}

/// A p-value; none is told as zero.
pub fn p(value: f64) -> String {
    if value < 0.0005 { "<0.001".to_owned() } else { fixed(value, 3) }
}
