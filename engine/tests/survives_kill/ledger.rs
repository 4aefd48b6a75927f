//! What may be in a store after a kill, and what may not.
//!
//! For each key there is what the last operation that returned left behind. The one that was
//! under way when the process died may have happened or not; so may a clear that was under
//! way, or that overlapped. A put that was under way and did not show may still show later,
//! when an index is built anew, until the key is written again: its caller was never told.
//! Where every death costs the index, as in the buffered mode, the last value of a key that was
//! evicted may come back when it is built anew, until the key is written or cleared.
//! Nothing else is allowed: what is older is a lost write, or a dead one that came back.

use std::collections::BTreeMap;

use crate::stores;
use crate::work::{Job, Key, Note, Number, Op, script};

/// What there is under a key.
pub(crate) type Present = Option<Put>;

/// A value that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) number: Number,
    pub(crate) deadline_ms: u64,
    /// Under which of the thread's tags.
    pub(crate) tag: Option<u8>,
    /// As the engine said; `None` if it died before it could.
    pub(crate) version: Option<u64>,
}

/// What was found under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) number: Number,
    pub(crate) version: u64,
}

/// What is known of the keys of a directory.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: BTreeMap<Key, Fact>,
    clears: Vec<Span>,
    clear_under_way: bool,
    /// What was under way that changes several keys, and what they had and would have.
    joint: Vec<Vec<(Key, Present, Present)>>,
}

/// What the last operation that returned left under a key, and what was under way.
#[derive(Debug, Clone, Copy)]
struct Fact {
    left: Present,
    when: Span,
    under_way: Option<Present>,
    /// What it last had, if that was gone though nothing that has returned took it away.
    evicted: Option<Put>,
    /// Highest version that the key was ever seen or said to have.
    version: u64,
}

/// From before the call to after the return.
#[derive(Debug, Clone, Copy)]
struct Span {
    called: u64,
    returned: u64,
}

impl Ledger {
    /// Takes down a life: what each thread noted, and what it was about to do.
    pub(crate) fn live(&mut self, job: &Job, notes: &[Vec<Note>]) -> Result<(), String> {
        for (thread, notes) in (job.first..).zip(notes) {
            let mut ops = script(job, thread);
            for &note in notes {
                ops.next().map_or(Ok(()), |op| self.returned(job, op, note))?;
            }
            if let Some(op) = ops.next() {
                self.under_way(job, op);
            }
        }
        Ok(())
    }

    fn returned(&mut self, job: &Job, op: Op, note: Note) -> Result<(), String> {
        let when = Span { called: note.called, returned: note.returned };
        match op {
            Op::Put { key, number, ttl_ms, tag } => {
                let before = self.known.get(&key).map_or(0, |fact| fact.version);
                let version = note.version;
                if version <= before {
                    return Err(format!("{key:?} got version {version}, had {before} before"));
                }
                let deadline_ms = deadline_ms(job, ttl_ms);
                let put = Put { number, deadline_ms, tag, version: Some(version) };
                self.known.insert(key, Fact { left: Some(put), when, version, ..Fact::NEVER });
            }
            Op::Remove(key) => self.left(key, None, when),
            Op::Batch { keys: [first, second, third], numbers: [one, other] } => {
                self.left(first, Some(Put::plain(one)), when);
                self.left(second, None, when);
                self.left(third, Some(Put::plain(other)), when);
            }
            Op::Invalidate { thread, tag } => {
                let under = |put: &Put| put.tag == Some(tag);
                for (_, fact) in self.known.iter_mut().filter(|(key, _)| key.thread == thread) {
                    if fact.left.as_ref().is_some_and(under) {
                        (fact.left, fact.when) = (None, when);
                    }
                    fact.evicted.take_if(|put| under(put));
                }
            }
            Op::Add { key, by } => {
                let (sum, expected) = (note.version.cast_signed(), self.sum(key) + by);
                if sum != expected {
                    return Err(format!(
                        "{key:?} became {sum}, and not {expected}, by adding {by}"
                    ));
                }
                self.left(key, Some(Put::plain(Number::of_sum(sum))), when);
            }
            Op::Clear => self.clears.push(when),
            Op::Get(_) | Op::Sync => {}
        }
        Ok(())
    }

    /// Notes what an operation that returned left under a key, without saying its version.
    fn left(&mut self, key: Key, left: Present, when: Span) {
        let version = self.known.get(&key).map_or(0, |fact| fact.version);
        self.known.insert(key, Fact { left, when, version, ..Fact::NEVER });
    }

    fn sum(&self, key: Key) -> i64 {
        let left = self.known.get(&key).and_then(|fact| fact.left);
        left.map_or(0, |put| put.number.sum())
    }

    /// Notes what is under way that changes several keys.
    fn under_way_together(&mut self, changes: Vec<(Key, Present)>) {
        let mut joint = Vec::new();
        for (key, after) in changes {
            let fact = self.known.entry(key).or_insert(Fact::NEVER);
            joint.push((key, fact.left, after));
            fact.under_way = Some(after);
        }
        self.joint.push(joint);
    }

