//! Results of functions, kept: in memory, on disk over runs of the program, and asked about.
//!
//! Run it twice with a directory: the second time nothing is computed.
//!
//! ```sh
//! cargo run --example memoise -- /tmp/larder-memoise
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use larder::{KeyEncode, cached};

static DIR: OnceLock<PathBuf> = OnceLock::new();

fn dir() -> PathBuf {
    DIR.get().cloned().unwrap_or_else(|| std::env::temp_dir().join("larder-memoise"))
}

/// A matrix that a rotation is applied to; what it is called does not count.
#[derive(KeyEncode)]
struct Grid {
    side: u32,
    #[key(skip)]
    name: &'static str,
}

impl Grid {
    /// Takes a while: the first time, whatever the grid is called.
    #[cached(disk = dir(), memory = 16 << 20, ttl = "7d", tolerance = 0.01)]
    fn energy(&self, angle: f64) -> f64 {
        let (sin, cos) = angle.sin_cos();
        let rotated = |x: u32, y: u32| f64::from(x) * cos - f64::from(y) * sin;
        let cells = (0..self.side).flat_map(|x| (0..self.side).map(move |y| (x, y)));
        cells.map(|(x, y)| rotated(x, y).powi(2)).sum()
    }
}

/// Kept only if it is a number; an error is computed again.
#[cached(capacity = 1_000)]
fn parse(text: &str) -> Result<u64, std::num::ParseIntError> {
    text.trim().parse()
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(dir) = std::env::args_os().nth(1) {
        DIR.get_or_init(|| dir.into());
    }
    let grid = Grid { side: 2_000, name: "first" };
    for angle in [0.5, 0.501, 1.5] {
        let start = Instant::now();
        let energy = grid.energy(angle);
        eprintln!("{} at {angle}: {energy:.3e}, {:?}", grid.name, start.elapsed());
    }
    let stats = Grid::energy_cache().stats();
    eprintln!("{} computed, {} found", stats.runs, stats.hits);

    // The same size under another name, asked about without a call.
    let other = Grid { side: 2_000, name: "second" };
    assert!(other.energy_call(0.5).is_cached());
    assert!(other.energy_call(0.25).get()?.is_none());
    eprintln!("why would 0.25 miss? {:?}", other.energy_call(0.25).explain());

    assert!(parse("7").is_ok() && parse("seven").is_err());
    assert!(parse_call("7").is_cached() && !parse_call("seven").is_cached());
    Grid::energy_cache().cache().close()?;
    Ok(())
}
