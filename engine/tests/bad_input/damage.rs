//! Damage to the bytes of files: flipped, cut, grown, zeroed, removed, exchanged.

use std::fs;
use std::path::Path;

use larder_engine::conformance::Random;
use larder_engine::{Engine, Error, Put, Recovery};

use crate::sample::{Left, Sample, contents, look, place};

/// Where every single byte is flipped: the fixed headers of every kind of file.
const HEADER_LEN: usize = 128;
/// Flips in the rest of each file.
const FLIPS: usize = 60;
const SEED: u64 = 0xDA3A6E;

/// How much is tried: everything with `LARDER_DAMAGE=all`.
fn all() -> bool {
    std::env::var("LARDER_DAMAGE").is_ok_and(|how| how == "all")
}

/// Copies a sample, damages it, and looks at what is left.
fn after(sample: &Sample, what: &str, damage: impl FnOnce(&Path)) -> Left {
    let place = place();
    let dir = place.path().join("store");
    sample.copy_to(&dir);
    damage(&dir);
    look(&dir, what)
}

/// Writes other bytes in the place of a file's.
fn with(sample: &Sample, path: &Path, what: &str, bytes: &[u8]) -> Left {
    after(sample, what, |dir| fs::write(dir.join(path), bytes).expect("a file"))
}

/// The files to damage: one of each kind, the first and the last segment; or all.
fn files() -> Vec<(&'static Path, &'static [u8])> {
    let files: Vec<_> = Sample::get().data_files().collect();
    if all() {
        return files;
    }
    let of = |dir: &'static str| {
        files.iter().filter(move |(path, _)| path.to_string_lossy().starts_with(dir))
    };
    let few = of("store").chain(of("index.")).chain(of("big/").take(1)).chain(of("arr/").take(1));
    few.chain(of("seg/").take(1)).chain(of("seg/").next_back()).copied().collect()
}

/// What is not hit is still there.
fn assert_bounded(path: &Path, what: &str, left: &Left, most: usize) {
    let missing = left.missing();
    match left {
        Left::Refused(error) => {
            // Only the superblock is worth refusing a store for.
            assert_eq!(path, Path::new("store"), "{what}: refused: {error}");
            assert!(matches!(error, Error::Format { .. }), "{what}: {error:?}");
        }
        Left::Opened { .. } => {
            assert!(missing <= most, "{what}: {missing} entries are missing");
            let old = left.old();
            assert_eq!(old, 0, "{what}: {old} entries have an old value");
        }
    }
}

fn is_index(path: &Path) -> bool {
    path.to_string_lossy().starts_with("index.")
}

/// How many entries may suffer when one byte of a file changes.
fn most_hit(path: &Path, at: usize) -> usize {
    match path.to_str().unwrap_or_default() {
        // A page that fails its checksum is filled again, and a word is mended.
        name if name.starts_with("index.") => 0,
        name if name.starts_with("seg/") && (256..392).contains(&at) => 0,
        // The segment's header stands for all its records.
        name if name.starts_with("seg/") && at < 4096 => contents().len(),
        name if name.starts_with("seg/") => 1,
        name if name.starts_with("big/") || name.starts_with("arr/") => 1,
        // The count of entries, or a number that leads to a rebuild.
        _ => 0,
    }
}

#[test]
fn the_sample_is_what_it_should_be() {
    for sample in [Sample::get(), Sample::other()] {
        let left = after(sample, "nothing", |_| {});
        assert!(
            matches!(
                left,
                Left::Opened { missing: 0, old: 0, recovery: Recovery::Clean, told: false }
            ),
            "{left:?}"
        );
    }
    let files: Vec<_> = Sample::get().files().map(|(path, _)| path.to_owned()).collect();
    for dir in ["store", "index.", "seg/", "arr/", "big/", "proc/"] {
        let found =
            files.iter().any(|path| path.to_str().is_some_and(|path| path.starts_with(dir)));
        assert!(found, "no file {dir} in {files:?}");
    }
    let left = after(Sample::unclosed(), "a copy of a store in use", |_| {});
    assert_eq!(left.missing(), 0, "{left:?}");
}

#[test]
fn every_byte_of_every_header_can_be_wrong() {
    let mut random = Random::new(SEED);
    for (path, bytes) in files() {
        let mut places: Vec<usize> = (0..HEADER_LEN.min(bytes.len())).collect();
        if path == Path::new("store") {
            for page in [4096, 8192, 12288] {
                places.extend(page..page + HEADER_LEN);
            }
            places.extend((12288 + HEADER_LEN..12288 + 600).step_by(3));
        }
        if path.starts_with("seg") {
            for word in [256, 320, 384] {
                places.extend(word..word + 8);
            }
            places.extend(bytes.len() - 64..bytes.len());
        }
        for at in places {
            let flips =
                if all() { vec![0x01, 0x80, 0xFF] } else { vec![*random.pick(&[1, 0x80, 0xFF])] };
            for flip in flips {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= flip;
                let what = format!("{} byte {at} ^ {flip:#x}", path.display());
                let left = with(Sample::get(), path, &what, &damaged);
                assert_bounded(path, &what, &left, most_hit(path, at));
            }
        }
    }
}

