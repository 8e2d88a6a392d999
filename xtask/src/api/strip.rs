//! Of a crate's items, what is public of them.

use std::collections::BTreeSet;

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{
    Attribute, Block, Field, Fields, ImplItem, Item, ItemImpl, TraitItem, Visibility, parse_quote,
};

/// What is known of a crate before its items are looked at one by one.
#[derive(Debug)]
pub(super) struct Public {
    /// Private types and traits: what is implemented for them, nobody sees.
    private: BTreeSet<String>,
    /// Macros that make items, public ones perhaps.
    make_items: BTreeSet<String>,
}

impl Public {
    /// Of all items of a crate.
    pub(super) fn of<'a>(items: impl Iterator<Item = &'a Item>) -> Self {
        let (mut public, mut private) = (BTreeSet::new(), BTreeSet::new());
        let mut make_items = BTreeSet::new();
        for item in items {
            let (vis, ident) = match item {
                Item::Enum(item) => (&item.vis, &item.ident),
                Item::Macro(item) if item.ident.is_none() => {
                    make_items.extend(item.mac.path.get_ident().map(ToString::to_string));
                    continue;
                }
                Item::Struct(item) => (&item.vis, &item.ident),
                Item::Trait(item) => (&item.vis, &item.ident),
                Item::Type(item) => (&item.vis, &item.ident),
                _ => continue,
            };
            let set = if is_public(vis) {
                &mut public
            } else {
                &mut private
            };
            set.insert(ident.to_string());
        }
        // A name that is both is shown.
        let private = private.difference(&public).cloned().collect();
        Self {
            private,
            make_items,
        }
    }

    /// The public ones, without what is private in them.
    pub(super) fn only(&self, items: Vec<Item>) -> Vec<Item> {
        let shown = items.into_iter().filter_map(|item| self.item(item));
        shown.collect()
    }

    fn item(&self, mut item: Item) -> Option<Item> {
        let empty: Block = parse_quote!({});
        let is_seen = match &mut item {
            Item::Const(item) => {
                strip(&mut item.attrs);
                is_public(&item.vis)
            }
            Item::Enum(item) => {
                strip(&mut item.attrs);
                for variant in &mut item.variants {
                    strip(&mut variant.attrs);
                    // Those of an enum are public.
                    each(&mut variant.fields, |field| strip(&mut field.attrs));
                }
                is_public(&item.vis)
            }
            Item::Fn(item) => {
                strip(&mut item.attrs);
                *item.block = empty;
                is_public(&item.vis)
            }
            Item::Impl(item) => self.implementation(item),
            Item::Macro(item) => {
                let exported = item.attrs.iter().any(|a| a.path().is_ident("macro_export"));
                strip(&mut item.attrs);
                let name = item.ident.as_ref().map(ToString::to_string);
                if exported {
                    // What it takes is in its documentation; its rules are how it does it.
                    item.mac.tokens = parse_quote!(() => {};);
                } else {
                    item.mac.tokens = without_docs(std::mem::take(&mut item.mac.tokens));
                }
                exported || name.is_none_or(|name| self.make_items.contains(&name))
            }
            Item::Mod(item) => {
                strip(&mut item.attrs);
                if let Some((_, items)) = &mut item.content {
                    *items = self.only(std::mem::take(items));
                }
                is_public(&item.vis)
            }
            Item::Struct(item) => {
                strip(&mut item.attrs);
                private_fields(&mut item.fields);
                is_public(&item.vis)
            }
            Item::Trait(item) => {
                strip(&mut item.attrs);
                for item in &mut item.items {
                    match item {
                        TraitItem::Fn(item) => {
                            strip(&mut item.attrs);
                            item.default = item.default.take().map(|_| empty.clone());
                        }
                        TraitItem::Type(item) => strip(&mut item.attrs),
                        TraitItem::Const(item) => strip(&mut item.attrs),
                        _ => {}
                    }
                }
                is_public(&item.vis)
            }
            Item::Type(item) => {
                strip(&mut item.attrs);
                is_public(&item.vis)
            }
            Item::Use(item) => {
                strip(&mut item.attrs);
                is_public(&item.vis)
            }
            _ => false,
        };
        is_seen.then_some(item)
    }

    fn has_private(&self, names: TokenStream) -> bool {
        names.into_iter().any(|token| match token {
            TokenTree::Ident(name) => self.private.contains(&name.to_string()),
            TokenTree::Group(group) => self.has_private(group.stream()),
            _ => false,
        })
    }

    /// Whether anything of it is seen.
    fn implementation(&self, item: &mut ItemImpl) -> bool {
        strip(&mut item.attrs);
        let of_trait = item
            .trait_
            .as_ref()
            .map(|(path, ..)| path.to_token_stream());
        let mut names = item.self_ty.to_token_stream();
        names.extend(of_trait);
        if self.has_private(names) {
            return false;
        }
        let inherent = item.trait_.is_none();
        item.items.retain_mut(|item| match item {
            ImplItem::Const(item) => {
                strip(&mut item.attrs);
                inherent && is_public(&item.vis)
            }
            ImplItem::Fn(item) => {
                strip(&mut item.attrs);
                item.block = parse_quote!({});
                inherent && is_public(&item.vis)
            }
            // Those of a trait, too, are for others to name.
            ImplItem::Type(item) => {
                strip(&mut item.attrs);
                true
            }
            _ => false,
        });
        !inherent || !item.items.is_empty()
    }
}

