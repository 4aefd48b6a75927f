//! An expensive matrix, computed once and kept over runs; and the file that NumPy opens.
//!
//! ```sh
//! cargo run --release -p larder --example matrix -- /tmp/matrices   # computes it
//! cargo run --release -p larder --example matrix -- /tmp/matrices   # opens it
//! python3 cache/examples/matrix.py "$(cargo run --release -p larder --example matrix -- /tmp/matrices --path)"
//! ```

#![expect(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use larder::{Array, Arrays, Cache, Disk, Engine as _, KeyBuf, KeyEncode as _};

/// Rows, and columns.
const SIZE: usize = 512;

/// The eighth power of the matrix of a random walk over a ring, by schoolbook products.
fn walk() -> Vec<f64> {
    let mut matrix = vec![0.0; SIZE * SIZE];
    for row in 0..SIZE {
        for (step, share) in [(1, 0.5), (SIZE - 1, 0.3), (7, 0.2)] {
            matrix[row * SIZE + (row + step) % SIZE] = share;
        }
    }
    let step = matrix.clone();
    for _ in 1..8 {
        let mut product = vec![0.0; SIZE * SIZE];
        for row in 0..SIZE {
            for column in 0..SIZE {
                let terms = (0..SIZE).map(|k| matrix[row * SIZE + k] * step[k * SIZE + column]);
                product[row * SIZE + column] = terms.sum();
            }
        }
        matrix = product;
    }
    matrix
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("which directory is the cache to lie in?")?;
    // Small segments, so that an array of 2 MiB has a file of its own.
    let disk = Arc::new(Disk::builder(dir).budget(256 << 20).segment_len(1 << 20).open()?);
    let cache: Cache<String, Array<f64>, Arrays> =
        Cache::with_codec(Arrays).engine(Arc::<Disk>::clone(&disk)).build()?;

    let start = Instant::now();
    let mut computed = false;
    let matrix = cache.get_or_insert_with("walk", || {
        computed = true;
        Array::copied(&walk(), &[SIZE, SIZE]).unwrap_or_else(|error| panic!("{error}"))
    })?;
    let trace: f64 = matrix.as_slice()?.iter().step_by(SIZE + 1).sum();
    let took = start.elapsed();

    // The store knows the key as the bytes that it encodes to.
    let mut key = KeyBuf::new();
    "walk".encode(&mut key);
    let path = disk.array_file(key.as_bytes())?.ok_or("the array has no file of its own")?;
    if arguments.next().as_deref() == Some("--path") {
        println!("{}", path.display());
    } else {
        let how = if computed { "computed" } else { "opened" };
        println!("{how} in {took:.1?}: trace {trace:.6}");
        println!("NumPy opens it as {}", path.display());
    }
    drop((cache, matrix));
    disk.close()?;
    Ok(())
}
