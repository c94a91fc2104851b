//! Tables for a terminal: no frames, columns two spaces apart, numbers to the right.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::Failure;
use super::client::Blob;

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

/// Bytes as one line of a table, cut to what fits there.
pub(super) fn value(blob: &Blob) -> String {
    const CHARS_MAX: usize = 60;
    let text = match str::from_utf8(&blob.0) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => serde_json::json!(blob).to_string(),
    };
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    let head: String = text.chars().take(CHARS_MAX - 1).collect();
    format!("{head}\u{2026}")
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
