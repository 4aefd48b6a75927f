#[derive(larder::KeyEncode)]
union Either {
    number: u32,
    float: f32,
}

fn main() {}
