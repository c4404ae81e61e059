//! A difference as a table, as JSON, and as a flame graph.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use super::{Change, Diff};
use crate::flame;
use crate::report::text::{fitting, millis};
use crate::text::printable;

/// Columns of a function's name, at least and at most.
const WIDTH: (usize, usize) = (24, 64);

impl Diff {
    /// The difference as one JSON object.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Json<'a> {
            before_ns: u64,
            after_ns: u64,
            functions: &'a [Change],
        }
        let json = Json {
            before_ns: self.before_ns,
            after_ns: self.after_ns,
            functions: &self.functions,
        };
        // Strings and finite numbers: there is nothing that JSON could not hold.
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// Writes a flame graph of the second profile, coloured by what changed. What only the first one has is not in
    /// it; exchange the two to see that.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write_svg_to(&self, title: &str, out: impl Write) -> io::Result<()> {
        flame::write_differential_svg_to(&self.stacks, title, out)
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.functions.iter().take(self.rows);
        let rows: Vec<(String, &Change)> = shown
            .map(|change| (printable(&change.function).into_owned(), change))
            .collect();
        let longest = rows.iter().map(|(name, _)| name.chars().count()).max();
        let width = longest.unwrap_or_default().clamp(WIDTH.0, WIDTH.1);
        writeln!(f, "{:<width$}  {:>27}  {:>27}", "", "SELF %", "TOTAL %")?;
        writeln!(
            f,
            "{:<width$}  {:>8} {:>8} {:>9}  {:>8} {:>8} {:>9}",
            "FUNCTION", "BEFORE", "AFTER", "CHANGE", "BEFORE", "AFTER", "CHANGE"
        )?;
        for (name, change) in rows {
            writeln!(
                f,
                "{:<width$}  {:>8.1} {:>8.1} {:>+9.1}  {:>8.1} {:>8.1} {:>+9.1}",
                fitting(&name, width),
                change.self_before,
                change.self_after,
                rounded(change.in_self()),
                change.total_before,
                change.total_after,
                rounded(change.in_total()),
            )?;
        }
        if let more @ 1.. = self.functions.len().saturating_sub(self.rows) {
            writeln!(f, "({more} more functions)")?;
        }
        write!(
            f,
            "\nbefore: {:.1} ms, after: {:.1} ms",
            millis(self.before_ns),
            millis(self.after_ns)
        )
    }
}

/// What is shown with one digit, without a sign before a zero that means nothing.
fn rounded(points: f64) -> f64 {
    if points.abs() < 0.05 { 0.0 } else { points }
}

#[cfg(test)]
mod tests {
    use super::super::tests::changed;

    #[test]
    fn the_table() {
        assert_eq!(
            changed().rows(2).to_string(),
            "                                               SELF %                      TOTAL %\n\
             FUNCTION                    BEFORE    AFTER    CHANGE    BEFORE    AFTER    CHANGE\n\
             handle<[u8; 4]>              100.0     50.0     -50.0     100.0     50.0     -50.0\n\
             lib.so+0x1010                  0.0     50.0     +50.0       0.0     50.0     +50.0\n\
             (1 more functions)\n\
             \n\
             before: 40.0 ms, after: 40.0 ms"
        );
    }

    #[test]
    fn one_json_object() {
        let json: serde_json::Value = serde_json::from_str(&changed().json()).unwrap();
        assert_eq!(json["before_ns"], 40_000_000);
        assert_eq!(json["functions"][0]["function"], "handle<[u8; 4]>");
        assert_eq!(json["functions"][0]["self_after"], 50.0);
    }

    #[test]
    fn a_flame_graph_in_two_colours() {
        let mut svg = Vec::new();
        changed().write_svg_to("a and b", &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(
            svg.contains("lib.so+0x1010 (500,000 ppm, 50.00%; +50.00%)"),
            "{svg}"
        );
        assert!(
            svg.contains("handle&lt;[u8: 4]&gt; (500,000 ppm, 50.00%; -50.00%)"),
            "{svg}"
        );
    }
}
