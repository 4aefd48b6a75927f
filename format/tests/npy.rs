//! Promise: every header that NumPy writes of what a store can hold is understood, and every other
//! one is refused with a reason that says where and what to do.
//! Method: tables of headers as NumPy and others write them, and of hostile ones.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
#![allow(clippy::unwrap_used, reason = "not in a #[test] function, but only for tests")]

use larder_format::*;

/// A file of this version with this text.
fn file(version: u8, text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap().to_le_bytes();
    let len = if version == 1 { &len[..2] } else { &len[..] };
    [b"\x93NUMPY", &[version, 0][..], len, text.as_bytes()].concat()
}

fn decode(text: &str) -> Result<NpyHeader, FormatError> {
    NpyHeader::decode(&file(1, text))
}

fn of_type(descr: &str) -> Result<NpyHeader, FormatError> {
    decode(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2,), }}\n"))
}

fn of_shape(shape: &str) -> Result<NpyHeader, FormatError> {
    decode(&format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n"))
}

#[test]
fn every_version_is_read() {
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }          \n";
    for version in [1, 2, 3] {
        let mut bytes = file(version, text);
        let header_len = bytes.len();
        bytes.extend([7; 48]);
        assert_eq!(NpyHeader::header_len(&bytes[..NpyHeader::PREFIX_LEN]), Ok(header_len));
        let header = NpyHeader::decode(&bytes).unwrap();
        assert_eq!(header.data_at(), header_len);
        assert_eq!(header.descriptor().shape(), [3, 4]);
        for cut in 0..header_len {
            let refused = NpyHeader::decode(&bytes[..cut]);
            assert!(matches!(refused, Err(FormatError::Truncated { .. })), "{cut}: {refused:?}");
        }
    }
}

