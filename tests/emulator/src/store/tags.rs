//! eTags and cTags: how they are written, and whether a condition holds.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use super::Item;
use crate::{
    profile::{FolderTag, Switches, TagForm},
    refusal::Refusal,
};

impl Item {
    pub(crate) fn etag(&self, switches: &Switches) -> String {
        match switches.tags {
            TagForm::Bare => {
                format!(
                    "a{}",
                    STANDARD_NO_PAD.encode(format!("{}.{}", self.id, self.etag))
                )
            }
            TagForm::Guid => format!("\"{{{}}},{}\"", self.guid, self.etag),
        }
    }

    /// The cTag, where the back end gives one.
    pub(crate) fn ctag(&self, switches: &Switches) -> Option<String> {
        if self.folder().is_some() {
            match switches.folder_ctag {
                FolderTag::None => return None,
                FolderTag::NotRoot if self.is_root() => return None,
                FolderTag::NotRoot | FolderTag::All => {}
            }
        }
        Some(match switches.tags {
            TagForm::Bare => {
                format!(
                    "a{}",
                    STANDARD_NO_PAD.encode(format!("c:{}.{}", self.id, self.ctag))
                )
            }
            TagForm::Guid => format!("\"c:{{{}}},{}\"", self.guid, self.ctag),
        })
    }
}

/// The conditional headers of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Precondition {
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
}

impl Precondition {
    /// Refuses a change that the conditions forbid. `item` is what stands at the target now.
    pub(crate) fn admit(&self, item: Option<&Item>, switches: &Switches) -> Result<(), Refusal> {
        if let Some(wanted) = &self.if_match {
            match item {
                Some(item) if holds(wanted, item, switches)? => {}
                Some(_) | None => return Err(Refusal::stale()),
            }
        }
        if let (Some(unwanted), Some(item)) = (&self.if_none_match, item)
            && holds(unwanted, item, switches)?
        {
            return Err(Refusal::stale());
        }
        Ok(())
    }

    /// Whether a read may be answered with 304.
    pub(crate) fn unchanged(&self, item: &Item, switches: &Switches) -> Result<bool, Refusal> {
        self.if_none_match
            .as_ref()
            .map_or(Ok(false), |held| holds(held, item, switches))
    }
}

/// Whether a header's list of tags names the item's eTag or cTag.
fn holds(header: &str, item: &Item, switches: &Switches) -> Result<bool, Refusal> {
    if header.trim() == "*" {
        return Ok(true);
    }
    let quote = |tag: String| match switches.tags {
        TagForm::Bare => format!("\"{tag}\""),
        TagForm::Guid => tag,
    };
    let etag = quote(item.etag(switches));
    let ctag = item.ctag(switches).map(quote);
    let tags = quoted(header)?;
    Ok(tags
        .into_iter()
        .any(|tag| tag == etag || Some(tag) == ctag.as_deref()))
}

/// The quoted strings of a list; their commas do not part it.
fn quoted(header: &str) -> Result<Vec<&str>, Refusal> {
    let malformed = || {
        Refusal::invalid("The entity tag is malformed: it must be a quoted string.")
            .inner("malformedEntityTag")
    };
    let mut tags = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        rest = rest.strip_prefix("W/").unwrap_or(rest);
        if !rest.starts_with('"') {
            return Err(malformed());
        }
        let end = rest[1..].find('"').ok_or_else(malformed)? + 2;
        tags.push(&rest[..end]);
        rest = rest[end..].trim_start_matches([',', ' ']);
    }
    if tags.is_empty() {
        Err(malformed())
    } else {
        Ok(tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comma_inside_a_tag_does_not_part_the_list() {
        assert_eq!(
            quoted("\"{A},1\", W/\"{B},2\"").unwrap(),
            ["\"{A},1\"", "\"{B},2\""]
        );
    }

    #[test]
    fn a_tag_without_quotes_is_malformed() {
        for header in ["abc", "\"abc", "", "\"a\" b"] {
            assert!(quoted(header).is_err(), "{header}");
        }
    }
}