    fn under_way(&mut self, job: &Job, op: Op) {
        let (key, happens) = match op {
            Op::Put { key, number, ttl_ms, tag } => {
                let deadline_ms = deadline_ms(job, ttl_ms);
                (key, Some(Put { number, deadline_ms, tag, version: None }))
            }
            Op::Batch { keys: [first, second, third], numbers: [one, other] } => {
                let put = |number| Some(Put::plain(number));
                let changes = vec![(first, put(one)), (second, None), (third, put(other))];
                return self.under_way_together(changes);
            }
            Op::Invalidate { thread, tag } => {
                let under = |fact: &Fact| fact.left.is_some_and(|put| put.tag == Some(tag));
                let reached =
                    self.known.iter().filter(|(key, fact)| key.thread == thread && under(fact));
                return self.under_way_together(reached.map(|(key, _)| (*key, None)).collect());
            }
            Op::Add { key, by } => (key, Some(Put::plain(Number::of_sum(self.sum(key) + by)))),
            Op::Remove(key) => (key, None),
            Op::Clear => {
                self.clear_under_way = true;
                return;
            }
            Op::Get(_) | Op::Sync => return,
        };
        self.known.entry(key).or_insert(Fact::NEVER).under_way = Some(happens);
    }

    /// All keys that were ever used.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.known.keys().copied().collect()
    }

    /// Compares what was found under a key with what may be there, and learns from it: what
    /// is there now has to stay, and what is gone has to stay away. Whether it is gone though
    /// nothing that has returned took it away.
    pub(crate) fn found(
        &mut self,
        job: &Job,
        key: Key,
        found: Option<Found>,
    ) -> Result<bool, String> {
        let fact = self.known.get(&key).copied().unwrap_or(Fact::NEVER);
        let allowed = self.allowed(job, &fact);
        let fits = |present: &&Present| match (present, found) {
            (None, None) => true,
            (Some(put), Some(found)) => {
                put.number == found.number
                    && put.version.map_or(found.version > fact.version, |v| v == found.version)
            }
            _ => false,
        };
        let Some(left) = allowed.iter().find(fits) else {
            return Err(format!("{key:?} has {found:?}; allowed: {allowed:?}; last: {fact:?}"));
        };
        let version = fact.version.max(found.map_or(0, |found| found.version));
        let left = left.map(|put| Put { version: found.map(|found| found.version), ..put });
        let evicted = if found.is_some() { None } else { allowed[0].or(fact.evicted) };
        self.known.insert(key, Fact { left, evicted, version, ..Fact::NEVER });
        Ok(allowed[0].is_some() && found.is_none())
    }

    /// Compares what was found under all keys with what was under way that changes several of them:
    /// it happened to all or to none. Where a key may be gone for another reason, that it is there
    /// still tells.
    pub(crate) fn check_joint(
        &self,
        job: &Job,
        found: &BTreeMap<Key, Found>,
    ) -> Result<(), String> {
        let is_certain = job.roomy && self.clears.is_empty() && !self.clear_under_way;
        for joint in &self.joint {
            let mut told: [Option<Key>; 2] = [None; 2];
            for (key, before, after) in joint {
                let live = |put: &Present| put.filter(|put| put.deadline_ms > job.now_ms());
                let [before, after] =
                    [live(before), live(after)].map(|put| put.map(|put| put.number));
                let found = found.get(key).map(|found| found.number);
                if before != after && (found.is_some() || is_certain) {
                    told[usize::from(found == after)] = Some(*key);
                }
            }
            if let [Some(not), Some(did)] = told {
                return Err(format!(
                    "what was under way reached {did:?}, and not {not:?}: {joint:?}"
                ));
            }
        }
        Ok(())
    }

    /// All keys were looked at: what there is now is what there has to be.
    pub(crate) fn settle(&mut self) {
        self.clears.clear();
        self.joint.clear();
        self.clear_under_way = false;
    }

    /// Everything that may be there now.
    fn allowed(&self, job: &Job, fact: &Fact) -> Vec<Present> {
        let mut left = fact.left;
        let mut evicted = fact.evicted.filter(|_| job.store != stores::DISK);
        if self.clears.iter().any(|clear| clear.called > fact.when.returned) {
            (left, evicted) = (None, None);
        }
        let mut allowed = vec![left];
        let overlaps = self.clears.iter().any(|clear| clear.returned > fact.when.called);
        if overlaps || self.clear_under_way || !job.roomy {
            allowed.push(None);
        }
        allowed.extend(fact.under_way);
        allowed.extend(evicted.map(Some));
        for present in &mut allowed {
            present.take_if(|put| put.deadline_ms <= job.now_ms());
        }
        allowed
    }
}

impl Put {
    /// Without tag or deadline.
    const fn plain(number: Number) -> Self {
        Self { number, deadline_ms: u64::MAX, tag: None, version: None }
    }
}

impl Fact {
    const NEVER: Self =
        Self { left: None, when: Span::BEFORE, under_way: None, evicted: None, version: 0 };
}

impl Span {
    /// An earlier life.
    const BEFORE: Self = Self { called: 0, returned: 0 };
}

fn deadline_ms(job: &Job, ttl_ms: Option<u64>) -> u64 {
    ttl_ms.map_or(u64::MAX, |ttl_ms| job.now_ms() + ttl_ms)
}
