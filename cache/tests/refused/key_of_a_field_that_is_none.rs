struct NoKey;

#[derive(larder::KeyEncode)]
struct Request {
    what: NoKey,
}

fn main() {}
