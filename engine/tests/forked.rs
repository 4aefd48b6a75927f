//! Promise: a child that is forked while a store is open is told so whatever it asks of it, and never
//! hangs; its parent goes on, and keeps its locks.
//! Method: a process forks again and again while its threads write, and hold the store's locks; the
//! child tries everything, and says by its exit code how that went.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use larder_engine::{Atomic, Disk, Durability, Engine, Error, Put, WriteBatch};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Threads that write meanwhile.
const THREADS: u64 = 4;
/// How long a child may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn forks() -> u64 {
    std::env::var("LARDER_FORKS").ok().and_then(|forks| forks.parse().ok()).unwrap_or(20)
}

fn open(dir: &Path, shared: bool) -> larder_engine::Result<Disk> {
    let builder = Disk::builder(dir).budget(64 << 20).segment_len(256 << 10);
    if shared { builder.shared().open() } else { builder.open() }
}

/// What a child does; its exit code.
fn child(disk: Disk) -> i32 {
    let put = Put::default();
    let mut batch = WriteBatch::new();
    batch.put(b"child", b"value", &put);
    let told = [
        disk.get(b"key 1").map(drop),
        disk.version(b"key 1").map(drop),
        disk.put(b"child", b"value", &put).map(drop),
        disk.put(b"child", &[1; 100_000], &put).map(drop),
        disk.add(b"child", b"value", &put).map(drop),
        disk.remove(b"key 1").map(drop),
        disk.add_to(b"sum", 1, Some(0), &put).map(drop),
        disk.write(&batch, Durability::None).map(drop),
        disk.invalidate_tag(b"tag").map(drop),
        disk.clear().map(drop),
        disk.sync(),
        disk.maintain().map(drop),
        disk.verify().map(drop),
        disk.compact().map(drop),
        disk.close(),
    ];
    if let Some(at) = told.iter().position(|told| !matches!(told, Err(Error::Forked))) {
        return i32::try_from(10 + at).unwrap_or(9);
    }
    // Its copy goes, and none of the parent's locks with it.
    drop(disk);
    0
}

fn wait(pid: Pid) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::Exited(_, code) => return Some(code),
            WaitStatus::StillAlive => thread::sleep(Duration::from_millis(1)),
            _ => return None,
        }
    }
    None
}

fn many_forks(shared: bool) {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let disk = open(&dir, shared).unwrap();
    let stop = AtomicBool::new(false);
    let written: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for (thread, written) in (0_u64..).zip(&written) {
            let (disk, stop) = (&disk, &stop);
            scope.spawn(move || {
                let key = format!("key {thread}");
                for number in 1_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let value =
                        number.to_le_bytes().repeat(1 + usize::try_from(number % 40).unwrap());
                    let outcome = disk.put(key.as_bytes(), &value, &Put::default()).unwrap();
                    assert!(outcome.is_admitted());
                    written.store(number, Ordering::Relaxed);
                }
            });
        }
        for number in 0..forks() {
            thread::sleep(Duration::from_micros(number * 137 % 2_000));
            // SAFETY: the child calls what other threads of the parent may hold locks of, which is what
            // is tested; it ends by `_exit`, without unwinding into what it does not own.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    // SAFETY: this copy is used, and dropped, by the child alone.
                    let own = unsafe { std::ptr::read(&raw const disk) };
                    let code = child(own);
                    // SAFETY: ends the process.
                    unsafe { nix::libc::_exit(code) };
                }
                ForkResult::Parent { child } => {
                    let code = wait(child);
                    stop.store(code != Some(0), Ordering::Relaxed);
                    assert_eq!(code, Some(0), "fork {number}");
                    assert!(
                        matches!(open(&dir, false), Err(Error::Locked { .. })),
                        "the lock is held"
                    );
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (thread, written) in (0_u64..).zip(&written) {
        let value = disk.get(format!("key {thread}").as_bytes()).unwrap().unwrap();
        assert_eq!(value[..8], written.load(Ordering::Relaxed).to_le_bytes());
    }
    assert!(disk.verify().unwrap().is_clean());
    disk.close().unwrap();
}

#[test]
fn a_child_is_told_that_the_store_is_its_parents() {
    many_forks(false);
}

#[test]
fn a_child_is_told_that_its_parent_shares_the_store() {
    many_forks(true);
}
