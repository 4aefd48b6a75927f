//! Promise: a queue keeps its items in order, hands out each once, whoever pulls, and passes
//! over what has expired or was evicted.
//! Method: threads that push and pull at once; a manual clock; reopening; any sequence of
//! operations against a plain deque.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use larder_engine::{
    Disk, DiskBuilder, Engine, Error, ManualClock, Pushed, Put, Queue, Rejection, Ttl,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

/// The number of the first item of an empty queue.
const START: u64 = 500_000_000_000_000;

fn builder(dir: &TempDir) -> DiskBuilder {
    Disk::builder(dir.path().join("store")).budget(32 << 20).writers(2)
}

fn after(ms: u64) -> Put<'static> {
    Put { ttl: Ttl::After(Duration::from_millis(ms)), ..Put::default() }
}

fn push(queue: &Queue<'_>, item: &[u8]) -> u64 {
    number(queue.push_back(item, &Put::default()).unwrap())
}

fn number(pushed: Pushed) -> u64 {
    let Pushed::At(number) = pushed else { panic!("{pushed:?}") };
    number
}

/// What was pulled or peeked at, as number and text.
fn seen(item: larder_engine::Result<Option<(u64, larder_engine::Value)>>) -> Option<(u64, String)> {
    item.unwrap().map(|(number, item)| (number, String::from_utf8(item.to_vec()).unwrap()))
}

fn is(number: u64, text: &str) -> Option<(u64, String)> {
    Some((number, text.to_owned()))
}

#[test]
fn items_come_in_order_from_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let queue = disk.queue("q");
    assert_eq!((seen(queue.pull_front()), seen(queue.peek_back())), (None, None));
    assert!(queue.is_empty().unwrap());
    for item in [&b"a"[..], b"b", b"c"] {
        push(&queue, item);
    }
    assert_eq!(number(queue.push_front(b"z", &Put::default()).unwrap()), START - 1);
    assert_eq!(queue.len().unwrap(), 4);
    assert_eq!(seen(queue.peek_front()), is(START - 1, "z"));
    assert_eq!(seen(queue.peek_back()), is(START + 2, "c"));
    assert_eq!(seen(queue.pull_front()), is(START - 1, "z"));
    assert_eq!(seen(queue.pull_back()), is(START + 2, "c"));
    assert_eq!(seen(queue.pull_front()), is(START, "a"));
    drop(disk);
    let disk = builder(&dir).open().unwrap();
    let queue = disk.queue("q");
    assert_eq!(seen(queue.peek_back()), is(START + 1, "b"));
    assert_eq!(push(&queue, b"d"), START + 2);
    disk.close().unwrap();
    drop(disk);
    let disk = builder(&dir).distrust().open().unwrap();
    let queue = disk.queue("q");
    assert_eq!(seen(queue.pull_front()), is(START + 1, "b"));
    assert_eq!(seen(queue.pull_front()), is(START + 2, "d"));
    assert_eq!((seen(queue.pull_front()), queue.len().unwrap()), (None, 0));
    // Nothing is left of an empty queue, and it begins as at first.
    assert!(disk.is_empty());
    assert_eq!(push(&queue, b"e"), START);
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn queues_have_nothing_in_common_with_each_other_and_with_keys() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let names = [&b""[..], b"a", b"ab", b"a\x01", b"a\0"];
    for (name, round) in names.iter().flat_map(|name| (0..3).map(move |round| (name, round))) {
        push(&disk.queue(name), format!("{name:?} {round}").as_bytes());
        let _ = disk.namespace(name).put(b"\0", b"other", &Put::default()).unwrap();
        let _ = disk.put(name, b"plain", &Put::default()).unwrap();
    }
    assert_eq!(disk.iter().count(), names.len());
    for name in names {
        disk.invalidate_namespace(name).unwrap();
        for round in 0..3 {
            let expected = format!("{name:?} {round}");
            assert_eq!(seen(disk.queue(name).pull_front()), is(START + round, &expected));
        }
        assert_eq!(seen(disk.queue(name).pull_front()), None);
    }
    assert_eq!(disk.iter().count(), names.len());
    let name = [7; 1_025];
    let refused = disk.queue(name).push_back(b"item", &Put::default());
    assert!(matches!(refused, Err(Error::KeyTooLong { len: 1_025, max: 1_024 })), "{refused:?}");
    assert!(matches!(disk.queue(name).peek_front(), Err(Error::KeyTooLong { .. })));
    push(&disk.queue(&name[..1_024]), b"item");
}

