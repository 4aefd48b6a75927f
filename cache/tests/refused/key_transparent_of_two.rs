#[derive(larder::KeyEncode)]
#[key(transparent)]
struct Pair(u32, u32);

fn main() {}
