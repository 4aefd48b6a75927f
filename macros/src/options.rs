//! What `#[cached(…)]` can say.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{
    Error, Expr, ExprArray, ExprLit, Ident, Lit, LitStr, Result, Token, Type, parenthesized,
};

/// The words that are known, for who mistypes one.
const KNOWN: &str = "`capacity`, `memory`, `policy`, `ttl`, `serve_stale`, `serve_stale_on_error`, \
    `refresh_ahead`, `refresh_early`, `jitter`, `disk`, `engine`, `cache`, `codec`, `setup`, `offload`, `name`, \
    `namespace`, `version`, `ignore_code`, `key`, `ignore(…)`, `tolerance`, `tags`, `cache_if`, \
    `valid_if`, `cache_errors`, `cache_none`, `associated`";

#[derive(Default)]
pub(crate) struct Options {
    /// Calls on the setup of the function, in the order in which they were said.
    pub(crate) setup: Vec<TokenStream>,
    pub(crate) cache: Option<Expr>,
    pub(crate) codec: Option<Type>,
    pub(crate) key: Option<Expr>,
    pub(crate) ignore: Vec<Ident>,
    /// For all floats.
    pub(crate) tolerance: Option<Expr>,
    /// For one argument.
    pub(crate) tolerances: Vec<(Ident, Expr)>,
    pub(crate) tags: Vec<Expr>,
    pub(crate) keeps_errors: Option<Span>,
    pub(crate) keeps_none: Option<Span>,
    pub(crate) ignores_code: bool,
    pub(crate) is_associated: bool,
    /// What decides what a key means, as it was written.
    pub(crate) meaning: TokenStream,
    /// Settings of a cache of its own.
    own: Option<Ident>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let word: Ident = input.parse()?;
            if seen.contains(&word) {
                return Err(Error::new(word.span(), format!("`{word}` is said twice")));
            }
            options.parse_one(&word, input)?;
            seen.push(word);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        options.validate()?;
        Ok(options)
    }
}

