//! Progress bars: on stderr, and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` things that `template` shows, quiet when `hidden`.
///
/// indicatif draws nothing unless stderr is a terminal.
fn bar(total: u64, template: &str, hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A bar over files, with the name of one as its message.
pub(crate) fn files(total: u64, hidden: bool) -> ProgressBar {
    bar(total, "{bar:30} {pos}/{len} files, {eta} left  {wide_msg}", hidden)
}

/// A bar over the bytes of a file.
pub(crate) fn bytes(total: u64, hidden: bool) -> ProgressBar {
    bar(total, "{bar:30} {percent:>3} %, {eta} left  {wide_msg}", hidden)
}

/// A bar over requests.
pub(crate) fn requests(total: u64) -> ProgressBar {
    bar(total, "{bar:30} {human_pos}/{human_len} requests, {eta} left  {wide_msg}", false)
}

/// A bar over segments; how many comes later.
pub(crate) fn segments(hidden: bool) -> ProgressBar {
    bar(0, "{bar:30} {pos}/{len} segments, {eta} left", hidden)
}

/// Says that something is under way whose end is not known.
pub(crate) fn waiting(what: &'static str, hidden: bool) -> ProgressBar {
    let bar = bar(0, "{spinner} {msg}, {elapsed}", hidden);
    bar.set_message(what);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_count_even_when_hidden() {
        for bar in
            [files(3, true), bytes(3, true), segments(true), waiting("on", true), files(3, false)]
        {
            bar.inc(2);
            assert_eq!(bar.position(), 2);
            bar.finish_and_clear();
        }
    }
}
