//! Pictures: miss ratio against capacity, a line for each policy.
//!
//! SVG or PNG, by the file's name. The font comes with the program, so that a picture can be
//! drawn on machines that have none.

use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;

use crate::error::{Error, Result};

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 600;
/// Width of the legend beside the picture.
const LEGEND: u32 = 190;
const FONT: &str = "sans-serif";
/// Colours that people with any sort of sight tell apart, after P. Tol and M. Okabe.
const COLORS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(136, 34, 85),
    RGBColor(120, 120, 120),
    RGBColor(90, 60, 20),
];

/// A picture of miss ratios.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// Whether capacities are bytes and not objects.
    pub bytes: bool,
    /// What is drawn, in the order of the legend.
    pub lines: Vec<Line>,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Capacities and miss ratios, the smallest capacity first.
    pub points: Vec<(f64, f64)>,
    /// Capacities, and between what the miss ratios lie; empty if they are exact.
    pub band: Vec<(f64, f64, f64)>,
    /// Whether it is a bound that no policy crosses, drawn black and dashed.
    pub optimum: bool,
}

impl Chart {
    /// Draws it to `path`, which ends in `.svg` or `.png`.
    ///
    /// # Errors
    /// - [`Error::Config`]: the name ends in something else.
    /// - [`Error::Plot`]: there is nothing to draw, or the file cannot be written.
    pub fn draw(&self, path: &Path) -> Result<()> {
        let extension = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
        let size = (WIDTH, HEIGHT);
        match extension.as_deref() {
            Some("svg") => self.draw_on(path, SVGBackend::new(path, size).into_drawing_area()),
            Some("png") => self.draw_on(path, BitMapBackend::new(path, size).into_drawing_area()),
            _ => Err(Error::Config {
                option: "plot",
                value: path.display().to_string(),
                accepted: "end its name in .svg or .png",
            }),
        }
    }

    fn draw_on<B: DrawingBackend>(&self, path: &Path, area: DrawingArea<B, Shift>) -> Result<()> {
        let fail = |why: String| Error::Plot { path: path.to_owned(), why };
        let known = |&(x, y): &(f64, f64)| x > 0.0 && x.is_finite() && y.is_finite();
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|at| known(at));
        let (mut left, mut right) = points()
            .fold((f64::INFINITY, 0.0_f64), |(low, high), at| (low.min(at.0), high.max(at.0)));
        if left > right {
            return Err(fail("it has no point".to_owned()));
        }
        if right < 1.5 * left {
            (left, right) = (left / 2.0, right * 2.0);
        }
        // So that points at the ends are whole.
        (left, right) = (left / 1.03, right * 1.03);
        let (least, most) =
            points().fold((1.0_f64, 0.0_f64), |(low, high), at| (low.min(at.1), high.max(at.1)));
        let top = (most * 1.05).clamp(0.01, 1.0);
        // Zero belongs into the picture unless all lines run far above it.
        let bottom = if least > 0.5 * most { (least - 0.2 * (top - least)).max(0.0) } else { 0.0 };
        let bottom = if top - bottom < 0.01 { (top - 0.01).max(0.0) } else { bottom };
        register_font();
        self.draw_within(&area, (left, right), (bottom, top))
            .map_err(|error| fail(error.to_string()))
    }

    fn draw_within<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        (left, right): (f64, f64),
        (bottom, top): (f64, f64),
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&WHITE)?;
        let (body, legend) = area.split_horizontally(WIDTH - LEGEND);
        let mut chart = ChartBuilder::on(&body)
            .caption(&self.title, (FONT, 19))
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d((left..right).log_scale(), bottom..top)?;
        let capacity = |value: &f64| if self.bytes { in_bytes(*value) } else { in_objects(*value) };
        chart
            .configure_mesh()
            .x_desc(if self.bytes { "capacity in bytes" } else { "capacity in objects" })
            .y_desc("miss ratio")
            .x_labels(8)
            .y_labels(11)
            .x_label_formatter(&capacity)
            .y_label_formatter(&|ratio| format!("{:.4} %", ratio * 100.0).replace(".0000", ""))
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 16))
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(BLACK.mix(0.05))
            .draw()?;
        for (at, line) in self.lines.iter().enumerate() {
            let color = color(at, line);
            if !line.band.is_empty() {
                let inside = line.band.iter().filter(|point| (left..=right).contains(&point.0));
                let upper = inside.clone().map(|&(x, _, high)| (x, high.clamp(bottom, top)));
                let lower = inside.rev().map(|&(x, low, _)| (x, low.clamp(bottom, top)));
                let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
                chart.draw_series([Polygon::new(outline, color.mix(0.15))])?;
            }
            let points = || line.points.iter().copied().filter(|point| point.0 > 0.0);
            let style = color.stroke_width(2);
            if line.optimum {
                chart.draw_series(DashedLineSeries::new(points(), 8, 5, style))?;
            } else {
                chart.draw_series(LineSeries::new(points(), style))?;
            }
            // Where points are few, they are what was simulated, and the line only leads the eye.
            if line.points.len() <= 32 {
                let fill = color.filled();
                match mark(at, line) {
                    Mark::Circle => {
                        chart.draw_series(points().map(|at| Circle::new(at, 3, fill)))?;
                    }
                    Mark::Triangle => {
                        chart.draw_series(points().map(|at| TriangleMarker::new(at, 5, fill)))?;
                    }
                    Mark::Cross => {
                        chart.draw_series(points().map(|at| Cross::new(at, 4, style)))?;
                    }
                }
            }
        }
        self.draw_legend(&legend)?;
        area.present()
    }

    fn draw_legend<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        const STEP: i32 = 22;
        let mut y = 60;
        for (at, line) in self.lines.iter().enumerate() {
            let color = color(at, line);
            let dashes: &[(i32, i32)] =
                if line.optimum { &[(0, 8), (13, 21), (26, 28)] } else { &[(0, 28)] };
            for &(from, to) in dashes {
                area.draw(&PathElement::new([(from, y), (to, y)], color.stroke_width(2)))?;
            }
            let fill = color.filled();
            match mark(at, line) {
                Mark::Circle => area.draw(&Circle::new((14, y), 3, fill))?,
                Mark::Triangle => area.draw(&TriangleMarker::new((14, y), 5, fill))?,
                Mark::Cross => area.draw(&Cross::new((14, y), 4, color.stroke_width(2)))?,
            }
            area.draw(&Text::new(line.name.clone(), (36, y - 6), (FONT, 15).into_font()))?;
            y += STEP;
        }
        if self.lines.iter().any(|line| !line.band.is_empty()) {
            let note = "shaded: 99 % bound";
            area.draw(&Text::new(note, (0, y), (FONT, 13).into_font()))?;
        }
        Ok(())
    }
}

