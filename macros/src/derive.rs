//! `KeyEncode` and `KeyDecode` for types of one's own.
//!
//! A value becomes its **shape**, then its fields in the order of their names. The shape is one
//! string: `Size{height,width}`, `Pair(2)`, `Shape::Circle{radius}`. So a type that is changed
//! in a way that could make old bytes mean something else has a new shape, and fields can be
//! moved about. What is skipped is not in the shape either.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, GenericParam, Ident, LitStr, Member, Result,
    parse_quote,
};

/// Which of the two traits is derived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Encode,
    Decode,
}

/// What `#[key(…)]` can say.
#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    skip: Option<Span>,
    transparent: Option<Span>,
}

impl Options {
    fn of(attrs: &[Attribute]) -> Result<Self> {
        let mut options = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("key")) {
            attr.parse_nested_meta(|meta| {
                let span = meta.path.span();
                if meta.path.is_ident("name") {
                    options.name = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("skip") {
                    options.skip = Some(span);
                } else if meta.path.is_ident("transparent") {
                    options.transparent = Some(span);
                } else {
                    let known = "`key` knows `name = \"…\"`, `skip` and `transparent`";
                    return Err(meta.error(known));
                }
                Ok(())
            })?;
        }
        Ok(options)
    }

    fn refuse(&self, skip: Option<&str>, transparent: Option<&str>) -> Result<()> {
        match (self.skip.zip(skip), self.transparent.zip(transparent)) {
            (Some((span, why)), _) | (_, Some((span, why))) => Err(Error::new(span, why)),
            _ => Ok(()),
        }
    }

    fn name_or(&self, ident: &Ident) -> String {
        self.name.as_ref().map_or_else(|| plain(ident), LitStr::value)
    }
}

/// A name without `r#`.
fn plain(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

/// A field that counts.
struct Field {
    member: Member,
    binding: Ident,
}

/// A struct, or a variant of an enum.
struct Part {
    shape: String,
    /// What counts, in the order in which it is encoded.
    fields: Vec<Field>,
    skipped: Vec<Member>,
}

impl Part {
    fn new(name: &str, fields: &Fields) -> Result<Self> {
        let mut named = Vec::new();
        let mut skipped = Vec::new();
        for (at, (field, member)) in fields.iter().zip(fields.members()).enumerate() {
            let options = Options::of(&field.attrs)?;
            options.refuse(None, Some("`transparent` is for the type, not for a field"))?;
            if options.skip.is_some() {
                skipped.push(member);
                continue;
            }
            let name = match &member {
                Member::Named(ident) => options.name_or(ident),
                Member::Unnamed(_) => match &options.name {
                    Some(name) => return Err(Error::new(name.span(), "this field has no name")),
                    None => String::new(),
                },
            };
            named.push((name, Field { member, binding: format_ident!("field_{at}") }));
        }
        // Stable: fields without names stay in their order.
        named.sort_by(|(one, _), (two, _)| one.cmp(two));
        if let Some([(name, _), (_, two)]) =
            named.array_windows().find(|[one, two]| !one.0.is_empty() && one.0 == two.0)
        {
            let why = format!("two fields are called `{name}` in keys");
            return Err(Error::new(two.member.span(), why));
        }
        let shape = match fields {
            Fields::Named(_) => {
                let names: Vec<&str> = named.iter().map(|(name, _)| &**name).collect();
                format!("{name}{{{}}}", names.join(","))
            }
            Fields::Unnamed(_) => format!("{name}({})", named.len()),
            Fields::Unit => name.to_owned(),
        };
        let fields = named.into_iter().map(|(_, field)| field).collect();
        Ok(Self { shape, fields, skipped })
    }

    /// An arm of a `match` that encodes the value that `path` stands for.
    fn encode(&self, path: &TokenStream) -> TokenStream {
        let shape = &self.shape;
        let members = self.fields.iter().map(|field| &field.member);
        let bindings: Vec<_> = self.fields.iter().map(|field| &field.binding).collect();
        quote! {
            #path { #(#members: #bindings,)* .. } => {
                ::larder::KeyBuf::shape(out, #shape);
                #(::larder::KeyEncode::encode(#bindings, out);)*
            }
        }
    }

    /// An arm of a `match` over shapes that reads the value.
    fn decode(&self, path: &TokenStream) -> TokenStream {
        let shape = &self.shape;
        let members = self.fields.iter().map(|field| &field.member);
        let bindings: Vec<_> = self.fields.iter().map(|field| &field.binding).collect();
        let skipped = &self.skipped;
        quote! {
            #shape => {
                #(let #bindings = ::larder::KeyDecode::decode(from)?;)*
                ::core::option::Option::Some(#path {
                    #(#members: #bindings,)*
                    #(#skipped: ::core::default::Default::default(),)*
                })
            }
        }
    }
}

