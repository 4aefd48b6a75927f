//! A model of [`EpochCell`]: what a reader holds stays while its guard is pinned.

use std::sync::Arc;

use crossbeam_epoch::Collector;
use loom::thread;

use super::Model;
use super::rig::Plain;
use crate::disk::cell::EpochCell;

/// A value that notices a reader who is not ordered after its making and before its end.
#[derive(Debug)]
struct Value {
    number: u32,
    content: Arc<Plain>,
}

impl Value {
    fn new(number: u32) -> Self {
        let content = Arc::new(Plain::new());
        content.write();
        Self { number, content }
    }

    fn read(&self) -> u32 {
        self.content.read();
        self.number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // A model that fails drops what it holds; that is no failure of its own.
        if !std::thread::panicking() {
            self.content.write();
        }
    }
}

/// A reader meets a writer that replaces the value, and reclaims what it replaced: the reader
/// sees a whole value, alive, and never an older one than before.
pub(super) const REPLACE_AND_LOAD: Model = Model::new(2, || {
    let collector = Collector::new();
    let cell = Arc::new(EpochCell::empty());
    {
        let handle = collector.register();
        cell.replace(Some(Value::new(1)), &handle.pin());
    }
    let writer = {
        let (cell, collector) = (Arc::clone(&cell), collector.clone());
        thread::spawn(move || {
            let handle = collector.register();
            let guard = handle.pin();
            cell.replace(Some(Value::new(2)), &guard);
            drop(guard);
            handle.pin().flush();
        })
    };
    {
        let handle = collector.register();
        let guard = handle.pin();
        let first = cell.load(&guard).expect("never empty");
        let second = cell.load(&guard).expect("never empty").read();
        assert!(first.read() <= second, "a read went back");
    }
    writer.join().unwrap();
});

#[test]
fn a_value_lives_as_long_as_its_readers() {
    REPLACE_AND_LOAD.check();
}
