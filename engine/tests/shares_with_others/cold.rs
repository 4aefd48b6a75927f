//! Many processes open a directory at once in which there is nothing yet; one of them is killed at some
//! moment. All others have the same store.

use std::thread;
use std::time::Duration;

use larder_engine::conformance::Random;
use larder_engine::{Engine as _, Put, Result};

use crate::peer::{Peer, Told};
use crate::{alone, asked, builder};

const CHILDREN: usize = 8;

#[test]
fn all_who_come_at_once_have_the_same_store() {
    let mut random = Random::new(asked("LARDER_SEED", 1));
    let place = tempfile::tempdir().unwrap();
    let ready = |children: &mut [Peer]| {
        for child in children {
            assert_eq!(child.hear(), "ready");
        }
    };
    let mut children = Peer::start_all("cold", CHILDREN, place.path());
    ready(&mut children);
    for round in 0..asked("LARDER_COLD", 12) {
        for child in &mut children {
            child.tell(&round.to_string());
        }
        let at_most = 100_usize << random.below(9);
        thread::sleep(Duration::from_micros(random.below(at_most) as u64));
        let killed = random.below(CHILDREN);
        children.remove(killed).kill();
        for child in &mut children {
            assert_eq!(child.hear(), "open", "round {round}");
        }
        for child in &mut children {
            let saw = child.ask("look");
            for number in (0..CHILDREN).filter(|number| *number != killed) {
                let number = number.to_string();
                assert!(saw.split(' ').any(|seen| seen == number), "round {round}: {saw}");
            }
        }
        for child in &mut children {
            child.tell("close");
        }
        children.insert(killed, Peer::start("cold", killed, place.path()));
        ready(&mut children);
        let disk = alone(&place.path().join(round.to_string()), 64 << 20);
        assert!(disk.len() >= CHILDREN as u64 - 1, "round {round}: {}", disk.len());
    }
}

pub(crate) fn child(told: &mut Told) -> Result<()> {
    loop {
        told.say("ready");
        let Some(round) = told.hear() else { return Ok(()) };
        let disk = builder(&told.dir.join(round)).open()?;
        let number = told.number.to_string();
        assert!(disk.put(number.as_bytes(), b"here", &Put::default())?.is_admitted());
        told.say("open");
        told.hear();
        let mut saw = Vec::new();
        for number in 0..CHILDREN {
            if disk.get(number.to_string().as_bytes())?.is_some() {
                saw.push(number.to_string());
            }
        }
        told.say(&saw.join(" "));
        told.hear();
        disk.close()?;
    }
}
