//! Tables for a terminal: no frames, columns two spaces apart, numbers to the right.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::Failure;

/// Writes rows under headers. A header that begins with `>` aligns its column to the right.
pub(super) fn write(
    out: &mut dyn Write,
    headers: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Result<(), Failure> {
    let side = |n: usize| match headers.get(n) {
        Some(header) if header.starts_with('>') => CellAlignment::Right,
        _ => CellAlignment::Left,
    };
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header((headers.iter().enumerate()).map(|(n, header)| {
        Cell::new(header.strip_prefix('>').unwrap_or(header)).set_alignment(side(n))
    }));
    for row in rows {
        table.add_row(
            (row.into_iter().enumerate()).map(|(n, text)| Cell::new(text).set_alignment(side(n))),
        );
    }
    for line in table.to_string().lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// `-` for nothing.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A rate or a size with a thousand's unit: `12.3 M`.
pub(super) fn scaled(value: f64) -> String {
    let steps = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    for (step, unit) in steps {
        if value >= step {
            return format!("{:.1}{unit}", value / step);
        }
    }
    format!("{value:.0} ")
}
