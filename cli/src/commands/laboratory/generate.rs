//! `generate`: makes up a trace.

use anyhow::Context as _;
use larder_lab::Writer;
use larder_lab::generate::{Load, Sizes};
use larder_lab::links::LinksBuilder;
use larder_lab::trace::{Access, CHUNK};

use super::go_on;
use crate::args::Generate;
use crate::output::Exit;
use crate::{interrupt, progress};

pub(in super::super) fn run(args: &Generate) -> anyhow::Result<Exit> {
    let load = load(args)?;
    let mut writer = Writer::create(&args.out)?;
    interrupt::listen()?;
    let bar = progress::requests(load.requests);
    // A trace that says when objects are asked for again needs the load twice: it is the same.
    let mut links = None;
    if writer.has_links() {
        let dir = args.out.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut builder = LinksBuilder::new(dir)?;
        bar.set_message("linking requests");
        for (at, access) in load.accesses()?.enumerate() {
            if at % CHUNK == 0 && go_on().is_break() {
                return Ok(Exit::Interrupted);
            }
            builder.push(access.id)?;
        }
        links = Some(builder.finish()?);
    }
    bar.set_message("writing");
    let mut accesses = load.accesses()?;
    let mut chunk: Vec<Access> = Vec::with_capacity(CHUNK);
    loop {
        chunk.clear();
        chunk.extend(accesses.by_ref().take(CHUNK));
        if chunk.is_empty() {
            break;
        }
        if go_on().is_break() {
            return Ok(Exit::Interrupted);
        }
        if let Some(links) = &mut links {
            links.fill(&mut chunk)?;
        }
        writer.write(&chunk)?;
        bar.inc(chunk.len() as u64);
    }
    writer.finish()?;
    bar.finish_and_clear();
    Ok(Exit::Fine)
}

fn load(args: &Generate) -> anyhow::Result<Load> {
    let usual = Load::new(args.kind, args.requests, args.objects);
    let size = u32::try_from(args.size.0).ok().context("--size must be at most 1GiB")?;
    let sizes = match args.size_sigma {
        Some(sigma) => Sizes::LogNormal { median: f64::from(size), sigma },
        None => Sizes::Constant(size),
    };
    Ok(Load {
        seed: args.seed,
        skew: args.skew,
        share: args.share,
        period: args.period.unwrap_or(usual.period),
        length: args.length.unwrap_or(usual.length),
        sizes,
        ..usual
    })
}