impl Options {
    fn parse_one(&mut self, word: &Ident, input: ParseStream<'_>) -> Result<()> {
        let text = word.to_string();
        match &*text {
            "capacity" | "memory" | "disk" | "engine" => {
                let value: Expr = value(input)?;
                self.own = Some(word.clone());
                self.setup.push(quote!(.#word(#value)));
            }
            "setup" => {
                let value: Expr = value(input)?;
                self.own = Some(word.clone());
                self.setup.push(quote!(.with(#value)));
            }
            "namespace" => {
                let value: Expr = value(input)?;
                self.own = Some(word.clone());
                self.setup.push(quote!(.with(|builder| builder.namespace(#value))));
            }
            "ttl" => {
                let value: Expr = value(input)?;
                let duration = duration(&value)?;
                self.setup.push(quote!(.ttl(#duration)));
            }
            "serve_stale" | "serve_stale_on_error" | "refresh_ahead" => {
                let value: Expr = value(input)?;
                let duration = duration(&value)?;
                self.own = Some(word.clone());
                self.setup.push(quote!(.with(|builder| builder.#word(#duration))));
            }
            "refresh_early" | "jitter" | "policy" => {
                let value: Expr = value(input)?;
                self.own = Some(word.clone());
                self.setup.push(quote!(.with(|builder| builder.#word(#value))));
            }
            "name" | "version" | "cache_if" | "valid_if" | "offload" => {
                let value: Expr = value(input)?;
                self.setup.push(quote!(.#word(#value)));
            }
            "cache" => self.cache = Some(value(input)?),
            "codec" => self.codec = Some(value(input)?),
            "key" => {
                let key: Expr = value(input)?;
                self.means(word, &key.to_token_stream());
                self.key = Some(key);
            }
            "ignore" => {
                let content;
                parenthesized!(content in input);
                let names =
                    Punctuated::<Ident, Token![,]>::parse_terminated_with(&content, |input| {
                        input.call(syn::ext::IdentExt::parse_any)
                    })?;
                self.means(word, &names.to_token_stream());
                self.ignore = names.into_iter().collect();
            }
            "tolerance" if input.peek(Token![=]) => {
                let tolerance: Expr = value(input)?;
                self.means(word, &tolerance.to_token_stream());
                self.tolerance = Some(tolerance);
            }
            "tolerance" => {
                let content;
                parenthesized!(content in input);
                let each = content.parse_terminated(
                    |input| {
                        let name: Ident = input.parse()?;
                        Ok((name, value::<Expr>(input)?))
                    },
                    Token![,],
                )?;
                for (name, tolerance) in each {
                    self.means(&name, &tolerance.to_token_stream());
                    self.tolerances.push((name, tolerance));
                }
            }
            "tags" => {
                let tags: ExprArray = value(input)?;
                self.tags = tags.elems.into_iter().collect();
            }
            "cache_errors" => {
                self.means(word, &TokenStream::new());
                self.keeps_errors = Some(word.span());
            }
            "cache_none" => {
                self.means(word, &TokenStream::new());
                self.keeps_none = Some(word.span());
            }
            "ignore_code" => self.ignores_code = true,
            "associated" => self.is_associated = true,
            _ => {
                let why = format!("`cached` does not know `{word}`; it knows {KNOWN}");
                return Err(Error::new(word.span(), why));
            }
        }
        Ok(())
    }

    fn means(&mut self, word: &Ident, value: &TokenStream) {
        self.meaning.extend(quote!(#word = #value;));
    }

    fn validate(&self) -> Result<()> {
        if let (Some(cache), Some(own)) = (&self.cache, &self.own) {
            let why = format!("`cache` is there already: `{own}` is for a cache of its own");
            return Err(Error::new(cache.span(), why));
        }
        if let (Some(key), Some(name)) = (&self.key, self.ignore.first()) {
            let why = format!("`key` says all that counts: leave `{name}` out of it instead");
            return Err(Error::new(key.span(), why));
        }
        if let (Some(key), true) =
            (&self.key, self.tolerance.is_some() || !self.tolerances.is_empty())
        {
            let why = "`key` says all that counts: round in it, with `larder::Rounded`";
            return Err(Error::new(key.span(), why));
        }
        Ok(())
    }

    /// How near this argument has to be to be the same, if it is rounded.
    pub(crate) fn tolerance_of(&self, name: &Ident, ty: &Type) -> Option<&Expr> {
        let own = self.tolerances.iter().find(|(other, _)| other == name);
        own.map(|(_, tolerance)| tolerance)
            .or_else(|| self.tolerance.as_ref().filter(|_| has_float(ty.to_token_stream())))
    }
}

fn value<T: Parse>(input: ParseStream<'_>) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// Whether a type is spelled with a float.
fn has_float(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        proc_macro2::TokenTree::Group(group) => has_float(group.stream()),
        proc_macro2::TokenTree::Ident(ident) => ident == "f32" || ident == "f64",
        _ => false,
    })
}

/// A duration, which may be spelled as text.
fn duration(value: &Expr) -> Result<TokenStream> {
    let Expr::Lit(ExprLit { lit, .. }) = value else {
        return Ok(value.to_token_stream());
    };
    let Lit::Str(text) = lit else {
        let why = "how long? Say `\"10s\"` or give a `Duration`";
        return Err(Error::new(value.span(), why));
    };
    let duration = parse_duration(text)?;
    let (secs, nanos) = (duration.as_secs(), duration.subsec_nanos());
    Ok(quote!(::core::time::Duration::new(#secs, #nanos)))
}

/// `1h30m`: numbers, each with its unit.
fn parse_duration(text: &LitStr) -> Result<Duration> {
    let refuse = || {
        let why = "not a duration: write numbers with units `ms`, `s`, `m`, `h` or `d`, as in `\"1h30m\"`";
        Error::new(text.span(), why)
    };
    let value = text.value();
    let mut rest = value.trim();
    let mut sum_ms = 0_u64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.len() - behind.trim_start_matches(char::is_alphabetic).len();
        let (unit, behind) = behind.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refuse()),
        };
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let part_ms = number.checked_mul(unit_ms).ok_or_else(refuse)?;
        sum_ms = sum_ms.checked_add(part_ms).ok_or_else(refuse)?;
        rest = behind.trim_start();
    }
    if sum_ms == 0 { Err(refuse()) } else { Ok(Duration::from_millis(sum_ms)) }
}
