//! Models of how entries of the memory tier die without being removed: by a mark that becomes
//! invalid, and for want of uses.

use std::sync::Arc;

use loom::thread;

use super::Model;
use super::rig::Plain;
use crate::clock::NEVER;
use crate::memory::extra::{Dead, Extra};
use crate::memory::marks::{Mark, TagCell};
use crate::sync::{AtomicU64, Ordering};

/// An entry that dies with a cell.
fn marked(cell: &Arc<TagCell>) -> Extra {
    Extra::new(1, NEVER).with_marks(Some(Box::new([Mark::new(Arc::clone(cell))])))
}

fn is_live(extra: &Extra, now_ms: u64) -> bool {
    extra.look(|| now_ms, false).is_ok()
}

/// A cell is invalidated while its entry is looked up: once it is missed, it is missed for good,
/// and who misses it sees what was done before.
pub(super) const INVALIDATE_AND_LOOKUP: Model = Model::new(3, || {
    let cell = Arc::<TagCell>::default();
    let (extra, source) = (Arc::new(marked(&cell)), Arc::new(Plain::new()));
    extra.settle_marks();
    let other = {
        let source = Arc::clone(&source);
        thread::spawn(move || {
            source.write();
            cell.invalidate();
        })
    };
    let (first, second) = (is_live(&extra, 0), is_live(&extra, 0));
    assert!(first >= second, "an invalidated entry came back");
    if !second {
        source.read();
    }
    other.join().unwrap();
    assert!(!is_live(&extra, 0));
});

/// What a key has: an old value without a mark, then a new one with it. The new one is reached by a
/// word, as in the tier's buckets.
struct Key {
    extra: Extra,
    is_linked: AtomicU64,
}

impl Key {
    /// 1 for the old value, 2 for the new one, 0 for none.
    fn lookup(&self) -> u32 {
        // As in `buckets.rs`.
        if self.is_linked.load(Ordering::Acquire) == 0 {
            return 1;
        }
        if is_live(&self.extra, 0) { 2 } else { 0 }
    }

    fn insert(&self) {
        self.is_linked.store(1, Ordering::Release);
        self.extra.settle_marks();
    }
}

/// A key gets a value with a mark, while that is invalidated, and looked up: either the
/// invalidation came before, and the value stays, or after, and then it is gone for good. The key
/// is never without a value before that.
pub(super) const INVALIDATE_INSERT_AND_LOOKUP: Model = Model::new(3, || {
    let cell = Arc::<TagCell>::default();
    let key = Arc::new(Key { extra: marked(&cell), is_linked: AtomicU64::new(0) });
    let inserter = {
        let key = Arc::clone(&key);
        thread::spawn(move || key.insert())
    };
    let invalidator = thread::spawn(move || {
        cell.invalidate();
    });
    let seen = [key.lookup(), key.lookup()];
    inserter.join().unwrap();
    invalidator.join().unwrap();
    match (seen, key.lookup()) {
        ([1, 1] | [1, 2] | [2, 2], 2 | 0) | ([1 | 2 | 0, 0], 0) => {}
        other => panic!("{other:?}"),
    }
});

/// An insert that began when the invalidation had returned is not touched by it; one that had
/// returned before the invalidation began does not outlive it.
pub(super) const INVALIDATE_AND_INSERT: Model = Model::new(3, || {
    let cell = Arc::<TagCell>::default();
    let key = Arc::new(Key { extra: marked(&cell), is_linked: AtomicU64::new(0) });
    // Which of the two had returned when the other began.
    let returned = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let invalidator = {
        let (key, [inserted, invalidated]) = (Arc::clone(&key), returned.clone());
        thread::spawn(move || {
            let was_inserted = inserted.load(Ordering::Acquire) == 1;
            cell.invalidate();
            assert!(!was_inserted || key.lookup() == 0);
            invalidated.store(1, Ordering::Release);
        })
    };
    let [inserted, invalidated] = returned;
    let was_invalidated = invalidated.load(Ordering::Acquire) == 1;
    key.insert();
    inserted.store(1, Ordering::Release);
    invalidator.join().unwrap();
    assert!(!was_invalidated || key.lookup() == 2);
});

/// An entry is used at the last moment of its time to idle, while others find that this is over:
/// all agree, and what one has missed nobody finds later.
const USE_AND_EXPIRE: Model = Model::new(3, || {
    let extra = Arc::new(Extra::new(1, NEVER).with_idle(10, 0));
    let user = {
        let extra = Arc::clone(&extra);
        thread::spawn(move || extra.look(|| 9, true).is_ok())
    };
    let other = {
        let extra = Arc::clone(&extra);
        thread::spawn(move || is_live(&extra, 10))
    };
    let (first, second) = (is_live(&extra, 10), is_live(&extra, 10));
    assert_eq!(first, second, "it died, or came back");
    let (used, third) = (user.join().unwrap(), other.join().unwrap());
    assert_eq!((used, third), (first, first));
    assert_eq!(extra.look(|| 18, true).is_ok(), used);
});

/// An entry is used by two threads at once: it lives as long as the later use says.
const USE_AND_USE: Model = Model::new(3, || {
    let extra = Arc::new(Extra::new(1, 21).with_idle(10, 0));
    let other = {
        let extra = Arc::clone(&extra);
        thread::spawn(move || extra.look(|| 9, true))
    };
    assert_eq!(extra.look(|| 5, true), Ok(()));
    assert_eq!(other.join().unwrap(), Ok(()));
    assert_eq!(extra.expires_at_ms(), 19);
    assert_eq!(extra.look(|| 18, true), Ok(()));
    assert_eq!(extra.look(|| 21, true), Err(Dead::Expired));
});

#[test]
fn what_is_invalidated_stays_so() {
    INVALIDATE_AND_LOOKUP.check();
}

#[test]
fn an_invalidation_comes_before_an_insert_or_after_it() {
    INVALIDATE_INSERT_AND_LOOKUP.check();
    INVALIDATE_AND_INSERT.check();
}

#[test]
fn what_was_not_used_in_time_is_dead_for_all() {
    USE_AND_EXPIRE.check();
}

#[test]
fn the_later_use_counts() {
    USE_AND_USE.check();
}
