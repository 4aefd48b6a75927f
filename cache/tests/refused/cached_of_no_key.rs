struct NoKey;

#[larder::cached]
fn of(_: NoKey) -> u32 {
    7
}

fn main() {}