#[test]
fn other_ways_to_write_the_same_are_understood() {
    for text in [
        "{'descr': '>i4', 'fortran_order': True, 'shape': (3, 4), }",
        "{\"descr\":\">i4\",\"fortran_order\":True,\"shape\":(3,4)}",
        "{'shape': (3L, 4L), 'fortran_order': True, 'descr': '>i4'}",
        "  { u'shape' :\t( 3 ,\n4 , ) ,'descr' : u'>i4', 'fortran_order':True }\r\n\n",
        "{'fortran_order':True,'shape':(3l,4),'descr':\">i4\",}",
    ] {
        let header = decode(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let array = header.descriptor();
        assert_eq!((array.dtype(), array.order()), (DType::I32, Order::Fortran), "{text}");
        assert_eq!(array.shape(), [3, 4], "{text}");
        assert!(header.is_big_endian(), "{text}");
    }
}

#[test]
fn every_element_type_is_known_in_every_byte_order() {
    let numbers = [
        (DType::I16, "i2"),
        (DType::I32, "i4"),
        (DType::I64, "i8"),
        (DType::U16, "u2"),
        (DType::U32, "u4"),
        (DType::U64, "u8"),
        (DType::F16, "f2"),
        (DType::Bf16, "V2"),
        (DType::F32, "f4"),
        (DType::F64, "f8"),
        (DType::Complex64, "c8"),
        (DType::Complex128, "c16"),
    ];
    let native = cfg!(target_endian = "big");
    for (dtype, name) in numbers {
        for (mark, is_big) in
            [("<", false), (">", true), ("=", native), ("|", native), ("", native)]
        {
            let header = of_type(&format!("'{mark}{name}'")).unwrap();
            assert_eq!(header.descriptor().dtype(), dtype, "{mark}{name}");
            assert_eq!(Some(header.descriptor().item_len()), dtype.item_len());
            assert_eq!(header.is_big_endian(), is_big, "{mark}{name}");
        }
    }
    for (dtype, name, len) in [
        (DType::Bool, "b1", 1),
        (DType::Bool, "?", 1),
        (DType::I8, "i1", 1),
        (DType::U8, "u1", 1),
        (DType::Bytes, "S1", 1),
        (DType::Bytes, "S1000", 1000),
    ] {
        for mark in ["<", ">", "=", "|", ""] {
            let header = of_type(&format!("'{mark}{name}'")).unwrap();
            let array = header.descriptor();
            assert_eq!((array.dtype(), array.item_len()), (dtype, len), "{mark}{name}");
            assert!(!header.is_big_endian(), "{mark}{name} has no order of bytes");
        }
    }
}

#[test]
fn types_that_no_store_holds_are_refused_by_name() {
    for (descr, hint) in [
        ("'|O'", "`|O` at byte 20 cannot be stored: convert Python objects to numbers"),
        ("'<U7'", "`<U7` at byte 20 cannot be stored: store text encoded"),
        ("'|T16'", "store text of any length"),
        ("'<M8[ns]'", "`<M8[ns]` at byte 20 cannot be stored: store dates and times as numbers"),
        ("'>m8[us]'", "store dates and times"),
        ("'<f16'", "long doubles"),
        ("'<f12'", "long doubles"),
        ("'<c32'", "long doubles"),
        ("'|V3'", "store raw bytes"),
        ("'|V16'", "store raw bytes"),
        ("'|S0'", "hold nothing"),
        ("[('a', '<f4'), ('b', '<f4')]", "`[(\\'a\\', \\'<f4\\'), "),
        ("[('\u{e4}', '<f4')]", "store each field"),
        ("('<f4', (2,))", "store each field"),
        ("{'names': ['a'], 'formats': ['<f4']}", "store each field"),
        ("''", "no element type"),
        ("'<'", "no element type"),
        ("'f'", "no element type"),
        ("'<f5'", "no element type"),
        ("'<i+4'", "no element type"),
        ("'<i4 '", "no element type"),
        ("'i99999999999999999999'", "no element type"),
        ("'float32'", "no element type"),
        ("'S\u{661}'", "no element type"),
    ] {
        let refused = of_type(descr).unwrap_err();
        assert!(matches!(refused, FormatError::Unsupported { .. }), "{descr}: {refused:?}");
        let message = refused.to_string();
        assert!(message.starts_with("NumPy header: `") && message.contains(hint), "{message}");
    }
}

#[test]
fn shapes_are_bounded() {
    let shape = |text: &str| of_shape(text).map(|header| header.descriptor().shape().to_vec());
    assert_eq!(shape("()"), Ok(vec![]));
    assert_eq!(shape("(0,)"), Ok(vec![0]));
    assert_eq!(shape("(281474976710656,)"), Ok(vec![1 << 48]));
    assert!(shape("(5, 0, 281474976710655)").unwrap_err().to_string().contains("2^48"));
    let ones = |count| format!("({})", "1,".repeat(count));
    assert_eq!(shape(&ones(32)), Ok(vec![1; 32]));
    for (text, reason) in [
        (ones(33).as_str(), "axes is 33, allowed is at most 32"),
        (&ones(20_000), "axes is 33"),
        ("(-1,)", "`-1` at byte 61 cannot be stored: an axis is 0 to 2^48 long"),
        ("(3, -5)", "`-5` at byte 64"),
        ("(18446744073709551616,)", "`18446744073709551616` at byte 61"),
        ("(18446744073709551615,)", "shape is 18446744073709551615"),
        (&format!("({},)", "9".repeat(5_000)), "`999999999999999999999999999999…` at byte 61"),
        ("(4294967296, 4294967296)", "at most 2^48 bytes"),
        ("(281474976710657,)", "at most 2^48 bytes"),
        ("(3)", "expected `,`: to Python, `(3)` is a number at byte 62"),
        ("3", "expected a tuple: `(` at byte 60"),
        ("[3, 4]", "expected a tuple"),
        ("(3, 4", "expected the length of an axis"),
        ("(3, 4 5)", "expected `,` or `)`"),
        ("(3 4)", "expected `,`"),
        ("(,)", "expected the length of an axis at byte 61"),
        ("(3,,4)", "expected the length of an axis"),
        ("(03,)", "expected the length of an axis"),
        ("(+3,)", "expected the length of an axis"),
        ("(- 3,)", "expected the length of an axis"),
        ("(3.0,)", "expected `,`"),
        ("(3e5,)", "expected `,`"),
        ("(0x10,)", "expected `,`"),
        ("(((((3,)", "expected the length of an axis at byte 61"),
        ("(None,)", "expected the length of an axis"),
    ] {
        let message = shape(text).unwrap_err().to_string();
        assert!(message.contains(reason), "{}: {message}", &text[..text.len().min(40)]);
        assert!(message.len() < 200, "{message}");
    }
}

#[test]
fn hostile_texts_are_refused_where_they_go_wrong() {
    let deep = "(".repeat(60_000);
    for (text, reason) in [
        ("\n\n", "expected a dictionary: `{` at byte 12"),
        ("{}", "expected the key 'descr' at byte 12"),
        ("{ ", "expected one of the keys 'descr', 'fortran_order' and 'shape', once at byte 12"),
        ("{{", "one of the keys"),
        (&deep, "expected a dictionary"),
        ("{'descr': '<f4', 'fortran_order': False}", "expected the key 'shape'"),
        ("{'descr': '<f4', 'shape': ()}", "expected the key 'fortran_order'"),
        (
            "{'descr': '<f4', 'descr': '<f4'}",
            "one of the keys 'descr', 'fortran_order' and 'shape', once at byte 27",
        ),
        ("{'descr': '<f4', 'other': 1}", "once at byte 27"),
        ("{'descr' '<f4'}", "expected `:` behind a key at byte 19"),
        ("{'descr': '<f4' 'shape': ()}", "expected `,` or `}` at byte 26"),
        ("{'descr': '<f4", "expected the closing quote"),
        ("{'descr': '<f\n4'}", "expected the closing quote"),
        ("{'descr': '\\x3cf4'}", "no escapes at byte 21"),
        ("{'descr': f4}", "expected an element type as text"),
        ("{'descr': 4}", "expected an element type as text"),
        ("{'descr': None}", "expected an element type as text"),
        ("{'fortran_order': 0}", "expected True or False at byte 28"),
        ("{'fortran_order': Falsehood}", "expected True or False"),
        ("{'fortran_order': true}", "expected True or False"),
        ("{,}", "one of the keys"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': ()} {}", "nothing but spaces"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': ()}\0", "nothing but spaces"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (),,}", "one of the keys"),
    ] {
        let message = decode(text).unwrap_err().to_string();
        let shown = &text[..text.len().min(40)];
        assert!(message.contains(reason), "{shown}: {message}");
        assert!(message.starts_with("NumPy header: "), "{message}");
    }
}

