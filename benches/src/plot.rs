//! A picture of a run: by how much larder is faster than each peer, a bar for each.

use std::path::Path;

use larder_rivals::Result;
use plotters::prelude::*;
use serde_json::Value;

use crate::report::OURS;

const WIDTH: u32 = 900;
const LABELS: i32 = 150;
const BAR: i32 = 15;
const TITLE: i32 = 34;
const MARGIN: i32 = 24;
/// Ends of the logarithmic axis.
const RATIO_MIN: f64 = 0.1;
const RATIO_MAX: f64 = 100.0;
const FASTER: RGBColor = RGBColor(46, 125, 50);
const SLOWER: RGBColor = RGBColor(198, 40, 40);
const LINE: RGBColor = RGBColor(190, 190, 190);

/// A workload and its bars.
#[derive(Debug, PartialEq)]
struct Panel {
    title: String,
    bars: Vec<(String, f64)>,
}

/// Draws the ratios of a run, whose JSON is at `from`, to an SVG file.
///
/// # Errors
/// What the system says; if there is no report at `from`, or none with ratios.
pub fn draw(from: &Path, to: &Path) -> Result<()> {
    let report: Value = serde_json::from_slice(&std::fs::read(from)?)?;
    let panels = panels(&report);
    if panels.is_empty() {
        return Err(format!("{} has no ratios to draw", from.display()).into());
    }
    let bars: usize = panels.iter().map(|panel| panel.bars.len()).sum();
    let height = i32::try_from(bars)? * BAR + i32::try_from(panels.len())? * TITLE + 3 * MARGIN;
    let area = SVGBackend::new(to, (WIDTH, u32::try_from(height)?)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    let machine = &report["machine"];
    let head = format!(
        "larder against others: how many times as fast (log scale). {}, {} cores, Linux {}",
        machine["processor"].as_str().unwrap_or("unknown processor"),
        machine["cores"],
        machine["kernel"].as_str().unwrap_or("?"),
    );
    area.draw(&Text::new(head, (MARGIN, MARGIN / 2), text(13)))?;
    let mut top = 2 * MARGIN;
    for panel in panels {
        area.draw(&Text::new(panel.title, (MARGIN, top + TITLE / 3), text(13)))?;
        top += TITLE;
        let bottom = top + i32::try_from(panel.bars.len())? * BAR;
        for ratio in [0.1, 1.0, 10.0, 100.0] {
            let color = if ratio == 1.0 { &BLACK } else { &LINE };
            area.draw(&PathElement::new([(x(ratio), top), (x(ratio), bottom)], color))?;
        }
        for (name, ratio) in panel.bars {
            let ends = [(x(1.0), top + 2), (x(ratio), top + BAR - 2)];
            let color = if ratio >= 1.0 { FASTER } else { SLOWER };
            area.draw(&Rectangle::new(ends, color.filled()))?;
            area.draw(&Text::new(name, (MARGIN, top + 2), text(11)))?;
            let beside = x(ratio).max(x(1.0)) + 4;
            area.draw(&Text::new(format!("{ratio:.2} ×"), (beside, top + 2), text(11)))?;
            top += BAR;
        }
    }
    area.present()?;
    Ok(())
}

/// Where a ratio lies on the logarithmic axis.
fn x(ratio: f64) -> i32 {
    let share =
        (ratio.clamp(RATIO_MIN, RATIO_MAX) / RATIO_MIN).log10() / (RATIO_MAX / RATIO_MIN).log10();
    let left = f64::from(LABELS);
    // Room on the right for the figure beside the longest bar.
    let width = f64::from(WIDTH) - left - 80.0;
    #[expect(clippy::cast_possible_truncation, reason = "at most the width of the picture")]
    let x = (left + share * width) as i32;
    x
}

/// The measurements of speed that have peers to compare with.
fn panels(report: &Value) -> Vec<Panel> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let bar = |row: &Value| {
        let name = row["engine"].as_str().filter(|name| *name != OURS)?;
        Some((name.to_owned(), row["larder_ratio"]["median"].as_f64()?))
    };
    let panel = |group: &Value| {
        let title =
            format!("{}, threads: {}", group["title"].as_str().unwrap_or("?"), group["threads"]);
        let bars: Vec<_> = list(&group["rows"]).iter().filter_map(bar).collect();
        (!bars.is_empty()).then_some(Panel { title, bars })
    };
    list(&report["groups"]).iter().filter_map(panel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_bar_for_each_peer() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("run.json"), dir.path().join("run.svg"));
        let json = r#"{"machine": {"processor": "P", "cores": 2, "kernel": "6"}, "groups": [
            {"title": "disk: get", "threads": 1, "rows": [
                {"engine": "larder", "larder_ratio": {"median": 2.0}},
                {"engine": "lmdb", "larder_ratio": {"median": 2.0}},
                {"engine": "redb", "larder_ratio": {"median": 0.5}}]},
            {"title": "alone", "threads": 1, "rows": [{"engine": "larder"}]}]}"#;
        std::fs::write(&from, json).unwrap();
        draw(&from, &to).unwrap();
        let svg = std::fs::read_to_string(&to).unwrap();
        // The background, and two bars.
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains("lmdb") && svg.contains("2.00 ×") && svg.contains("0.50 ×"));

        std::fs::write(&from, "{}").unwrap();
        assert!(draw(&from, &to).is_err());
    }

    #[test]
    fn the_axis_is_logarithmic() {
        assert_eq!(x(10.0) - x(1.0), x(1.0) - x(0.1));
        assert_eq!(x(1e9), x(100.0));
    }
}