/// Tokens, without the documentation in them.
fn without_docs(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_doc = |next: &TokenTree| matches!(next, TokenTree::Group(group) if group.stream().to_string().starts_with("doc"));
        match token {
            TokenTree::Punct(hash)
                if hash.as_char() == '#' && tokens.peek().is_some_and(is_doc) =>
            {
                tokens.next();
            }
            TokenTree::Group(group) => {
                let inside = without_docs(group.stream());
                kept.push(Group::new(group.delimiter(), inside).into());
            }
            other => kept.push(other),
        }
    }
    kept.into_iter().collect()
}

/// Whether it is there for tests alone.
pub(super) fn is_test(item: &Item) -> bool {
    let attrs = match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return false,
    };
    let test: Attribute = parse_quote!(#[cfg(test)]);
    attrs.contains(&test)
}

const fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Leaves the attributes that others depend on.
fn strip(attrs: &mut Vec<Attribute>) {
    const SHOWN: [&str; 6] = [
        "async_trait",
        "cfg",
        "derive",
        "must_use",
        "non_exhaustive",
        "repr",
    ];
    attrs.retain_mut(|attr| {
        if attr.path().is_ident("must_use") {
            // Why, is documentation.
            *attr = parse_quote!(#[must_use]);
        }
        SHOWN.iter().any(|shown| attr.path().is_ident(shown))
    });
}

fn each(fields: &mut Fields, mut change: impl FnMut(&mut Field)) {
    for field in fields {
        change(field);
    }
}

/// Tells no more of private fields than that there are some.
fn private_fields(fields: &mut Fields) {
    each(fields, |field| strip(&mut field.attrs));
    match fields {
        Fields::Named(fields) => {
            let all = std::mem::take(&mut fields.named);
            let count = all.len();
            let public = all.into_iter().filter(|field| is_public(&field.vis));
            fields.named = public.collect();
            if fields.named.len() < count {
                fields.named.push(Field {
                    ident: Some(parse_quote!(_private)),
                    ..parse_quote!(())
                });
            }
        }
        Fields::Unnamed(fields) => {
            for field in &mut fields.unnamed {
                if !is_public(&field.vis) {
                    field.ty = parse_quote!(_);
                    field.vis = Visibility::Inherited;
                }
            }
        }
        Fields::Unit => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_left_out() {
        let file = syn::parse_file(
            "/// A.\n#[derive(Debug)] #[must_use = \"x\"] pub struct A { pub a: u8, b: u8 }\n\
             struct B;\n\
             pub struct C(u8, pub u16);\n\
             impl A { pub fn f(&self) -> u8 { 1 } fn g() {} }\n\
             impl B { pub fn f() {} }\n\
             impl From<A> for C { fn from(_: A) -> Self { todo!() } }\n\
             impl From<A> for B { fn from(_: A) -> Self { B } }\n\
             pub trait T { type U; fn a(&self); fn b(&self) { self.a() } }\n\
             pub(crate) fn h() {}\n\
             #[macro_export] macro_rules! m { ($a:expr) => { $a }; }\n\
             id! { /// A number.\n pub struct N; }\n\
             macro_rules! n { () => {}; }\n\
             impl From<B> for A { fn from(_: B) -> Self { todo!() } }\n\
             #[cfg(test)] mod tests { pub fn x() {} }\n",
        )
        .unwrap();
        let items: Vec<Item> = file.items.into_iter().filter(|i| !is_test(i)).collect();
        let items = Public::of(items.iter()).only(items);
        let file = syn::File {
            items,
            ..syn::parse_str("").unwrap()
        };
        let expected = "\
#[derive(Debug)]
#[must_use]
pub struct A {
    pub a: u8,
    _private: (),
}
pub struct C(_, pub u16);
impl A {
    pub fn f(&self) -> u8 {}
}
impl From<A> for C {}
pub trait T {
    type U;
    fn a(&self);
    fn b(&self) {}
}
macro_rules! m {
    () => {};
}
id! {
    pub struct N;
}
";
        assert_eq!(prettyplease::unparse(&file), expected);
    }
}
