#[derive(larder::KeyEncode)]
enum Shape {
    Circle(u32),
    #[key(skip)]
    Nothing,
}

fn main() {}