#[test]
fn what_has_expired_is_passed_over_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = builder(&dir).clock(clock.clone()).open().unwrap();
    let queue = disk.queue("q");
    for _ in 0..3 {
        let _ = queue.push_back(b"short", &after(10)).unwrap();
    }
    assert_eq!(push(&queue, b"stays"), START + 3);
    for _ in 0..100 {
        let _ = queue.push_back(b"short", &after(10)).unwrap();
    }
    clock.advance(9);
    assert_eq!(seen(queue.peek_front()), is(START, "short"));
    clock.advance(1);
    assert_eq!(queue.len().unwrap(), 104);
    assert_eq!(seen(queue.peek_front()), is(START + 3, "stays"));
    assert_eq!(queue.len().unwrap(), 101);
    assert_eq!(seen(queue.pull_back()), is(START + 3, "stays"));
    assert_eq!(queue.len().unwrap(), 0);
    assert!(disk.is_empty());
    let _ = queue.push_back(b"short", &after(10)).unwrap();
    clock.advance(10);
    assert_eq!(seen(queue.pull_front()), None);
    assert!(disk.is_empty());
    // What is tagged goes with its tag.
    let _ = queue.push_back(b"tagged", &Put { tags: &[b"t"], ..Put::default() }).unwrap();
    push(&queue, b"other");
    disk.invalidate_tag(b"t").unwrap();
    assert_eq!(seen(queue.pull_front()), is(START + 1, "other"));
}

#[test]
fn what_was_evicted_is_passed_over_and_the_rest_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::builder(dir.path().join("store"))
        .budget(1 << 20)
        .segment_len(64 << 10)
        .open()
        .unwrap();
    let queue = disk.queue("q");
    for i in 0..1_000_u64 {
        let mut item = vec![7; 4_000];
        item[..8].copy_from_slice(&i.to_le_bytes());
        push(&queue, &item);
    }
    assert_eq!(queue.len().unwrap(), 1_000);
    let mut pulled = Vec::new();
    while let Some((number, item)) = queue.pull_front().unwrap() {
        let i = u64::from_le_bytes(item[..8].try_into().unwrap());
        assert_eq!(number, START + i);
        pulled.push(i);
    }
    assert!(pulled.is_sorted_by(|a, b| a < b));
    assert!((20..500).contains(&pulled.len()), "{} items", pulled.len());
    assert_eq!(pulled.last(), Some(&999), "the newest was there");
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn an_item_that_is_refused_leaves_the_queue_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let queue = disk.queue("q");
    push(&queue, b"a");
    let refused = queue.push_back(&vec![0; 64 << 20], &Put::default()).unwrap();
    assert!(matches!(refused, Pushed::Rejected(Rejection::TooLarge { .. })), "{refused:?}");
    let tags = [&b"t"[..]; 16];
    let refused = queue.push_back(b"b", &Put { tags: &tags, ..Put::default() });
    assert!(matches!(refused, Err(Error::TooManyTags { .. })));
    assert_eq!((queue.len().unwrap(), seen(queue.peek_back())), (1, is(START, "a")));
    // A large one has a file of its own, and is not lost with the removal.
    let large: Vec<u8> = (0..2 << 20).map(|i: u32| i.to_le_bytes()[0]).collect();
    push(&queue, &large);
    assert_eq!(*queue.pull_back().unwrap().unwrap().1, *large);
    disk.close().unwrap();
    assert!(matches!(queue.push_back(b"c", &Put::default()), Err(Error::Closed)));
    assert!(matches!(queue.pull_front(), Err(Error::Closed)));
}

#[test]
fn each_item_is_pulled_once_and_those_of_a_pusher_in_order() {
    const PUSHERS: u64 = 4;
    const EACH: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let left = AtomicU64::new(PUSHERS * EACH);
    let pulled: Vec<Vec<(u64, u64)>> = thread::scope(|scope| {
        for id in 0..PUSHERS {
            let disk = &disk;
            scope.spawn(move || {
                for i in 0..EACH {
                    push(&disk.queue("q"), &[id.to_le_bytes(), i.to_le_bytes()].concat());
                }
            });
        }
        let pullers: Vec<_> = (0..4)
            .map(|_| {
                let (disk, left) = (&disk, &left);
                scope.spawn(move || {
                    let (queue, mut mine) = (disk.queue("q"), Vec::new());
                    while left.load(Ordering::Relaxed) > 0 {
                        let Some((_, item)) = queue.pull_front().unwrap() else {
                            thread::yield_now();
                            continue;
                        };
                        left.fetch_sub(1, Ordering::Relaxed);
                        let word =
                            |at: usize| u64::from_le_bytes(item[at..at + 8].try_into().unwrap());
                        mine.push((word(0), word(8)));
                    }
                    mine
                })
            })
            .collect();
        pullers.into_iter().map(|puller| puller.join().unwrap()).collect()
    });
    for mine in &pulled {
        for id in 0..PUSHERS {
            let of_one = mine.iter().filter(|(pusher, _)| *pusher == id);
            assert!(of_one.is_sorted_by(|a, b| a.1 < b.1), "of pusher {id}");
        }
    }
    let mut all = pulled.concat();
    all.sort_unstable();
    assert!(all.iter().copied().eq((0..PUSHERS).flat_map(|id| (0..EACH).map(move |i| (id, i)))));
    assert!(disk.is_empty());
}

