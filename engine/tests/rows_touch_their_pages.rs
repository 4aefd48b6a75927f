//! Looking at a row of a large array brings the pages into memory that it lies in, and storing the
//! array takes no memory besides. A process of its own, as memory is counted for all of one.

#![cfg(target_os = "linux")]
#![cfg_attr(target_os = "linux", expect(clippy::unwrap_used, reason = "a test"))]

use std::fs;

use larder_engine::{ArrayRef, Disk, Engine, Maintenance, Put};

const ROWS: usize = 8 << 10;
const ROW: usize = 1 << 10;

/// Bytes in memory of this process: of files that are mapped, and of no file.
fn resident() -> [u64; 2] {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    ["RssFile:", "RssAnon:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    })
}

#[test]
fn a_row_costs_its_pages_and_a_put_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let builder = Disk::builder(dir.path().join("store")).budget(256 << 20);
        builder.maintenance(Maintenance::Manual).segment_len(1 << 20).open().unwrap()
    };
    let elements = vec![1.5_f32; ROWS * ROW];
    let len = size_of_val(&*elements) as u64;
    let disk = open();
    let array = ArrayRef::new(&elements, &[ROWS, ROW]).unwrap();
    let [_, before] = resident();
    assert!(disk.put_array(b"put", &array, &Put::default()).unwrap().is_admitted());
    let mut place = disk.reserve_array::<f32>(b"key", &[ROWS, ROW], &Put::default()).unwrap();
    place.as_mut_slice().copy_from_slice(&elements);
    assert!(place.commit().unwrap().is_admitted());
    let [_, after] = resident();
    assert!(after < before + len / 20, "{before} bytes became {after}");
    disk.close().unwrap();
    drop(disk);

    let disk = open();
    let [before, _] = resident();
    let view = disk.get_array::<f32>(b"key").unwrap().unwrap();
    for row in [ROWS / 2, ROWS - 1] {
        assert_eq!(view.rows(row..row + 1).unwrap().as_slice().unwrap(), [1.5; ROW]);
    }
    let [after, _] = resident();
    // Of each row the chunk that it lies in, what the system brings with a page, and the end of
    // the file, which says what the array is.
    assert!(after < before + (1 << 20), "{before} bytes became {after}");
}
