//! The usual put: a small value under a plain key, without expiry, tags, packing or a file of its
//! own, that nobody waits for, in a store that nobody observes and that takes everything.
//!
//! It does what `ops.rs` and `change.rs` do for any put, in their order and by their invariants,
//! with all that is decided by options decided once, at the opening. Whatever is not as usual is
//! left to them: before anything was written by beginning anew there, and afterwards by going on
//! in the same lane.

use larder_format::{CodecId, Flags, Kind, RecordHeader, Slot, SlotState};

use super::builder::Options;
use super::change::{Change, Content, Decision, Draft, Stray};
use super::compress::Packer;
use super::counters::Count;
use super::lanes::Held;
use super::lookup::{Glance, glance_at};
use super::segment::Segment;
use super::shortage::Patience;
use super::space::is_plain;
use super::store::Store;
use super::timing::Timed;
use super::writer::room_for;
use crate::clock::NEVER;
use crate::engine::{Durability, Outcome, Put, Ttl, WhenShort};
use crate::error::Result;

/// Most bytes of key and value of a usual put.
const USUAL_MAX: usize = 4 << 10;

/// Fewer bytes than this of key and value make a usual put; 0 if no put of the store is one.
pub(super) fn usual_below(options: &Options, packer: &Packer, external_min: usize) -> usize {
    let is_watched = !options.observers.is_empty() || options.read_only;
    let is_choosy = options.admission != super::Admission::default();
    if is_watched || is_choosy {
        return 0;
    }
    let most = external_min.min(USUAL_MAX);
    (0..most).rev().find(|len| !packer.tries(*len)).map_or(0, |len| len + 1)
}

/// Where the slot of a usual put goes, and what stands there.
#[derive(Clone, Copy)]
enum Place<'g> {
    /// Over the one that may be the key's own, which leads to this segment.
    Own(usize, Slot, &'g Segment),
    /// The key has none.
    Free((usize, Slot)),
}

impl Store {
    /// Whether a put is a usual one.
    #[inline]
    pub(super) fn is_usual(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> bool {
        let lasts = match options.ttl {
            Ttl::Never => true,
            Ttl::Default => self.ttl.is_none(),
            Ttl::After(_) | Ttl::At(_) => false,
        };
        key.len().saturating_add(value.len()) < self.usual_below
            && lasts
            && options.tags.is_empty()
            && options.durability == Durability::None
            && self.when_short(options.when_short) == WhenShort::Help
            && is_plain(key)
    }

    /// Puts a value that [is usual](Self::is_usual); `None` if something is not as usual, and
    /// nothing was done.
    #[inline]
    pub(super) fn put_usual(
        &self,
        key: &[u8],
        value: &[u8],
        codec: CodecId,
    ) -> Result<Option<Outcome>> {
        let started = self.upkeep.timings.start();
        let hash = self.hasher.hash(key);
        self.index.ask_ahead(hash);
        let guard = crossbeam_epoch::pin();
        let Some(slots) = self.index.settled(hash, &guard) else { return Ok(None) };
        let candidates = slots.candidates(hash);
        let now_ms = self.clock.about_now_ms();
        let Some(mut lane) = self.lanes.try_own() else { return Ok(None) };
        // Under the lane's lock: a store that is closed is not written to (`durable.rs`).
        self.check_open()?;
        let Some(writer) = lane.writer.as_mut() else { return Ok(None) };
        let room = room_for(key.len(), value.len());
        if !self.has_room(writer, room, now_ms) || writer.segment().tally.is_reserved() {
            return Ok(None);
        }
        // All that can be done without the bucket is done before it is looked at, and then, without
        // the old record, before that is: both have to be waited for.
        let Some(extent) = writer.place_plain(key, value) else { return Ok(None) };
        let place = match glance_at(&candidates, hash) {
            Glance::Nothing => slots.free_place(&candidates).map(Place::Free),
            Glance::One(at, slot) if slot.state() == SlotState::Value => {
                let segment = self.segment_at(slot.segment(), &guard);
                segment.map(|segment| {
                    segment.region().prefetch::<1>(slot.offset());
                    Place::Own(at, slot, segment)
                })
            }
            Glance::One(..) | Glance::Unclear => None,
        };
        let Some(place) = place else { return Ok(None) };
        // A number above that of whatever the slot leads to, as that was drawn before the slot was
        // there to be seen.
        let (seq, in_flight) = lane.enter(self.file.next_seq());
        if !self.passes_gate() {
            return Ok(None);
        }
        let Some(writer) = lane.writer.as_mut() else { return Ok(None) };
        let (key_len, value_len) = (u16::try_from(key.len()), u32::try_from(value.len()));
        let (Ok(key_len), Ok(value_len)) = (key_len, value_len) else { return Ok(None) };
        let header =
            RecordHeader { codec, ..RecordHeader::new(Kind::Value, seq, key_len, value_len) };
        let flags = || match place {
            Place::Own(_, slot, old) => old.plain(slot.offset(), key).map(|_| Flags::REPLACED),
            Place::Free(_) => Some(Flags::NONE),
        };
        let appended = writer.append_plain(header, hash, &extent, now_ms, flags);
        let Some((offset, taken)) = appended else { return Ok(None) };
        let segment = writer.segment();
        segment.tally.note_lasting();
        let slot = Slot::new(hash, segment.id(), offset, SlotState::Value);
        let changing = self.begin_change(hash);
        let published = match place {
            Place::Own(at, old, _) => slots.replace(at, old, slot),
            Place::Free(free) => {
                let judge = |slot| self.judge(slot, key, &guard);
                slots.insert(&candidates, hash, slot, seq, free, judge)
            }
        };
        drop(changing);
        drop(in_flight);
        let version = match published {
            Ok(published) => {
                self.note_changed(&lane, &published, slots, &guard);
                drop(lane);
                seq
            }
            Err(_) => {
                drop(guard);
                self.put_after(lane, (hash, key, value), codec, (seq, now_ms))?
            }
        };
        self.upkeep.timings.end(Timed::Put, started);
        let weight = (key.len() + value.len()) as u64;
        self.counters.add_all([
            (Count::Inserts, 1),
            (Count::PutBytes, weight),
            (Count::WrittenBytes, taken as u64),
        ]);
        Ok(Some(Outcome::Admitted { version }))
    }

    /// Puts a value for which a record was appended that could not be published, as the key has
    /// changed meanwhile. Returns the sequence number of the one that could.
    #[cold]
    fn put_after(
        &self,
        mut lane: Held<'_>,
        (hash, key, value): (u64, &[u8], &[u8]),
        codec: CodecId,
        (lost, now_ms): (u64, u64),
    ) -> Result<u64> {
        let fate = (Kind::Value, NEVER);
        let (patience, durable) = (Patience::Help, false);
        let change =
            Change { hash, key, head: &[], value, tags: &[], fate, now_ms, patience, durable };
        let (content, flags) = (Content::Given, Flags::NONE);
        let draft = Draft { content, flags, codec, expires_at_ms: NEVER };
        let mut stray = Stray::of(lost);
        let changed = self
            .update_in(&mut lane, &change, None, &mut stray, |_, _| Ok(Decision::Write(draft, ())));
        self.end_stray(&mut lane, &change, stray, changed.is_err())?;
        let ((), written) = changed?;
        Ok(written.map_or(0, |written| written.seq))
    }
}
