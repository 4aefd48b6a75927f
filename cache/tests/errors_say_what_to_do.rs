//! Errors keep their sources and do not repeat them, say what to do, and tell what may pass from
//! what will not.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use larder::{Cache, CodecError, Error, LoadError, Rejection, Unavailable};
use larder_engine::Error as EngineError;

fn io() -> io::Error {
    io::Error::other("the cable is out")
}

/// One of each kind, and whether it may pass.
fn all() -> Vec<(Error, bool)> {
    let path = || PathBuf::from("/cache/store");
    let engine = |source| Error::Engine { op: "be opened", source };
    let unavailable = |why| Error::Unavailable { engine: "disk".into(), why };
    vec![
        (engine(EngineError::Io { op: "read", path: path(), source: io() }), true),
        (engine(EngineError::StorageFull { op: "write", path: path(), source: io() }), true),
        (engine(EngineError::Locked { path: path(), pid: 7 }), true),
        (engine(EngineError::Blocked { path: path() }), true),
        (engine(EngineError::Insecure { path: path(), why: "chmod go-w it".into() }), false),
        (engine(EngineError::IndexFull), false),
        (engine(EngineError::SyncLost { path: path() }), false),
        (engine(EngineError::Full { needed: 2, budget: 1 }), false),
        (engine(EngineError::ReadOnly), false),
        (Error::Offline, true),
        (Error::KeyTooLong { len: 2, max: 1 }, false),
        (Error::TooManyTags { count: 16, max: 15 }, false),
        (Error::Rejected { why: Rejection::NoRoom }, true),
        (Error::Rejected { why: Rejection::WriteBudget { per_second: 9 } }, true),
        (Error::Rejected { why: Rejection::TooLarge { weight: 2, limit: 1 } }, false),
        (Error::Unsupported { what: "tags" }, false),
        (Error::Encode { source: CodecError::new("a map with a hole") }, false),
        (Error::Decode { source: CodecError::new("a map with a hole") }, false),
        (Error::Overflow, false),
        (Error::Recursion, false),
        (Error::Config { option: "ttl", value: "0".into(), accepted: "at least 1 ms" }, false),
        (unavailable(Unavailable::Locked { pid: 7 }), true),
        (unavailable(Unavailable::NoDirectory), false),
        (unavailable(Unavailable::Feature { feature: "remote".into() }), false),
        (Error::Cancelled, false),
        (Error::Settings { op: "read", path: path(), source: io() }, true),
        (Error::Closed, false),
    ]
}

#[test]
fn what_may_pass_is_told_from_what_will_not() {
    for (error, may_pass) in all() {
        assert_eq!(error.is_transient(), may_pass, "{error}");
        assert_eq!(LoadError::<()>::Cache(error).is_transient(), may_pass);
    }
    assert!(!LoadError::Load(()).is_transient());
}

#[test]
fn sources_are_kept_and_not_repeated() {
    let mut with_source = 0;
    for (error, _) in all() {
        let (text, mut cause) = (error.to_string(), error.source());
        with_source += usize::from(cause.is_some());
        while let Some(source) = cause {
            assert!(!text.contains(&source.to_string()), "{text} repeats {source}");
            cause = source.source();
        }
    }
    assert!(with_source > 8, "{with_source}");
}

#[test]
fn messages_are_sentences_without_debug_output() {
    for (error, _) in all() {
        let text = error.to_string();
        assert!(text.len() > 20 && !text.contains('{') && !text.ends_with('.'), "{text}");
        assert!(!text.contains("NoRoom") && !text.contains("TooLarge"), "{text}");
    }
}

#[test]
fn errors_go_wherever_errors_go() {
    fn is_error<E: std::error::Error + Send + Sync + 'static>() {}
    is_error::<Error>();
    is_error::<EngineError>();
    is_error::<Unavailable>();
    is_error::<CodecError>();
    is_error::<LoadError<io::Error>>();
    #[cfg(feature = "config")]
    is_error::<larder::ConfigError>();
}

#[test]
fn the_whole_chain_says_what_happened() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Cache::<u32, u32>::builder().disk(&file).build().unwrap_err();
    assert_eq!(error.to_string(), "the store cannot be opened");
    let why = error.source().unwrap().to_string();
    assert!(why.contains("file, not a directory: move it away"), "{why}");
}
