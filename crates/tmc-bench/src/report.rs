//! The table that a benchmark prints, and the numbers behind it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::OutputArgs;

/// What was measured for a row.
pub(crate) struct Measured {
    /// For people.
    pub(crate) shown: String,
    /// Whether the target is reached; `None` where there is none.
    pub(crate) reached: Option<bool>,
    /// The numbers.
    pub(crate) raw: Value,
}

/// What a row is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    /// The target, as text.
    pub(crate) target: &'static str,
    /// What the Go programs were measured at.
    pub(crate) reference: &'static str,
    /// How it is measured, in one line.
    pub(crate) method: &'static str,
}

/// One row.
struct Row {
    topic: Topic,
    shown: String,
    mark: &'static str,
    raw: Value,
}

/// All rows, printed as they come.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    failed: bool,
}

impl Report {
    /// Adds a row, or why there is none: one failure ends no other measurement.
    pub(crate) fn add(&mut self, topic: Topic, outcome: Result<Measured>) {
        let row = match outcome {
            Ok(measured) => Row {
                topic,
                shown: measured.shown,
                mark: match measured.reached {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "",
                },
                raw: measured.raw,
            },
            Err(error) => {
                self.failed = true;
                let text = format!("{error:#}");
                let raw = json!({"failed": text});
                eprintln!("{}: {text}", topic.name);
                // The table has room for one line of it.
                let line: String = text
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(100)
                    .collect();
                Row {
                    topic,
                    raw,
                    shown: format!("failed: {line}"),
                    mark: "",
                }
            }
        };
        eprintln!("{}: {}", row.topic.name, row.shown);
        self.rows.push(row);
    }

    /// Adds a row that cannot be measured here.
    pub(crate) fn skip(&mut self, topic: Topic, why: &str) {
        eprintln!("{}: skipped, {why}", topic.name);
        let raw = json!({"skipped": why});
        self.rows.push(Row {
            topic,
            shown: format!("skipped: {why}"),
            mark: "",
            raw,
        });
    }

    /// Prints the table, writes the file; failure if a row failed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn finish(&self, title: &str, output: &OutputArgs) -> Result<ExitCode> {
        println!("{title}\n");
        print!("{}", self.table());
        if output.explain {
            println!();
            for row in self.rows.iter().filter(|row| !row.topic.method.is_empty()) {
                println!("{}: {}", row.topic.name, row.topic.method);
            }
        }
        if let Some(file) = &output.json {
            self.write(title, file)?;
        }
        Ok(if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn table(&self) -> String {
        let mut lines =
            vec![["ROW", "MEASURED", "TO REACH", "REACHED", "GO REFERENCE"].map(str::to_owned)];
        lines.extend(self.rows.iter().map(|row| {
            let topic = row.topic;
            [
                topic.name,
                &row.shown,
                topic.target,
                row.mark,
                topic.reference,
            ]
            .map(str::to_owned)
        }));
        let mut widths = [0; 5];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let aligned = lines.iter().map(|line| {
            let cells = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        });
        aligned.collect()
    }

    fn write(&self, title: &str, file: &Path) -> Result<()> {
        let rows = self.rows.iter().map(|row| {
            json!({
                "row": row.topic.name, "measured": row.shown, "target": row.topic.target,
                "reached": row.mark, "reference": row.topic.reference, "method": row.topic.method,
                "raw": row.raw,
            })
        });
        let document = json!({"title": title, "rows": rows.collect::<Vec<_>>()});
        std::fs::write(file, format!("{document:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

/// The machine and how busy it is: whoever compares numbers needs both.
pub(crate) fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let build = if cfg!(debug_assertions) {
        "DEBUG BUILD"
    } else {
        "release build"
    };
    format!("{cpus} cores of {model}, load average before the run {load}, {build}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        let topic = |name, method| Topic {
            name,
            target: "≤ 1 s",
            reference: "3 s",
            method,
        };
        let good = Measured {
            shown: "0.5 s".into(),
            reached: Some(true),
            raw: json!({"s": 0.5}),
        };
        report.add(topic("start", "by watch"), Ok(good));
        report.skip(topic("real", ""), "no programs");
        report
    }

    #[test]
    fn columns_are_aligned_and_marked() {
        let expected = "\
ROW    MEASURED              TO REACH  REACHED  GO REFERENCE
start  0.5 s                 ≤ 1 s     yes      3 s
real   skipped: no programs  ≤ 1 s              3 s
";
        assert_eq!(report().table(), expected);
    }

    #[test]
    fn raw_numbers_go_to_the_file_and_a_failed_row_fails_the_run() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("numbers.json");
        let output = OutputArgs {
            explain: true,
            json: Some(file.clone()),
        };
        let mut report = report();
        assert_eq!(
            report.finish("t", &output).expect("written"),
            ExitCode::SUCCESS
        );
        let written: Value =
            serde_json::from_slice(&std::fs::read(file).expect("there")).expect("JSON");
        assert_eq!(written["rows"][0]["raw"]["s"], 0.5);
        report.add(Topic::default(), Err(anyhow::anyhow!("broken")));
        let output = OutputArgs {
            explain: false,
            json: None,
        };
        assert_eq!(
            report.finish("t", &output).expect("printed"),
            ExitCode::FAILURE
        );
        assert!(report.table().contains("failed: broken"));
    }
}
