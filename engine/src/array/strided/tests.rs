//! Packing against a loop over all elements, one by one.

#![expect(clippy::cast_possible_truncation, reason = "a test")]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// An array that lies in `data` somehow.
#[derive(Debug, Clone)]
struct Case {
    descriptor: ArrayDescriptor,
    data: Vec<u8>,
    start: usize,
    strides: Vec<isize>,
    swapped: bool,
}

impl Case {
    fn strided(&self) -> Strided<'_> {
        let array = Strided::new(self.descriptor, &self.data, self.start, &self.strides).unwrap();
        if self.swapped { array.big_endian() } else { array }
    }

    /// The packed array, by the definition of strides.
    fn expected(&self) -> Vec<u8> {
        let shape = self.descriptor.shape();
        let item_len = self.descriptor.item_len() as usize;
        let unit = if self.swapped { swapped_bytes(self.descriptor.dtype()) } else { 0 };
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        if self.descriptor.order() == Order::C {
            axes.reverse();
        }
        let mut out = Vec::new();
        for number in 0..self.descriptor.len() {
            let (mut rest, mut at) = (number, self.start as isize);
            for axis in &axes {
                at += (rest % shape[*axis]) as isize * self.strides[*axis];
                rest /= shape[*axis];
            }
            let mut element = self.data[at as usize..][..item_len].to_vec();
            if unit != 0 {
                element.chunks_mut(unit).for_each(<[u8]>::reverse);
            }
            out.extend(element);
        }
        out
    }
}

fn dtypes() -> impl Strategy<Value = (DType, u32)> {
    let lens = prop::sample::select(vec![1, 2, 3, 4, 5, 8, 16, 33, 100_u32]);
    (prop::sample::select(DType::ALL.to_vec()), lens)
        .prop_map(|(dtype, len)| (dtype, dtype.item_len().unwrap_or(len)))
}

/// Shapes of small axes, and of two or three that are long enough for tiles.
fn shapes() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        4 => prop::collection::vec(0..8_u64, 0..=5),
        1 => prop::collection::vec(1..150_u64, 2..=2),
        1 => prop::collection::vec(1..40_u64, 3..=3),
    ]
}

prop_compose! {
    fn cases()(
        (dtype, item_len) in dtypes(),
        shape in shapes(),
        fortran: bool,
        swapped: bool,
        densest_first in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle(),
        kinds in prop::collection::vec(0..12_u8, 5),
        before in 0..4_usize,
        seed: u64,
    ) -> Case {
        let order = if fortran { Order::Fortran } else { Order::C };
        let descriptor = ArrayDescriptor::new(dtype, item_len, order, &shape).unwrap();
        let mut strides = vec![0; shape.len()];
        let mut step = item_len as isize;
        for axis in densest_first.into_iter().filter(|axis| *axis < shape.len()) {
            // Of twelve axes one repeats, two have gaps, one overlaps, and two run backwards.
            strides[axis] = match kinds[axis] {
                0 => 0,
                1 | 2 => step + 7,
                3 => 3,
                4 | 5 => -step,
                _ => step,
            };
            step = step.max(strides[axis].abs()) * (shape[axis] as isize).max(1);
        }
        let reach = |stride: &isize, len: &u64| (*len as isize - 1).max(0) * stride;
        let reaches = strides.iter().zip(&shape).map(|(stride, len)| reach(stride, len));
        let start = before + reaches.clone().map(|reach| reach.min(0).unsigned_abs()).sum::<usize>();
        let len = start + reaches.map(|reach| reach.max(0) as usize).sum::<usize>();
        let mut word = seed;
        let data = (0..len + item_len as usize).map(|_| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (word >> 56) as u8
        });
        Case { descriptor, data: data.collect(), start, strides, swapped }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 600 }, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_packed_is_what_the_strides_say(case in cases(), piece in 1..5_000_usize) {
        let array = case.strided();
        let expected = case.expected();
        prop_assert!(array.to_vec() == expected);
        let mut whole = vec![0xAA; expected.len()];
        array.pack_into(&mut whole).unwrap();
        prop_assert!(whole == expected);
        if let Some(packed) = array.as_packed() {
            prop_assert!(packed == expected);
        }
        let mut pieces = Vec::new();
        array.write_to(&mut pieces).unwrap();
        prop_assert!(pieces == expected);
        // Pieces that begin and end anywhere.
        pieces.clear();
        let longest = piece.max(case.descriptor.item_len() as usize);
        let done: Result<(), ()> = array.in_pieces_of(piece, |bytes| {
            assert!(bytes.len() <= longest);
            pieces.extend_from_slice(bytes);
            Ok(())
        });
        prop_assert!(done.is_ok() && pieces == expected);
    }

    /// One byte less at either end, and the array does not fit.
    #[test]
    fn no_element_lies_outside(case in cases()) {
        prop_assume!(!case.descriptor.is_empty());
        let Case { descriptor, data, start, strides, .. } = &case;
        let refused = Strided::new(*descriptor, &data[..data.len() - 1], *start, strides);
        let outside = matches!(refused, Err(ArrayError::Outside { .. }));
        prop_assert!(outside);
        let lowest: isize = strides.iter().zip(descriptor.shape())
            .map(|(stride, len)| ((*len as isize - 1) * stride).min(0)).sum();
        let first = start.checked_add_signed(lowest).unwrap();
        if let Some(before) = start.checked_sub(first + 1) {
            let refused = Strided::new(*descriptor, data, before, strides);
            let outside = matches!(refused, Err(ArrayError::Outside { from: -1, .. }));
            prop_assert!(outside);
        }
    }
}

