#[larder::cached(cache_errors)]
fn triple(n: u64) -> u64 {
    n * 3
}

fn main() {}