fn color(at: usize, line: &Line) -> RGBColor {
    if line.optimum { BLACK } else { COLORS[at % COLORS.len()] }
}

/// What points look like: lines of one color differ in it.
enum Mark {
    Circle,
    Triangle,
    Cross,
}

fn mark(at: usize, line: &Line) -> Mark {
    // Optima are all black.
    match if line.optimum { at } else { at / COLORS.len() } % 3 {
        0 => Mark::Circle,
        1 => Mark::Triangle,
        _ => Mark::Cross,
    }
}

/// Registers the font, once.
fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The font is part of the program, and readable.
        let registered = plotters::style::register_font(
            FONT,
            FontStyle::Normal,
            epaint_default_fonts::UBUNTU_LIGHT,
        );
        debug_assert!(registered.is_ok());
    });
}

fn in_objects(value: f64) -> String {
    scaled(value, 1000.0, &["", " k", " M", " G", " T"])
}

fn in_bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(value < 9.95 && value.fract() > 0.05);
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn chart() -> Chart {
        let line = |name: &str, from: f64, optimum| Line {
            name: name.to_owned(),
            points: (0..8)
                .map(|at| (f64::from(1 << at) * 10.0, from / f64::from(at + 1)))
                .collect(),
            band: Vec::new(),
            optimum,
        };
        let mut lines = vec![line("lru", 0.9, false), line("belady", 0.5, true)];
        lines[0].band = lines[0].points.iter().map(|&(x, y)| (x, y * 0.9, y * 1.1)).collect();
        Chart { title: "a <test>".to_owned(), bytes: true, lines }
    }

    #[test]
    fn pictures_are_what_their_names_say() {
        let dir = tempfile::tempdir().unwrap();
        let (svg, png) = (dir.path().join("a.svg"), dir.path().join("a.PNG"));
        chart().draw(&svg).unwrap();
        chart().draw(&png).unwrap();
        let text = fs::read_to_string(svg).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for part in ["lru", "belady", "capacity in bytes", "miss ratio", "a &lt;test&gt;", "1000 B"]
        {
            assert!(text.contains(part), "{part}");
        }
        let bytes = fs::read(png).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{}", bytes.len());
    }

    #[test]
    fn one_point_and_zeros_can_be_drawn_and_nothing_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.svg");
        let with =
            |points| Chart { lines: vec![Line { points, ..Line::default() }], ..Chart::default() };
        with(vec![(5.0, 0.0)]).draw(&path).unwrap();
        with(vec![(0.0, 1.0), (5.0, 0.5)]).draw(&path).unwrap();
        assert!(matches!(with(Vec::new()).draw(&path), Err(Error::Plot { .. })));
        assert!(matches!(chart().draw(&dir.path().join("a.gif")), Err(Error::Config { .. })));
        assert!(matches!(chart().draw(Path::new("/nowhere/a.svg")), Err(Error::Plot { .. })));
    }

    #[test]
    fn capacities_are_short() {
        for (value, objects, bytes) in [
            (10.0, "10", "10 B"),
            (1500.0, "1.5 k", "1.5 KiB"),
            (2_000_000.0, "2 M", "1.9 MiB"),
            (1048576.0, "1 M", "1 MiB"),
        ] {
            assert_eq!((in_objects(value).as_str(), in_bytes(value).as_str()), (objects, bytes));
        }
    }
}
