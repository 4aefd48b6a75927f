#[larder::cached(ttl = "1h", ttl = "2h")]
fn triple(n: u64) -> u64 {
    n * 3
}

fn main() {}