#[test]
fn any_byte_can_be_wrong() {
    let mut random = Random::new(SEED);
    let (mut flips, mut missing) = (0, 0);
    for (path, bytes) in files() {
        let count = if all() { 40 * FLIPS } else { FLIPS };
        for _ in 0..count {
            let at = random.below(bytes.len());
            // Zeros are what is most likely to be there, and what most of a file is: go where
            // something is, mostly.
            if bytes[at] == 0 && random.chance(90) {
                continue;
            }
            let flip = 1 << random.below(8);
            let mut damaged = bytes.to_vec();
            damaged[at] ^= flip;
            let what = format!("{} byte {at} ^ {flip:#x}", path.display());
            let left = with(Sample::get(), path, &what, &damaged);
            assert_bounded(path, &what, &left, most_hit(path, at));
            flips += 1;
            missing += left.missing();
        }
    }
    println!("{flips} flips, {missing} entries missed");
}

#[test]
fn any_run_of_bytes_can_be_lost() {
    let mut random = Random::new(SEED ^ 1);
    for (path, bytes) in files() {
        let rounds = if all() { 400 } else { 25 };
        for round in 0..rounds {
            let from = random.below(bytes.len());
            let most = *random.pick(&[64, 4096, 20_000]);
            let len = 1 + random.below(most);
            let run = from..(from + len).min(bytes.len());
            let mut damaged = bytes.to_vec();
            match round % 3 {
                0 => damaged[run.clone()].fill(0),
                1 => damaged[run.clone()].fill(0xFF),
                // A block of the same file, from elsewhere: every record in it is whole.
                _ => {
                    let other = random.below(bytes.len() - run.len() + 1);
                    damaged[run.clone()].copy_from_slice(&bytes[other..other + run.len()]);
                }
            }
            let what = format!("{} bytes {run:?} overwritten ({})", path.display(), round % 3);
            let left = with(Sample::get(), path, &what, &damaged);
            let most = if path == Path::new("store") { 0 } else { contents().len() };
            assert_bounded(path, &what, &left, most);
        }
    }
}

#[test]
fn every_file_can_be_cut_or_grown() {
    for (path, bytes) in files() {
        let len = bytes.len();
        let mut lengths = vec![0, 1, 7, 64, 127, 128, 4095, 4096, 4097, len / 2, len - 1];
        let step = if all() { 512 } else { 8192 };
        lengths.extend((0..len).step_by(step));
        lengths.retain(|&cut| cut < len);
        for cut in lengths {
            let what = format!("{} cut to {cut} bytes", path.display());
            let left = with(Sample::get(), path, &what, &bytes[..cut]);
            let most = if path == Path::new("store") { 0 } else { contents().len() };
            assert_bounded(path, &what, &left, most);
        }
        for (grown, by) in
            [(vec![0; 1], "zeros"), (vec![0; 8192], "zeros"), (vec![0xA7; 5000], "noise")]
        {
            let what = format!("{} grown by {} {by}", path.display(), grown.len());
            let left = with(Sample::get(), path, &what, &[bytes, &grown[..]].concat());
            assert_bounded(path, &what, &left, contents().len());
        }
    }
}

#[test]
fn every_file_can_be_missing_empty_or_foreign() {
    let noise = larder_engine::conformance::expand(5, 70_000);
    for (path, bytes) in Sample::get().data_files() {
        let name = path.display();
        let removed = after(Sample::get(), &format!("{name} removed"), |dir| {
            fs::remove_file(dir.join(path)).expect("a file");
        });
        let empty = with(Sample::get(), path, &format!("{name} empty"), &[]);
        let zeros = with(Sample::get(), path, &format!("{name} zeroed"), &vec![0; bytes.len()]);
        let text = with(Sample::get(), path, &format!("{name} a text"), b"#!/bin/sh\necho hello\n");
        let foreign = with(Sample::get(), path, &format!("{name} noise"), &noise);
        for left in [removed, empty, zeros, text, foreign] {
            match path.to_str().unwrap_or_default() {
                "store" => assert!(
                    matches!(left, Left::Refused(Error::Format { .. })),
                    "segments without a superblock must not be taken for a new store: {left:?}"
                ),
                name if name.starts_with("index.") => assert_eq!(left.missing(), 0, "{left:?}"),
                name if name.starts_with("big/") => assert_eq!(left.missing(), 1, "{left:?}"),
                _ => assert!(matches!(left, Left::Opened { .. }), "{name}: {left:?}"),
            }
        }
    }
}

#[test]
fn every_file_can_be_another_stores() {
    let other: Vec<_> = Sample::other().data_files().collect();
    for (path, _) in Sample::get().data_files() {
        // The file of the same name if there is one, or else one of the same kind.
        let kind = path.parent();
        let same = other.iter().find(|(theirs, _)| *theirs == path);
        let Some((theirs, bytes)) =
            same.or_else(|| other.iter().find(|(theirs, _)| theirs.parent() == kind))
        else {
            continue;
        };
        let what = format!("{} replaced by {} of another store", path.display(), theirs.display());
        let left = with(Sample::get(), path, &what, bytes);
        if path == Path::new("store") {
            // Their superblock is whole; nothing else here is theirs.
            continue;
        }
        assert!(matches!(left, Left::Opened { .. }), "{what}: {left:?}");
    }
}

