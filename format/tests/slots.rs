//! Promise: a slot's two buckets and its page in the next generation follow from the slot
//! alone, for every hash, and two choices within a page suffice.
//! Method: properties over random hashes, and a filled index in miniature.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
#![allow(clippy::unwrap_used, reason = "not in a #[test] function, but only for tests")]

mod common;

use larder_format::layout::*;
use larder_format::slot::{buckets, other_bucket};
use larder_format::{Geometry, KeyHasher, Slot, SlotState};
use proptest::prelude::*;

fn states() -> impl Strategy<Value = SlotState> {
    prop_oneof![Just(SlotState::Value), Just(SlotState::Tombstone), Just(SlotState::Pending)]
}

prop_compose! {
    fn geometries()(base in 0..=10_u8, splits in 0..=SPLITS_MAX) -> Geometry {
        Geometry { page_bits: base + splits, base_bits: base }
    }
}

proptest! {
    #![proptest_config(common::cases(1024))]

    #[test]
    fn a_slot_gives_back_what_was_put_in(
        hash: u64, segment: u64, units in 0..1_usize << 22, state in states(), freq: u8,
    ) {
        let slot = Slot::new(hash, segment, units * UNIT, state).with_freq(freq);
        prop_assert_eq!(slot.tag(), hash >> 42);
        prop_assert_eq!(u64::from(slot.segment()), segment & 0xFFFF);
        prop_assert_eq!(slot.offset(), units * UNIT);
        prop_assert_eq!(slot.state(), state);
        let hits = if state == SlotState::Value { freq.min(Slot::FREQ_MAX) } else { 0 };
        prop_assert_eq!(slot.freq(), hits);
        prop_assert!(!slot.is_frozen());
        prop_assert!(slot.same_place(slot.with_freq(0)));
        prop_assert_eq!(Slot::from_bits(slot.to_bits()), slot);
    }

    #[test]
    fn freezing_keeps_all_but_the_hits(hash: u64, segment: u64, units in 0..1_usize << 22, state in states(), freq: u8) {
        let cold = Slot::new(hash, segment, units * UNIT, state);
        let frozen = cold.with_freq(freq).freeze();
        prop_assert!(frozen.is_frozen());
        prop_assert_eq!(frozen.state(), state);
        prop_assert_eq!(frozen.thaw(), cold);
        prop_assert_eq!(frozen.freeze(), frozen);
        prop_assert_eq!(frozen.with_freq(3), frozen);
        prop_assert!(frozen.same_place(cold));
    }

    /// Whatever a word holds, reading it is safe and freezing it keeps its meaning.
    #[test]
    fn any_word_is_a_slot(bits: u64, bucket in 0..PAGE_BUCKETS) {
        let slot = Slot::from_bits(bits);
        let kept = match slot.state() {
            SlotState::Tentative => SlotState::Empty,
            state => state,
        };
        prop_assert_eq!(slot.freeze().state(), kept);
        prop_assert_eq!(slot.freeze().thaw().state(), kept);
        prop_assert_eq!(slot.freeze().freeze(), slot.freeze());
        prop_assert_eq!(slot.with_state(slot.state()).state(), slot.state());
        prop_assert!(slot.freq() <= Slot::FREQ_MAX);
        prop_assert!(slot.offset() < SEGMENT_LEN_MAX as usize);
        prop_assert!(other_bucket(bucket, slot) < PAGE_BUCKETS);
        let text = format!("{:?}", slot);
        prop_assert!(text.contains("offset"));
    }

    #[test]
    fn the_other_bucket_is_another_one_in_the_same_page_and_back(hash: u64, bucket in 0..PAGE_BUCKETS, state in states()) {
        let slot = Slot::new(hash, 1, 4096, state);
        let other = other_bucket(bucket, slot);
        prop_assert!(other < PAGE_BUCKETS && other != bucket);
        prop_assert_eq!(other_bucket(other, slot), bucket);
        let [first, second] = buckets(hash);
        prop_assert!(first < PAGE_BUCKETS);
        prop_assert_eq!(other_bucket(first, slot), second);
        prop_assert_eq!(other_bucket(second, slot.with_freq(3).freeze()), first);
    }

    /// What lets an index double without reading a record.
    #[test]
    fn a_slot_tells_its_page_in_the_next_generation(
        hash: u64, geometry in geometries(), state in states(), segment: u64, units in 0..1_usize << 22,
    ) {
        let page = geometry.page(hash);
        prop_assert!(page < geometry.pages());
        let slot = Slot::new(hash, segment, units * UNIT, state);
        match geometry.doubled() {
            Some(doubled) => {
                prop_assert_eq!(doubled.pages(), 2 * geometry.pages());
                prop_assert_eq!(doubled.page(hash), geometry.split_page(page, slot));
                prop_assert_eq!(doubled.page(hash), geometry.split_page(page, slot.freeze()));
                prop_assert_eq!(doubled.page(hash) % geometry.pages(), page);
            }
            None => prop_assert!(geometry.splits() == SPLITS_MAX || geometry.page_bits == PAGE_BITS_MAX),
        }
    }
}

#[test]
fn an_empty_slot_stays_empty() {
    assert_eq!(Slot::EMPTY.to_bits(), 0);
    assert_eq!(Slot::EMPTY.freeze().state(), SlotState::Empty);
    assert_eq!(Slot::EMPTY.freeze().thaw(), Slot::EMPTY);
    assert_ne!(Slot::EMPTY.freeze(), Slot::EMPTY);
}

#[test]
fn every_path_of_doublings_ends_where_a_lookup_looks() {
    let hasher = KeyHasher::new([3; 16]);
    for number in 0..2000_u64 {
        let hash = hasher.hash(&number.to_le_bytes());
        let mut geometry = Geometry { page_bits: 2, base_bits: 2 };
        let mut page = geometry.page(hash);
        let slot = Slot::new(hash, number, 4096, SlotState::Value);
        while let Some(doubled) = geometry.doubled() {
            page = geometry.split_page(page, slot);
            geometry = doubled;
            assert_eq!(page, geometry.page(hash));
        }
        assert_eq!(geometry.splits(), SPLITS_MAX);
    }
}

/// Puts `load` of what fits into an index of 64 pages and returns the share without a place.
/// `choices` 1 leaves the second bucket out.
fn overflow(load: f64, choices: usize) -> f64 {
    let geometry = Geometry { page_bits: 6, base_bits: 2 };
    let hasher = KeyHasher::new([7; 16]);
    let mut filled = vec![0; geometry.pages() * PAGE_BUCKETS];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let count = (geometry.slots() as f64 * load) as u32;
    let mut homeless = 0;
    for number in 0..count {
        let hash = hasher.hash(&number.to_le_bytes());
        let page = geometry.page(hash) * PAGE_BUCKETS;
        let places = buckets(hash).map(|bucket| page + bucket);
        let bucket = *places[..choices].iter().min_by_key(|place| filled[**place]).unwrap();
        if filled[bucket] < BUCKET_SLOTS {
            filled[bucket] += 1;
        } else {
            homeless += 1;
        }
    }
    f64::from(homeless) / f64::from(count)
}

#[test]
fn two_choices_within_a_page_suffice() {
    let (two, one) = (overflow(0.75, 2), overflow(0.75, 1));
    assert!(two < 0.0005, "{two} overflow with two choices");
    assert!(one > 0.03, "{one} overflow with one choice");
}
