//! Any array of any type comes back as it was, from wherever it was put, and every part of it is
//! that part of it; what cannot be an array is an error.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::OnceLock;

use larder_engine::{
    Alignment, AnyArray, ArrayDescriptor, ArrayError, ArrayRef, Check, CodecId, DType, Disk,
    Engine, Maintenance, Order, Put, Value,
};
use proptest::prelude::*;

/// A store with segments of 64 KiB: arrays of 16 KiB and more have files of their own.
fn disk() -> &'static Disk {
    static DISK: OnceLock<(tempfile::TempDir, Disk)> = OnceLock::new();
    let open = || {
        let dir = tempfile::tempdir().unwrap();
        let builder = Disk::builder(dir.path().join("store")).budget(16 << 20);
        let builder = builder.segment_len(64 << 10).maintenance(Maintenance::Manual);
        (dir, builder.open().unwrap())
    };
    &DISK.get_or_init(open).1
}

fn any_array() -> impl Strategy<Value = (ArrayDescriptor, Vec<u8>)> {
    let axes = prop_oneof![
        4 => prop::collection::vec(0_u64..12, 0..5),
        2 => prop::collection::vec(1_u64..3, 0..13),
        2 => (1_u64..6000).prop_map(|len| vec![len]),
        1 => (0_usize..32).prop_map(|zero| (0..32).map(|axis| u64::from(axis != zero)).collect()),
    ];
    let dtype = prop::sample::select(DType::ALL.to_vec());
    (dtype, 1_u32..40, any::<bool>(), axes, any::<u64>()).prop_map(
        |(dtype, item_len, fortran, shape, seed)| {
            let item_len = dtype.item_len().unwrap_or(item_len);
            let order = if fortran { Order::Fortran } else { Order::C };
            let array = ArrayDescriptor::new(dtype, item_len, order, &shape).unwrap();
            let len = usize::try_from(array.data_len()).unwrap();
            let byte = |state: &mut u64| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                let [.., byte] = state.to_le_bytes();
                Some(if dtype == DType::Bool { byte & 1 } else { byte })
            };
            let data = (0..len).scan(seed, |state, _| byte(state)).collect();
            (array, data)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_array_comes_back(
        (descriptor, data) in any_array(),
        way in 0..4,
        check in prop::sample::select(vec![Check::Always, Check::FirstTouch, Check::Never]),
        part in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let disk = disk();
        let mut array = ArrayRef::described(descriptor, &data).unwrap();
        let put = Put { codec: CodecId::ARRAY, ..Put::default() };
        #[cfg(feature = "zstd")]
        if way == 1 {
            array = array.compressed();
        }
        if way == 2 {
            array = array.aligned_to(Alignment::Page);
        }
        let outcome = if way == 3 {
            let mut bytes = Vec::new();
            AnyArray::copied(&array).unwrap().encode(&mut bytes).unwrap();
            disk.put(b"key", &bytes, &put).unwrap()
        } else {
            disk.put_array(b"key", &array, &put).unwrap()
        };
        prop_assert!(outcome.is_admitted());
        let seen = disk.get_any_array(b"key", check).unwrap().unwrap();
        prop_assert_eq!((seen.dtype(), seen.item_len(), seen.order()),
            (descriptor.dtype(), descriptor.item_len(), descriptor.order()));
        let shape: Vec<u64> = seen.shape().iter().map(|axis| *axis as u64).collect();
        prop_assert_eq!(&*shape, descriptor.shape());
        let bytes = seen.data().unwrap();
        prop_assert_eq!(bytes, &*data);
        if way == 2 && !data.is_empty() {
            prop_assert!(bytes.as_ptr().addr().is_multiple_of(4096));
        }
        let value = disk.get(b"key").unwrap().unwrap();
        let of_value = AnyArray::of_value(&value).unwrap();
        prop_assert_eq!(of_value.data().unwrap(), &*data);

        let again = disk.get_any_array(b"key", check).unwrap().unwrap();
        let rows = seen.shape().first().copied();
        let at = |part: prop::sample::Index| rows.map_or(0, |rows| part.index(rows + 1));
        let (from, to) = (at(part.0).min(at(part.1)), at(part.0).max(at(part.1)));
        match again.rows(from..to) {
            Ok(some) => {
                let item = seen.item_len() as usize;
                let row = data.len() / rows.unwrap().max(1);
                let expected = match seen.order() {
                    Order::C => data[from * row..to * row].to_vec(),
                    Order::Fortran => data
                        .chunks((rows.unwrap() * item).max(1))
                        .flat_map(|column| &column[from * item..to * item])
                        .copied()
                        .collect(),
                };
                prop_assert_eq!(some.shape()[0], to - from);
                let copied = some.to_owned().unwrap();
                prop_assert_eq!(copied.data().unwrap(), &*expected);
                match some.data() {
                    Ok(data) => prop_assert!(some.is_contiguous() && data == expected),
                    Err(error) => {
                        prop_assert_eq!(error, ArrayError::Gaps);
                        prop_assert!(!some.is_contiguous() && seen.order() == Order::Fortran);
                    }
                }
                // Rows of rows, and every way out.
                let (more, len) = (some.rows(0..(to - from) / 2).unwrap(), (to - from) / 2);
                let same = again.rows(from..from + len).unwrap().to_owned().unwrap();
                let more = (more.to_owned().unwrap(), more.strides());
                prop_assert_eq!(more.0.data(), same.data());
                prop_assert_eq!(more.1, again.rows(from..from + len).unwrap().strides());
                let mut encoded = Vec::new();
                some.encode(&mut encoded).unwrap();
                prop_assert_eq!(encoded.len(), some.encoded_len());
                prop_assert!(encoded.ends_with(&expected));
                let mut npy = Vec::new();
                some.write_npy(&mut npy).unwrap();
                prop_assert!(npy.ends_with(&expected));
                let npy = AnyArray::of_value(&Value::from(npy)).unwrap();
                prop_assert_eq!(npy.shape(), some.shape());
                prop_assert_eq!(npy.data().unwrap(), &*expected);
            }
            Err(ArrayError::Axes { stored: 0, .. }) => prop_assert!(rows.is_none()),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn no_bytes_make_an_array_that_is_none(
        (descriptor, data) in any_array(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        // Bytes that were changed are refused, or are an array that is what it says.
        let mut bytes = [descriptor.encode(), data].concat();
        let at = at.index(bytes.len().min(96));
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() * 4 + 1));
        let put = Put { codec: CodecId::ARRAY, ..Put::default() };
        prop_assert!(disk().put(b"bytes", &bytes, &put).unwrap().is_admitted());
        if let Ok(Some(seen)) = disk().get_any_array(b"bytes", Check::FirstTouch) {
            let elements: usize = seen.shape().iter().product();
            if let Ok(data) = seen.data() {
                prop_assert_eq!(data.len(), elements * seen.item_len() as usize);
            }
            let rows = seen.shape().first().copied().unwrap_or(0);
            if let Ok(all) = seen.rows(0..rows) {
                prop_assert_eq!(all.data().ok(), seen.data().ok());
            }
            let _ = seen.typed::<bool>().map(|view| view.as_slice().is_ok());
        }
    }
}