/// The implementation, or why there can be none.
pub(crate) fn derive(input: &DeriveInput, side: Side) -> Result<TokenStream> {
    let options = Options::of(&input.attrs)?;
    options.refuse(Some("`skip` is for fields: a type that is skipped is no key"), None)?;
    let name = options.name_or(&input.ident);
    let body = match &input.data {
        _ if options.transparent.is_some() => transparent(input, &options, side)?,
        Data::Struct(data) => {
            let part = Part::new(&name, &data.fields)?;
            body(&[(part, quote!(Self))], side)
        }
        Data::Enum(data) => {
            let mut parts = Vec::new();
            for variant in &data.variants {
                let options = Options::of(&variant.attrs)?;
                options.refuse(
                    Some("a variant that is skipped would be equal to others: skip its fields"),
                    Some("`transparent` is for the type, not for a variant"),
                )?;
                let ident = &variant.ident;
                let name = format!("{name}::{}", options.name_or(ident));
                parts.push((Part::new(&name, &variant.fields)?, quote!(Self::#ident)));
            }
            for (at, (part, _)) in parts.iter().enumerate() {
                if parts[..at].iter().any(|(other, _)| other.shape == part.shape) {
                    let why = format!("two variants are `{}` in keys", part.shape);
                    return Err(Error::new(data.variants[at].span(), why));
                }
            }
            body(&parts, side)
        }
        Data::Union(data) => {
            let why = "a union cannot be a key: nothing says which of its fields counts";
            return Err(Error::new(data.union_token.span(), why));
        }
    };
    Ok(implementation(input, side, &body))
}

fn transparent(input: &DeriveInput, options: &Options, side: Side) -> Result<TokenStream> {
    let refuse = |why| Err(Error::new(options.transparent.unwrap_or_else(Span::call_site), why));
    if options.name.is_some() {
        return refuse("a transparent key has its field's bytes, and no name");
    }
    let Data::Struct(data) = &input.data else {
        return refuse("only a struct can be as its field");
    };
    let part = Part::new("", &data.fields)?;
    let [field] = &part.fields[..] else {
        return refuse("only a struct with one field that counts can be as that");
    };
    let (member, skipped) = (&field.member, &part.skipped);
    Ok(match side {
        Side::Encode => quote!(::larder::KeyEncode::encode(&self.#member, out)),
        Side::Decode => quote! {
            ::core::option::Option::Some(Self {
                #member: ::larder::KeyDecode::decode(from)?,
                #(#skipped: ::core::default::Default::default(),)*
            })
        },
    })
}

fn body(parts: &[(Part, TokenStream)], side: Side) -> TokenStream {
    match side {
        // There is no value of an enum without variants.
        Side::Encode if parts.is_empty() => quote! {
            let _ = out;
            match *self {}
        },
        Side::Encode => {
            let arms = parts.iter().map(|(part, path)| part.encode(path));
            quote!(match self { #(#arms)* })
        }
        Side::Decode => {
            let arms = parts.iter().map(|(part, path)| part.decode(path));
            quote! {
                match ::larder::KeyReader::shape(from)? {
                    #(#arms)*
                    _ => ::core::option::Option::None,
                }
            }
        }
    }
}

fn implementation(input: &DeriveInput, side: Side, body: &TokenStream) -> TokenStream {
    let ident = &input.ident;
    let mut generics = input.generics.clone();
    for param in &mut generics.params {
        if let GenericParam::Type(param) = param {
            param.bounds.push(match side {
                Side::Encode => parse_quote!(::larder::KeyEncode),
                Side::Decode => parse_quote!(::larder::KeyDecode),
            });
        }
    }
    let (with_bounds, names, wheres) = generics.split_for_impl();
    match side {
        Side::Encode => quote! {
            #[automatically_derived]
            impl #with_bounds ::larder::KeyEncode for #ident #names #wheres {
                fn encode(&self, out: &mut ::larder::KeyBuf) {
                    #body
                }
            }
        },
        Side::Decode => quote! {
            #[automatically_derived]
            impl #with_bounds ::larder::KeyDecode for #ident #names #wheres {
                fn decode(from: &mut ::larder::KeyReader<'_>) -> ::core::option::Option<Self> {
                    #body
                }
            }
        },
    }
}