#[test]
fn strides_that_overflow_are_outside() {
    let array = ArrayDescriptor::new(DType::U8, 1, Order::C, &[1 << 40, 2]).unwrap();
    for strides in [[isize::MAX, isize::MAX], [isize::MIN, isize::MIN], [isize::MAX, isize::MIN]] {
        let refused = Strided::new(array, &[0; 64], 7, &strides);
        assert!(matches!(refused, Err(ArrayError::Outside { .. })), "{refused:?}");
    }
    let refused = Strided::new(array, &[0; 64], usize::MAX, &[0, 0]);
    assert!(matches!(refused, Err(ArrayError::Outside { .. })));
    let refused = Strided::new(array, &[0; 64], 0, &[0]);
    assert!(matches!(refused, Err(ArrayError::Strides { axes: 2, given: 1 })));
    // Of nothing, nothing is outside.
    let none = ArrayDescriptor::new(DType::U8, 1, Order::C, &[0, 1 << 40]).unwrap();
    let none = Strided::new(none, &[], usize::MAX, &[isize::MIN, isize::MAX]).unwrap();
    assert!(none.to_vec().is_empty());
    assert_eq!(none.as_packed(), Some(&[][..]));
}

#[test]
fn orders_are_turned_into_each_other() {
    let shape = [70, 3, 90];
    let [c, fortran] = [Order::C, Order::Fortran]
        .map(|order| ArrayDescriptor::new(DType::I32, 4, order, &shape).unwrap());
    let data: Vec<u8> = (0..c.len() as u32).flat_map(u32::to_le_bytes).collect();
    let turned = Strided::packed(fortran, Order::C, &data).unwrap().to_vec();
    assert_ne!(turned, data);
    assert_eq!(Strided::packed(c, Order::Fortran, &turned).unwrap().to_vec(), data);
    // Element (i, j, k) of one is that of the other.
    let at = |strides: &[u64], place: [u64; 3]| {
        usize::try_from(strides.iter().zip(place).map(|(stride, at)| stride * at).sum::<u64>())
            .unwrap()
    };
    for place in [[0, 0, 0], [69, 2, 89], [13, 1, 64]] {
        let (from, to) = (at(&c.strides_bytes(), place), at(&fortran.strides_bytes(), place));
        assert_eq!(data[from..from + 4], turned[to..to + 4]);
    }
    let refused = Strided::packed(c, Order::C, &data[1..]);
    assert!(matches!(refused, Err(ArrayError::Length { .. })));
}

#[test]
fn what_lies_packed_is_handed_over_as_it_is() {
    let array = ArrayDescriptor::new(DType::F64, 8, Order::C, &[4, 1, 5]).unwrap();
    let data: Vec<u8> = (0..161).collect();
    // The stride of an axis of one element says nothing.
    let packed = Strided::new(array, &data, 1, &[40, -3, 8]).unwrap();
    assert!(std::ptr::eq(packed.as_packed().unwrap(), &raw const data[1..]));
    let mut pieces = Vec::new();
    let done: Result<(), ()> = packed.for_each_piece(|piece| {
        pieces.push(piece.as_ptr());
        Ok(())
    });
    assert_eq!((done, pieces), (Ok(()), vec![data[1..].as_ptr()]));
    assert_eq!(packed.big_endian().as_packed(), None);
    let stopped = packed.big_endian().for_each_piece(|_| Err("stop"));
    assert_eq!(stopped, Err("stop"));
    assert!(matches!(packed.pack_into(&mut [0; 159]), Err(ArrayError::Length { .. })));
}

#[test]
fn each_half_of_a_complex_number_is_turned_around() {
    let turned = |dtype: DType, len: u8| {
        let array = ArrayDescriptor::new(dtype, len.into(), Order::C, &[1]).unwrap();
        let data: Vec<u8> = (0..len).collect();
        Strided::new(array, &data, 0, &[0]).unwrap().big_endian().to_vec()
    };
    assert_eq!(turned(DType::Complex64, 8), [3, 2, 1, 0, 7, 6, 5, 4]);
    assert_eq!(turned(DType::Bf16, 2), [1, 0]);
    assert_eq!(turned(DType::Bytes, 4), [0, 1, 2, 3]);
    assert_eq!(turned(DType::Bool, 1), [0]);
}
