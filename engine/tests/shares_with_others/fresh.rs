//! What one process has acknowledged, every other one finds at its next look.

use larder_engine::conformance::Random;
use larder_engine::{Atomic as _, Durability, Engine as _, Expected, Put, Result, WriteBatch};

use crate::peer::{Peer, Told};
use crate::{asked, builder};

const READERS: usize = 3;
const KEYS: usize = 5;

#[test]
fn what_was_acknowledged_is_seen_by_all_at_once() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let disk = builder(&dir).open().unwrap();
    let mut readers = Peer::start_all("fresh", READERS, &dir);
    for reader in &mut readers {
        assert_eq!(reader.hear(), "open");
    }
    let mut random = Random::new(asked("LARDER_SEED", 1));
    for round in 0..asked("LARDER_ROUNDS", 3_000) {
        let key = random.below(KEYS).to_string();
        let value = format!("{round}{}", ".".repeat(random.below(3) * 700));
        let (key_bytes, bytes) = (key.as_bytes(), value.as_bytes());
        let tagged = Put { tags: &[b"tag"], ..Put::default() };
        let there = match random.below(8) {
            0 => disk.remove(key_bytes).map(|_| false),
            1 => {
                assert!(disk.put(key_bytes, bytes, &tagged).unwrap().is_admitted());
                disk.invalidate_tag(b"tag").map(|()| false)
            }
            2 => {
                let mut batch = WriteBatch::new();
                batch.put(key_bytes, bytes, &Put::default()).remove(b"another");
                disk.write(&batch, Durability::None).map(|outcome| outcome.is_committed())
            }
            3 => disk.clear().map(|_| false),
            4 => {
                let version = disk.version(key_bytes).unwrap();
                let expected = version.map_or(Expected::Absent, Expected::Version);

                let outcome = disk.put_if(key_bytes, bytes, &Put::default(), expected);
                outcome.map(|outcome| outcome.is_admitted())
            }
            5 => disk.take(key_bytes).map(|_| false),
            _ => disk.put(key_bytes, bytes, &tagged).map(|outcome| outcome.is_admitted()),
        };
        let expected = if there.unwrap() { &*value } else { "-" };
        for reader in &mut readers {
            reader.tell(&key);
        }
        for reader in &mut readers {
            assert_eq!(reader.hear(), expected, "round {round}, key {key}");
        }
    }
}

pub(crate) fn child(told: &mut Told) -> Result<()> {
    let disk = builder(&told.dir).open()?;
    told.say("open");
    while let Some(key) = told.hear() {
        match disk.get(key.as_bytes())? {
            Some(found) => told.say(&String::from_utf8_lossy(&found)),
            None => told.say("-"),
        }
    }
    Ok(())
}