/// What is done to a queue.
#[derive(Debug, Clone, Copy)]
enum Op {
    Push { front: bool, ttl_ms: Option<u64>, len: usize },
    Pull { front: bool },
    Peek { front: bool },
    Wait(u64),
    Reopen { distrust: bool, close: bool },
}

fn any_op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![12 => 0..300_usize, 1 => 8_000..20_000_usize];
    prop_oneof![
        10 => (any::<bool>(), prop::option::weighted(0.3, 0..40_u64), len)
            .prop_map(|(front, ttl_ms, len)| Op::Push { front, ttl_ms, len }),
        8 => any::<bool>().prop_map(|front| Op::Pull { front }),
        4 => any::<bool>().prop_map(|front| Op::Peek { front }),
        3 => (0..30_u64).prop_map(Op::Wait),
        1 => any::<(bool, bool)>().prop_map(|(distrust, close)| Op::Reopen { distrust, close }),
    ]
}

/// An item of the model.
#[derive(Debug, Clone)]
struct Item {
    number: u64,
    deadline: u64,
    bytes: Vec<u8>,
}

fn agrees_with_a_deque(ops: &[Op]) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let mut now = 1_000_000;
    let open = |distrust| {
        let builder = Disk::builder(dir.path().join("store")).budget(8 << 20).segment_len(64 << 10);
        let builder = builder.writers(1).clock(clock.clone());
        if distrust { builder.distrust() } else { builder }.open().unwrap()
    };
    let mut disk = open(false);
    let mut model: VecDeque<Item> = VecDeque::new();
    for (step, op) in ops.iter().enumerate() {
        let queue = disk.queue("model");
        match *op {
            Op::Push { front, ttl_ms, len } => {
                let mut bytes = vec![u8::try_from(step % 256).unwrap(); len];
                bytes.extend_from_slice(&(step as u64).to_le_bytes());
                let put = ttl_ms.map_or(Put::default(), after);
                let deadline = ttl_ms.map_or(u64::MAX, |ms| now + ms);
                let (pushed, number) = if front {
                    let number = model.front().map_or(START, |item| item.number) - 1;
                    (queue.push_front(&bytes, &put), number)
                } else {
                    let number = model.back().map_or(START, |item| item.number + 1);
                    (queue.push_back(&bytes, &put), number)
                };
                assert_eq!(pushed.unwrap(), Pushed::At(number));
                let item = Item { number, deadline, bytes };
                if front { model.push_front(item) } else { model.push_back(item) }
            }
            Op::Pull { front } | Op::Peek { front } => {
                let end = |model: &mut VecDeque<Item>| {
                    if front { model.pop_front() } else { model.pop_back() }
                };
                let mut item = end(&mut model);
                while item.as_ref().is_some_and(|item| now >= item.deadline) {
                    item = end(&mut model);
                }
                let found = match (op, front) {
                    (Op::Pull { .. }, true) => queue.pull_front(),
                    (Op::Pull { .. }, false) => queue.pull_back(),
                    (_, true) => queue.peek_front(),
                    (_, false) => queue.peek_back(),
                };
                let found = found.unwrap().map(|(number, value)| (number, value.to_vec()));
                let expected = item.as_ref().map(|item| (item.number, item.bytes.clone()));
                assert_eq!(found, expected, "step {step}, {op:?}");
                if let (Op::Peek { .. }, Some(item)) = (op, item) {
                    if front { model.push_front(item) } else { model.push_back(item) }
                }
            }
            Op::Wait(ms) => {
                clock.advance(ms);
                now += ms;
            }
            Op::Reopen { distrust, close } => {
                if close {
                    disk.close().unwrap();
                }
                drop(disk);
                disk = open(distrust);
            }
        }
        assert_eq!(disk.queue("model").len().unwrap(), model.len() as u64, "step {step}, {op:?}");
    }
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn any_sequence_is_what_a_deque_does() {
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[17; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let ops = prop::collection::vec(any_op(), 1..120);
    runner
        .run(&ops, |ops| {
            agrees_with_a_deque(&ops);
            Ok(())
        })
        .unwrap();
}
