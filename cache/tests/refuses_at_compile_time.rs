//! What `#[cached]` and the derives refuse, and how that reads. The messages are those of the
//! compiler that the workspace names; with `TRYBUILD=overwrite` they are written anew.

#![cfg(feature = "macros")]

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