#[test]
fn files_can_be_exchanged() {
    let files: Vec<_> = Sample::get().data_files().collect();
    for (first, _) in &files {
        for (second, bytes) in &files {
            if first != second && first.parent() == second.parent() {
                let what = format!("{} replaced by {}", first.display(), second.display());
                let left = with(Sample::get(), first, &what, bytes);
                if *first != Path::new("store") {
                    assert!(matches!(left, Left::Opened { .. }), "{what}: {left:?}");
                }
            }
        }
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    // The version stands after the magic; with a checksum that fits it must be refused, and
    // with one that does not, too.
    let (path, bytes) = Sample::get()
        .data_files()
        .find(|(path, _)| *path == Path::new("store"))
        .expect("a superblock");
    for at in 8..24 {
        let mut newer = bytes.to_vec();
        newer[at] = newer[at].wrapping_add(1);
        let left = with(Sample::get(), path, &format!("store byte {at} + 1"), &newer);
        assert!(matches!(left, Left::Refused(Error::Format { .. })), "byte {at}: {left:?}");
    }
}

/// Changes a copy of the sample, sets back one file after the other, and reports what is old.
fn set_back(only: impl Fn(&Path) -> bool) -> Vec<String> {
    let place = place();
    let dir = place.path().join("store");
    Sample::get().copy_to(&dir);
    let disk = crate::sample::open(&dir).expect("a store");
    let changed: Vec<_> = contents().keys().step_by(3).collect();
    let removed: Vec<_> = contents().keys().skip(1).step_by(3).collect();
    for key in &changed {
        let _ = disk.put(key, b"new", &Put::default()).expect("room");
    }
    for key in &removed {
        disk.remove(key).expect("an open store");
    }
    disk.close().expect("an open store");
    drop(disk);
    let mut back = Vec::new();
    for (path, bytes) in Sample::get().data_files().filter(|(path, _)| only(path)) {
        let copy = place.path().join("copy");
        copy_dir(&dir, &copy);
        fs::write(copy.join(path), bytes).expect("a file");
        if let Ok(disk) = crate::sample::open(&copy) {
            let get = |key: &[u8]| disk.get(key).ok().flatten();
            let old = changed.iter().filter(|key| get(key).is_some_and(|found| *found != *b"new"));
            let dead = removed.iter().filter(|key| get(key).is_some());
            let (old, dead) = (old.count(), dead.count());
            if old + dead > 0 {
                back.push(format!("{}: {old} old, {dead} removed", path.display()));
            }
        }
        fs::remove_dir_all(&copy).expect("a directory");
    }
    back
}

#[test]
fn an_older_copy_of_a_segment_brings_nothing_back() {
    assert_eq!(set_back(|path| !is_index(path)), [""; 0]);
}

#[test]
fn an_older_copy_of_the_index_brings_nothing_back() {
    assert_eq!(set_back(is_index), [""; 0]);
}

fn copy_dir(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn slots_that_look_frozen_do_not_stop_a_put() {
    let files = files();
    let (path, bytes) = files.iter().find(|(path, _)| is_index(path)).expect("an index");
    let mut damaged = bytes.to_vec();
    damaged[4096..].fill(0xFF);
    let left = with(Sample::get(), path, "an index full of 0xFF", &damaged);
    assert_eq!(left.old(), 0, "{left:?}");
}

#[test]
fn a_damaged_index_leads_to_nothing_old() {
    let files = files();
    let (path, bytes) = files.iter().find(|(path, _)| is_index(path)).expect("an index");
    let mut old = Vec::new();
    let step = if all() { 1 } else { 37 };
    for at in (4096..bytes.len()).filter(|&at| bytes[at] != 0) {
        for bit in (0..8).filter(|bit| (at * 8 + bit) % step == 0) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            let what = format!("{} byte {at} bit {bit}", path.display());
            if with(Sample::get(), path, &what, &damaged).old() > 0 {
                old.push(what);
            }
        }
    }
    assert!(old.is_empty(), "{} flips bring an old value back: {:?}", old.len(), old.first());
}

#[test]
fn what_is_missing_is_noticed() {
    let mut unnoticed = Vec::new();
    for (path, bytes) in files() {
        let places = match path.to_string_lossy() {
            name if name.starts_with("seg/") => (256..264).chain(320..328).chain(384..392),
            name if name.starts_with("index.") => (4096..4104).chain(5000..5008).chain(6000..6008),
            _ => continue,
        };
        for at in places {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0xFF;
            let what = format!("{} byte {at}", path.display());
            let left = with(Sample::get(), path, &what, &damaged);
            if left.missing() > 0 && !left.told() {
                unnoticed.push(format!("{what}: {} missing", left.missing()));
            }
        }
    }
    assert!(unnoticed.is_empty(), "unnoticed: {unnoticed:#?}");
}