#[test]
fn files_that_are_something_else_are_told_apart() {
    let refused = |bytes: &[u8]| NpyHeader::decode(bytes).unwrap_err();
    let padded = |start: &[u8]| [start, &[b' '; 20]].concat();
    assert!(matches!(refused(&padded(b"PK\x03\x04")), FormatError::Magic { .. }));
    assert!(matches!(refused(&padded(b"\x93NUMPX\x01\x00")), FormatError::Magic { .. }));
    let version = |major, minor| padded(&[b"\x93NUMPY", &[major, minor][..]].concat());
    assert!(matches!(refused(&version(0, 0)), FormatError::Version { found: 0, .. }));
    assert!(matches!(refused(&version(4, 0)), FormatError::Version { newest: 3, found: 4, .. }));
    assert!(matches!(refused(&version(1, 1)), FormatError::Field { field: "minor version", .. }));
    // A length that is far beyond the file, and beyond memory: refused before anything is read.
    for len in [65_536, 1 << 24, u32::MAX] {
        let bytes = [b"\x93NUMPY\x02\x00", &len.to_le_bytes()[..]].concat();
        let found = u64::from(len);
        let field = "text length";
        assert_eq!(
            NpyHeader::header_len(&bytes),
            Err(FormatError::Field {
                what: "NumPy header",
                field,
                found,
                allowed: "at most 65535"
            })
        );
    }
}
