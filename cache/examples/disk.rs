//! A store on disk alone: values are views of the mapped file, and outlive the process.

use std::error::Error;

use larder::{Cache, Disk, Durability, Engine, Put, Raw, Value};

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("tiles");
    {
        // As a cache of bytes, which are not copied to be read.
        let tiles = Cache::<(u32, u32), Value, Raw>::with_codec(Raw)
            .disk(&dir)
            .engines(["disk"])
            .build()?;
        let tile = Value::from(vec![7; 1 << 20]);
        assert!(tiles.insert((3, 4), tile)?.is_admitted());
        let tile = tiles.get(&(3, 4))?.expect("just put");
        assert!(tile.is_mapped() && tile.len() == 1 << 20);
        tiles.close()?;
    }
    {
        // The same directory, as a store of plain bytes.
        let disk = Disk::builder(&dir).open()?;
        assert_eq!(disk.len(), 1);
        let put = Put { durability: Durability::Sync, ..Put::default() };
        assert!(disk.put(b"plain key", b"on the disk when this returns", &put)?.is_admitted());
        let report = disk.verify()?;
        eprintln!("{report:?}");
        disk.close()?;
    }
    let disk = Disk::builder(&dir).read_only().open()?;
    assert_eq!(disk.get(b"plain key")?.as_deref(), Some(&b"on the disk when this returns"[..]));
    Ok(())
}
