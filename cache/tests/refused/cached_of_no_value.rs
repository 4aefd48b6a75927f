#[derive(Clone)]
struct NoCodec;

#[larder::cached]
fn make(_: u32) -> NoCodec {
    NoCodec
}

fn main() {}
