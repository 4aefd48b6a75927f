use std::sync::Arc;
use std::path::Path;
use std::io;
use larder_engine::{Engine, ManualClock, Result};
use crate::standin::{Flaw, StandIn};
use crate::work::Job;
pub(crate) struct Opened {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) damage: Option<String>,
}
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> { std::fs::create_dir(dir) }
pub(crate) fn open(job: &Job) -> Result<Opened> {
    let clock = Arc::new(ManualClock::at(job.now_ms()));
    let flaw = Flaw::named(&job.store).unwrap_or(Flaw::Nothing);
        let engine = Box::new(StandIn::open(&job.dir, flaw, clock)?);
        return Ok(Opened { engine, damage: None });
}
pub(crate) fn open_verified(job: &Job) -> Result<Opened> { open(job) }
