//! The machine that figures were taken on.

use std::fs;

use serde::Serialize;

/// What is worth knowing of it.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub processor: String,
    /// Cores that threads can use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Processes that wanted to run over the last minute, when the run began. On a quiet
    /// machine this is below 1.
    pub load: f64,
}

impl Machine {
    /// This machine, as far as it says.
    #[must_use]
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| {
                Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().into())
            })
            .unwrap_or_else(|| "unknown processor".to_owned());
        let load = read("/proc/loadavg");
        Self {
            processor,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN),
        }
    }

    /// Prints it in a line.
    pub fn print(&self) {
        println!(
            "{}, {} cores, Linux {}, load {:.1} at the start",
            self.processor, self.cores, self.kernel, self.load
        );
        if self.load > 0.7 {
            println!("The machine is not quiet: absolute figures are too low.");
        }
    }
}
