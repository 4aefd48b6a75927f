#[larder::cached]
fn first(text: &str) -> &str {
    &text[..1]
}

fn main() {}
