//! `#[cached]`: a function, and beside it what asks about its results.
//!
//! For `fn area(…) -> f64` are generated:
//!
//! | item | what it is |
//! |---|---|
//! | `area(…)` | looks for the result, and runs `area_uncached` on a miss |
//! | `area_uncached(…)` | the function as it was written |
//! | `area_fresh(…)` | runs it whatever is kept, and keeps the result |
//! | `area_call(…)` | a call to be asked about |
//! | `area_cache()` | all its results; holds the `static` |

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{
    Error, FnArg, GenericArgument, GenericParam, Ident, ItemFn, Pat, PathArguments, Receiver,
    Result, ReturnType, Safety, Type, WherePredicate,
};

use crate::options::Options;

/// An argument that is not `self`.
struct Argument {
    name: Ident,
    ty: Type,
}

struct Function {
    item: ItemFn,
    options: Options,
    receiver: Option<Receiver>,
    arguments: Vec<Argument>,
    /// What is kept.
    value: Type,
    /// What is returned.
    result: Type,
}

pub(crate) fn cached(options: Options, item: ItemFn) -> Result<TokenStream> {
    Function::new(options, item).map(|function| function.expand())
}

impl Function {
    fn new(options: Options, item: ItemFn) -> Result<Self> {
        let sig = &item.sig;
        let refuse = |span: Span, why: &str| Err(Error::new(span, why));
        if let Some(token) = &sig.constness {
            return refuse(token.span(), "what a const function computes is kept by the compiler");
        }
        if sig.abi.is_some() || sig.variadic.is_some() {
            return refuse(sig.span(), "a function of another language cannot be cached");
        }
        if !matches!(sig.safety, Safety::Default) {
            let why = "only a function that is safe to call can be cached: callers of another \
                       promise things about each call";
            return refuse(sig.span(), why);
        }
        let mut receiver = None;
        let mut arguments = Vec::new();
        for (at, input) in sig.inputs.iter().enumerate() {
            match input {
                FnArg::Receiver(found) => receiver = Some(checked(found)?),
                FnArg::Typed(found) => {
                    let name = match &*found.pat {
                        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {
                            pat.ident.clone()
                        }
                        _ => format_ident!("argument_{at}"),
                    };
                    let ty = (*found.ty).clone();
                    check_argument(&ty)?;
                    arguments.push(Argument { name, ty });
                }
            }
        }
        for name in options.ignore.iter().chain(options.tolerances.iter().map(|(name, _)| name)) {
            let is_self = name == "self" && receiver.is_some();
            if !is_self && !arguments.iter().any(|argument| argument.name == *name) {
                return refuse(name.span(), "the function has no argument of this name");
            }
        }
        if arguments.len() >= 255 {
            return refuse(
                sig.inputs.span(),
                "a function of 255 arguments or more cannot be cached",
            );
        }
        let result = match &sig.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        };
        let value = kept(&result, &options)?;
        Ok(Self { item, options, receiver, arguments, value, result })
    }

    fn expand(&self) -> TokenStream {
        let functions =
            [self.cached(), self.uncached(), self.fresh(), self.call(), self.accessor()];
        quote!(#(#functions)*)
    }

    fn cached(&self) -> TokenStream {
        let ItemFn { attrs, vis, .. } = &self.item;
        let sig = self.signature(self.item.sig.ident.clone());
        let (begin, value, result) = (self.begin(), &self.value, &self.result);
        let body = self.body();
        if sig.asyncness.is_some() {
            return quote! {
                #(#attrs)*
                #vis #sig {
                    ::larder::memo::async_functions_need_the_feature_async_of_larder();
                    #begin
                    __larder_function.find_or_await(__larder_key, #body).await
                }
            };
        }
        quote! {
            #(#attrs)*
            #vis #sig {
                #begin
                if let ::core::option::Option::Some(__larder_value) = __larder_function.find(&mut __larder_key) {
                    return <#result as ::larder::memo::Returns<#value>>::kept(__larder_value);
                }
                __larder_function.run(&mut __larder_key, #body)
            }
        }
    }

    fn uncached(&self) -> TokenStream {
        let ItemFn { vis, block, .. } = &self.item;
        let mut sig = self.item.sig.clone();
        sig.ident = self.named("uncached");
        let attrs = self.attributes("as it was written: computes, and keeps nothing.");
        quote! {
            #attrs
            #vis #sig #block
        }
    }

    fn fresh(&self) -> TokenStream {
        let vis = &self.item.vis;
        let sig = self.signature(self.named("fresh"));
        let (begin, body) = (self.begin(), self.body());
        let attrs = self.attributes("computed whatever is kept, and kept in place of that.");
        let run = if sig.asyncness.is_some() {
            quote!(__larder_function.await_fresh(__larder_key, #body).await)
        } else {
            quote!(__larder_function.run_fresh(&mut __larder_key, #body))
        };
        quote! {
            #attrs
            #vis #sig {
                #begin
                #run
            }
        }
    }

    fn call(&self) -> TokenStream {
        let vis = &self.item.vis;
        let mut sig = self.signature(self.named("call"));
        let (value, codec) = (&self.value, self.codec());
        sig.asyncness = None;
        sig.output = syn::parse_quote!(-> ::larder::memo::Call<'static, #value #codec>);
        let begin = self.begin();
        let attrs = self.attributes("as a call that is asked about and not made.");
        quote! {
            #[allow(unused_variables, reason = "arguments that do not count")]
            #attrs
            #[must_use]
            #vis #sig {
                #begin
                ::larder::memo::Call::new(__larder_function, __larder_key)
            }
        }
    }

    fn accessor(&self) -> TokenStream {
        let (vis, value, codec) = (&self.item.vis, &self.value, self.codec());
        let accessor = self.named("cache");
        let name = self.item.sig.ident.to_string();
        let name = name.trim_start_matches("r#");
        let (generics, wheres) = self.generics();
        let setup = match &self.options.cache {
            Some(cache) => quote!(::larder::memo::Setup::shared(body, #name, &#cache)),
            None => quote!(::larder::memo::Setup::own(body, #name)),
        };
        let code = if self.options.ignores_code { 0 } else { self.code() };
        let steps = &self.options.setup;
        let attrs = self.attributes("as the results that are kept of it.");
        quote! {
            #attrs
            #[must_use]
            #vis fn #accessor #generics() -> &'static ::larder::memo::Function<#value #codec> #wheres {
                static SITE: ::larder::memo::Site = ::larder::memo::Site::new();
                SITE.get(&|| (), |body| #setup #(#steps)*.code(#code).function())
            }
        }
    }

    /// Finds the function, and encodes the arguments.
    fn begin(&self) -> TokenStream {
        let accessor = self.path(&self.named("cache"));
        let types = self.type_arguments();
        let encode = match &self.options.key {
            Some(key) => {
                quote_spanned!(key.span()=> ::larder::KeyEncode::encode(&{ #key }, &mut __larder_key);)
            }
            None => self.encode_arguments(),
        };
        quote! {
            let __larder_function = #accessor #types();
            let mut __larder_key = __larder_function.begin();
            #encode
        }
    }

    fn encode_arguments(&self) -> TokenStream {
        let options = &self.options;
        let counts = |name: &Ident| !options.ignore.contains(name);
        let mut encoded = Vec::new();
        if let Some(receiver) = &self.receiver
            && !options.ignore.iter().any(|name| name == "self")
        {
            encoded.push(quote_spanned! {receiver.span()=>
                ::larder::KeyEncode::encode(&self, &mut __larder_key);
            });
        }
        for Argument { name, ty } in self.arguments.iter().filter(|argument| counts(&argument.name))
        {
            encoded.push(match options.tolerance_of(name, ty) {
                Some(tolerance) => quote_spanned! {ty.span()=>
                    ::larder::Tolerant::encode_within(&#name, #tolerance, &mut __larder_key);
                },
                None => quote_spanned! {ty.span()=>
                    ::larder::KeyEncode::encode(&#name, &mut __larder_key);
                },
            });
        }
        // Fewer than 255: checked.
        let count = u8::try_from(encoded.len()).unwrap_or(u8::MAX);
        quote! {
            __larder_key.arguments(#count);
            #(#encoded)*
        }
    }

    /// What says the result's tags, and computes it.
    fn body(&self) -> TokenStream {
        let uncached = self.path(&self.named("uncached"));
        let types = self.type_arguments();
        let names = self.arguments.iter().map(|argument| &argument.name);
        let receiver = self.receiver.iter().map(|receiver| &receiver.self_token);
        let tags = &self.options.tags;
        quote! {
            move |__larder_extra: &mut ::larder::memo::Extra| {
                let _ = &__larder_extra;
                #(__larder_extra.tag(#tags);)*
                #uncached #types(#(#receiver,)* #(#names),*)
            }
        }
    }

    /// The signature with names for all arguments.
    fn signature(&self, name: Ident) -> syn::Signature {
        let mut sig = self.item.sig.clone();
        sig.ident = name;
        let mut arguments = self.arguments.iter();
        for input in &mut sig.inputs {
            if let FnArg::Typed(input) = input
                && let Some(Argument { name, .. }) = arguments.next()
            {
                *input.pat = syn::parse_quote!(#name);
            }
        }
        sig
    }

    /// The generics of what has no arguments: all but lifetimes.
    fn generics(&self) -> (TokenStream, TokenStream) {
        let generics = &self.item.sig.generics;
        let params = generics.params.iter().filter(|p| !matches!(p, GenericParam::Lifetime(_)));
        let params: Vec<_> = params.collect();
        let wheres = generics.where_clause.iter().flat_map(|clause| &clause.predicates);
        let wheres: Vec<_> = wheres.filter(|p| !matches!(p, WherePredicate::Lifetime(_))).collect();
        let wheres = (!wheres.is_empty()).then(|| quote!(where #(#wheres),*));
        let params = (!params.is_empty()).then(|| quote!(<#(#params),*>));
        (params.into_token_stream(), wheres.into_token_stream())
    }

    fn type_arguments(&self) -> TokenStream {
        let names: Vec<_> = self
            .item
            .sig
            .generics
            .params
            .iter()
            .filter_map(|param| match param {
                GenericParam::Type(param) => Some(&param.ident),
                GenericParam::Const(param) => Some(&param.ident),
                GenericParam::Lifetime(_) => None,
            })
            .collect();
        if names.is_empty() { TokenStream::new() } else { quote!(::<#(#names),*>) }
    }

    /// Where a function beside this one is found.
    fn path(&self, name: &Ident) -> TokenStream {
        let mentions_self = || {
            let Self { item, .. } = self;
            has_word(item.sig.to_token_stream(), "Self")
                || has_word(item.block.to_token_stream(), "Self")
        };
        if self.receiver.is_some() || self.options.is_associated || mentions_self() {
            quote!(Self::#name)
        } else {
            quote!(#name)
        }
    }

    fn named(&self, what: &str) -> Ident {
        format_ident!("{}_{what}", self.item.sig.ident)
    }

    fn codec(&self) -> TokenStream {
        self.options.codec.as_ref().map(|codec| quote!(, #codec)).into_token_stream()
    }

    fn attributes(&self, doc: &str) -> TokenStream {
        let doc = format!("`{}` {doc}", self.item.sig.ident);
        let cfgs = self.item.attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
        quote! {
            #(#cfgs)*
            #[doc = #doc]
            #[allow(dead_code, reason = "not all of what is generated need be used")]
        }
    }

    /// A hash of the code: what is computed, and what keys mean. Neither comments nor the way it
    /// is laid out count.
    fn code(&self) -> u64 {
        let ItemFn { sig, block, .. } = &self.item;
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.tokens(sig.generics.to_token_stream());
        hash.tokens(sig.inputs.to_token_stream());
        hash.tokens(sig.output.to_token_stream());
        hash.tokens(block.to_token_stream());
        hash.tokens(self.options.meaning.clone());
        hash.0
    }
}

/// A receiver that can be part of a key.
fn checked(receiver: &Receiver) -> Result<Receiver> {
    let is_mutable = receiver.to_token_stream().into_iter().any(|token| is_word(&token, "mut"));
    if is_mutable {
        let why =
            "a method that changes `self` cannot be cached: on a hit nothing would be changed";
        return Err(Error::new(receiver.span(), why));
    }
    Ok(receiver.clone())
}

fn check_argument(ty: &Type) -> Result<()> {
    match ty {
        Type::Reference(reference) if reference.mutability.is_some() => {
            let why = "an argument that the function changes cannot be cached: on a hit nothing would \
                       be changed";
            Err(Error::new(ty.span(), why))
        }
        _ if has_word(ty.to_token_stream(), "impl") => {
            let why = "name the type: `fn f<T: Trait>(value: T)` instead of `value: impl Trait`";
            Err(Error::new(ty.span(), why))
        }
        _ => Ok(()),
    }
}

/// What of a result is kept.
fn kept(result: &Type, options: &Options) -> Result<Type> {
    let (inner, keeps_all, word) = match part(result) {
        Some((name, inner)) if name == "Result" => (inner, options.keeps_errors, "cache_errors"),
        Some((name, inner)) if name == "Option" => (inner, options.keeps_none, "cache_none"),
        _ => (Some(result), None, ""),
    };
    for (asked, its) in [(options.keeps_errors, "cache_errors"), (options.keeps_none, "cache_none")]
    {
        if let Some(span) = asked.filter(|_| word != its) {
            let kind = if its == "cache_errors" { "a `Result`" } else { "an `Option`" };
            return Err(Error::new(span, format!("`{its}` is for a function that returns {kind}")));
        }
    }
    let Some(value) = (if keeps_all.is_some() { Some(result) } else { inner }) else {
        let why = "write the types out, as in `Result<T, E>`, so that it can be seen what is kept";
        return Err(Error::new(result.span(), why));
    };
    if let Some(span) = borrows(value) {
        let why = "a cached function returns what it owns: a borrow would outlive what it is of";
        return Err(Error::new(span, why));
    }
    if has_word(value.to_token_stream(), "impl") {
        let why = "name the type that is returned: it has to be written to the cache";
        return Err(Error::new(value.span(), why));
    }
    Ok(value.clone())
}

/// The last part of a path, and the first type that it is given.
fn part(ty: &Type) -> Option<(&Ident, Option<&Type>)> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let inner = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => {
            arguments.args.iter().find_map(|arg| match arg {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
        }
        _ => None,
    };
    Some((&last.ident, inner))
}

/// A borrow in a type, if it is spelled as one and not for ever.
fn borrows(ty: &Type) -> Option<Span> {
    match ty {
        Type::Reference(reference) => {
            let for_ever = reference.lifetime.as_ref().is_some_and(|life| life.ident == "static");
            (!for_ever).then(|| ty.span())
        }
        Type::Path(_) => {
            let (_, inner) = part(ty)?;
            borrows(inner?)
        }
        Type::Tuple(tuple) => tuple.elems.iter().find_map(borrows),
        _ => None,
    }
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn has_word(tokens: TokenStream, word: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => has_word(group.stream(), word),
        token => is_word(&token, word),
    })
}

/// FNV-1a (Fowler, Noll, Vo 1991) over tokens. It has to be the same in every build, and nobody
/// chooses code so that it collides.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    self.bytes(format!("{:?}", group.delimiter()).as_bytes());
                    self.tokens(group.stream());
                    self.bytes(b"\0]");
                }
                token => {
                    self.bytes(token.to_string().as_bytes());
                    self.bytes(b"\0");
                }
            }
        }
        self.bytes(b"\0;");
    }
}
