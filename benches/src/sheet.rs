//! Figures other than speeds: bytes, milliseconds, shares. Less is better in all of them.

use serde::Serialize;

use crate::report::OURS;
use crate::timed::Spread;

/// One workload over all engines, with several figures of each.
#[derive(Debug, Serialize)]
pub struct Sheet {
    /// The workload, for programs.
    pub workload: String,
    /// The workload with its sizes, for people.
    pub title: String,
    /// What the caches and the state of the stores were like.
    pub regime: &'static str,
    /// What the figures are.
    pub columns: Vec<Column>,
    /// What the engines did.
    pub rows: Vec<Line>,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub unit: &'static str,
}

/// What one engine did.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Its name.
    pub engine: &'static str,
    /// Its settings, in a few words.
    pub settings: &'static str,
    /// What is particular here.
    pub note: String,
    /// A figure for each column, if the engine has it.
    pub cells: Vec<Option<Cell>>,
}

/// One figure over all repeats.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// Median and extremes.
    pub spread: Spread,
    /// Of each repeat, in their order.
    pub samples: Vec<f64>,
    /// This engine's figure divided by larder's: the median over the repeats. Above 1, larder
    /// is better.
    pub larder_ratio: Option<f64>,
}

impl Line {
    /// From the figures of each repeat, which have one for each column.
    #[must_use]
    pub fn new(
        engine: &'static str,
        settings: &'static str,
        note: String,
        repeats: &[Vec<Option<f64>>],
    ) -> Self {
        let columns = repeats.first().map_or(0, Vec::len);
        let cell = |at: usize| {
            let samples: Vec<f64> = repeats.iter().filter_map(|figures| figures[at]).collect();
            let spread = Spread::of(samples.iter().copied());
            (!samples.is_empty()).then_some(Cell { spread, samples, larder_ratio: None })
        };
        Self { engine, settings, note, cells: (0..columns).map(cell).collect() }
    }
}

impl Sheet {
    /// Fills in the ratios.
    pub fn compare(&mut self) {
        let Some(ours) = self.rows.iter().find(|row| row.engine == OURS) else { return };
        let ours: Vec<Option<Vec<f64>>> =
            ours.cells.iter().map(|cell| Some(cell.as_ref()?.samples.clone())).collect();
        for row in self.rows.iter_mut().filter(|row| row.engine != OURS) {
            for (cell, ours) in row.cells.iter_mut().zip(&ours) {
                if let (Some(cell), Some(ours)) = (cell, ours) {
                    let ratios = cell.samples.iter().zip(ours).map(|(theirs, ours)| theirs / ours);
                    let ratio = Spread::of(ratios).median;
                    // Of nothing there is no multiple.
                    cell.larder_ratio = ratio.is_finite().then_some(ratio);
                }
            }
        }
    }

    /// Prints the table: medians, and by how much larder is better.
    pub fn print(&self) {
        println!("\n{}; {}", self.title, self.regime);
        print!("  {:<14}", "engine");
        for Column { name, unit } in &self.columns {
            print!(" {:>23}", format!("{name}, {unit}"));
        }
        println!();
        for row in &self.rows {
            print!("  {:<14}", row.engine);
            for cell in &row.cells {
                let Some(cell) = cell else {
                    print!(" {:>23}", "–");
                    continue;
                };
                let figure = short(cell.spread.median);
                let ratio = cell.larder_ratio.map(|ratio| format!(" ({ratio:.2} ×)"));
                print!(" {:>23}", figure + &ratio.unwrap_or_default());
            }
            println!(
                "{}",
                if row.note.is_empty() { String::new() } else { format!("  {}", row.note) }
            );
        }
    }
}

/// A figure with as many digits as can be compared.
fn short(figure: f64) -> String {
    match figure.abs() {
        1000.0.. => format!("{figure:.0}"),
        100.0.. => format!("{figure:.1}"),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_same_repeat_and_skip_what_is_missing() {
        let line =
            |engine, figures: &[Vec<Option<f64>>]| Line::new(engine, "", String::new(), figures);
        let column = Column { name: "space", unit: "B" };
        let mut sheet = Sheet {
            workload: String::new(),
            title: String::new(),
            regime: "",
            columns: vec![column; 2],
            rows: vec![
                line(OURS, &[vec![Some(1.0), Some(1.0)], vec![Some(2.0), Some(1.0)]]),
                line("other", &[vec![Some(3.0), None], vec![Some(6.0), None]]),
            ],
        };
        sheet.compare();
        let other = &sheet.rows[1].cells;
        assert_eq!(other[0].as_ref().unwrap().larder_ratio, Some(3.0));
        assert!(other[1].is_none());
        assert!(sheet.rows[0].cells[0].as_ref().unwrap().larder_ratio.is_none());
    }
}
