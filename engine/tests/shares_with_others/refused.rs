//! Who may not have a store open beside others, and what is said to them.

use std::path::Path;

use larder_engine::{Access, Disk, DiskBuilder, Engine as _, Error, Maintenance, Put, Result};

use crate::builder;
use crate::peer::{Peer, Told};

/// Opens and closes a store as it is told.
pub(crate) fn child(told: &mut Told) -> Result<()> {
    let mut disk = None;
    while let Some(line) = told.hear() {
        let _ = disk.take().map(|disk: Disk| disk.close()).transpose()?;
        disk = match &*line {
            "share" => Some(builder(&told.dir).open()?),
            "alone" => Some(plain(&told.dir).open()?),
            "read" => Some(Disk::builder(&told.dir).read_only().open()?),
            _ => None,
        };
        told.say("done");
    }
    Ok(())
}

fn plain(dir: &Path) -> DiskBuilder {
    Disk::builder(dir).budget(64 << 20)
}

/// Which process an opening was refused for.
#[track_caller]
fn locked_by(builder: DiskBuilder) -> u32 {
    match builder.open() {
        Err(Error::Locked { pid, .. }) => pid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_shares_keeps_out_who_does_not_and_is_named() {
    let place = tempfile::tempdir().unwrap();
    let dir = &place.path().join("store");
    let [mut one, mut other] = [0, 1].map(|number| Peer::start("open", number, dir));
    one.ask("share");
    assert_eq!(locked_by(plain(dir)), one.pid());
    assert_eq!(locked_by(plain(dir).read_only()), one.pid());
    other.ask("share");
    let named = [one.pid(), other.pid()];
    assert!(named.contains(&locked_by(plain(dir))));
    // The one that came first goes, and the other one is named.
    one.ask("close");
    assert_eq!(locked_by(plain(dir)), other.pid());
    assert_eq!(locked_by(plain(dir).read_only()), other.pid());
    // Who only looks is told the same, and is not counted.
    for _ in 0..2 {
        let pids: Vec<_> = Disk::who(dir).unwrap().iter().map(|process| process.pid).collect();
        assert_eq!(pids, [other.pid()]);
    }
    other.ask("close");
    assert!(Disk::who(dir).unwrap().is_empty());
    plain(dir).open().unwrap().close().unwrap();
    other.ask("share");
    let pid = other.pid();
    assert_eq!(locked_by(plain(dir)), pid);
    // A dead process keeps nobody out.
    other.kill();
    assert!(Disk::who(dir).unwrap().is_empty());
    plain(dir).open().unwrap().close().unwrap();
}

#[test]
fn who_has_it_alone_keeps_out_who_shares() {
    let place = tempfile::tempdir().unwrap();
    let dir = &place.path().join("store");
    let mut peer = Peer::start("open", 0, dir);
    for how in ["alone", "read"] {
        peer.ask(how);
        assert_eq!(locked_by(builder(dir)), peer.pid(), "{how}");
        let alone = Disk::who(dir).unwrap().first().map(|process| process.pid);
        assert_eq!(alone, (how == "alone").then(|| peer.pid()));
        peer.ask("close");
        builder(dir).open().unwrap().close().unwrap();
        peer.ask("alone");
        peer.ask("close");
    }
}

#[test]
fn all_have_to_say_the_same() {
    let place = tempfile::tempdir().unwrap();
    let dir = &place.path().join("store");
    let _one = builder(dir).open().unwrap();
    let option = |builder: DiskBuilder| match builder.open() {
        Err(Error::Config { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(option(builder(dir).budget(32 << 20)), "budget");
    assert_eq!(option(builder(dir).retain(larder_engine::Retain::All)), "retain");
    assert_eq!(option(builder(dir).writers(7)), "writers");
    assert_eq!(option(builder(dir).read_only()), "shared");
    let buffered = builder(dir).access(Access::Buffered).open();
    assert!(matches!(buffered, Err(Error::Unshareable { .. })), "{buffered:?}");
    // Those who were refused left nothing behind.
    let other = builder(dir).open().unwrap();
    assert_eq!(other.processes().len(), 2);
}

#[test]
fn there_are_128_places_and_one_that_is_left_can_be_taken() {
    let place = tempfile::tempdir().unwrap();
    let dir = &place.path().join("store");
    let open = || {
        Disk::builder(dir)
            .budget(64 << 20)
            .segment_len(64 << 10)
            .maintenance(Maintenance::Manual)
            .shared()
            .open()
    };
    let mut disks: Vec<_> = (0..128).map(|_| open().unwrap()).collect();
    for (number, disk) in (0_u8..).zip(&disks) {
        assert!(disk.put(&[number], &[number; 100], &Put::default()).unwrap().is_admitted());
    }
    let refused = open();
    let Err(Error::TooManyProcesses { max, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((max, disks[3].processes().len()), (128, 128));
    disks.remove(77).close().unwrap();
    disks.push(open().unwrap());
    for disk in &disks {
        for number in 0..128 {
            assert_eq!(disk.get(&[number]).unwrap().as_deref(), Some(&[number; 100][..]));
        }
    }
}
