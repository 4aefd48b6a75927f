#[larder::cached(capactiy = 10)]
fn triple(n: u64) -> u64 {
    n * 3
}

fn main() {}
