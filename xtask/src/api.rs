//! `cargo xtask api`: what others compile against, written down, so that a change of it is seen.
//!
//! A listing is the source of a crate without what nobody outside can name or see: private items,
//! bodies, documentation. So it needs no particular compiler. In a module that is private, what is
//! `pub` is exported elsewhere: the lint `unreachable_pub` sees to that.

mod strip;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use syn::Item;

use crate::shell::Workspace;

/// The crates that others build parts of their own on.
const CRATES: [&str; 2] = ["neo-api", "neo-testkit"];

const HEADER: &str = "\
// The public API, by `cargo xtask api`. Trait methods that end with {} have a default, types with a
// field `_private` can't be made by naming their fields.
";

/// Writes the listings anew.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    for name in CRATES {
        let path = workspace.root.join(file(name));
        let listing = listing(workspace, name)?;
        fs::write(&path, listing).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Whether the listings are what is there.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    for name in CRATES {
        let file = file(name);
        let known = fs::read_to_string(workspace.root.join(&file)).unwrap_or_default();
        let now = listing(workspace, name)?;
        if known != now {
            bail!(
                "the public API of {name} changed, {}: cargo xtask api, and say it in CHANGELOG.md",
                first_difference(&file, &known, &now)
            );
        }
    }
    Ok(())
}

fn file(name: &str) -> String {
    format!("docs/api/{name}.txt")
}

fn first_difference(file: &str, known: &str, now: &str) -> String {
    let mut lines = (1..).zip(known.lines().zip(now.lines()));
    match lines.find(|(_, (known, now))| known != now) {
        Some((number, (known, now))) => {
            let (known, now) = (known.trim(), now.trim());
            format!("at {file}:{number} from {known:?} to {now:?}")
        }
        None => format!("at the end of {file}"),
    }
}

fn listing(workspace: &Workspace, name: &str) -> Result<String> {
    let src = workspace.root.join("crates").join(name).join("src");
    let mut modules = Vec::new();
    read(&src, "lib.rs", &mut Vec::new(), &mut modules)?;
    let public = strip::Public::of(modules.iter().flat_map(|module| &module.items));
    let mut text = HEADER.to_owned();
    for Module { path, items } in modules {
        let items = public.only(items);
        if items.is_empty() {
            continue;
        }
        let path = std::iter::once(name.replace('-', "_")).chain(path);
        text.push_str(&format!("\n// {}\n", path.collect::<Vec<_>>().join("::")));
        let file = syn::File {
            items,
            ..syn::parse_str("")?
        };
        text.push_str(&prettyplease::unparse(&file));
    }
    Ok(text)
}

/// A file of a crate.
struct Module {
    path: Vec<String>,
    items: Vec<Item>,
}

/// Reads a file, and those of the modules that it declares.
fn read(
    directory: &Path,
    name: &str,
    module: &mut Vec<String>,
    modules: &mut Vec<Module>,
) -> Result<()> {
    let path = directory.join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file =
        syn::parse_file(&text).with_context(|| format!("cannot parse {}", path.display()))?;
    let items = file.items.into_iter().filter(|item| !strip::is_test(item));
    let items: Vec<Item> = items.collect();
    let declared = items.iter().filter_map(|item| match item {
        Item::Mod(declared) if declared.content.is_none() => Some(declared.ident.to_string()),
        _ => None,
    });
    let declared: Vec<String> = declared.collect();
    modules.push(Module {
        path: module.clone(),
        items,
    });
    // `a.rs` and `a/mod.rs` have their modules in `a`.
    let inside = match name {
        "lib.rs" | "mod.rs" => directory.to_owned(),
        other => directory.join(other.trim_end_matches(".rs")),
    };
    for name in declared {
        let file = inside.join(format!("{name}.rs"));
        module.push(name.clone());
        if file.exists() {
            read(&inside, &format!("{name}.rs"), module, modules)?;
        } else {
            read(&inside.join(name), "mod.rs", module, modules)?;
        }
        module.pop();
    }
    Ok(())
}
