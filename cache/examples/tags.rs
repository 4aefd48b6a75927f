//! What belongs together is forgotten together, in both tiers and for good.

use std::error::Error;

use larder::{Cache, Loaded, Put};

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let open = || Cache::<String, String>::builder().disk(home.path().join("pages")).build();
    let pages = open()?;
    for user in 0..10 {
        let render = || Ok::<_, std::io::Error>(format!("<h1>user {user}</h1>"));
        let tags = [format!("user:{user}"), "layout".to_owned()];
        pages.get_or_load(&format!("/users/{user}"), || {
            Ok::<_, std::io::Error>(Loaded::new(render()?).tags(tags))
        })?;
    }
    let put = Put { tags: &[b"layout"], ..Put::default() };
    assert!(pages.insert_with("/".to_owned(), "<h1>home</h1>".to_owned(), &put)?.is_admitted());

    pages.invalidate_tag("user:7")?;
    assert_eq!(pages.get("/users/7")?, None);
    assert!(pages.get("/users/8")?.is_some());
    assert_eq!(pages.keys_by_tag("layout")?.len(), 10);
    pages.close()?;

    // It holds after a restart.
    let pages = open()?;
    assert_eq!(pages.get("/users/7")?, None);
    pages.invalidate_tag("layout")?;
    assert_eq!(pages.iter()?.count(), 0);
    Ok(())
}
