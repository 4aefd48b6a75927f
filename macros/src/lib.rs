//! The macros of larder. Use them as `larder::KeyEncode`, `larder::KeyDecode` and
//! `larder::cached`: `larder` re-exports and documents them.

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

mod cached;
mod derive;
mod options;

use derive::{Side, derive};
use options::Options;

/// Derives `larder::KeyEncode`.
#[proc_macro_derive(KeyEncode, attributes(key))]
pub fn derive_key_encode(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(&input, Side::Encode).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Derives `larder::KeyDecode`.
#[proc_macro_derive(KeyDecode, attributes(key))]
pub fn derive_key_decode(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(&input, Side::Decode).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Keeps the results of a function: `larder::cached`.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as Options);
    let item = parse_macro_input!(item as ItemFn);
    cached::cached(options, item).unwrap_or_else(|error| error.to_compile_error()).into()
}
