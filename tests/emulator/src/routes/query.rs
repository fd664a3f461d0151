//! The options of a Graph request: query and conditional headers.

use http::{HeaderMap, header};

use crate::{refusal::Refusal, store::Precondition};

/// The query of a URL; `$` before a system option may be left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        Self(
            url::form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name || key.strip_prefix('$') == Some(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn select(&self) -> Option<Vec<String>> {
        self.get("select").map(fields)
    }

    pub(super) fn conflict(&self) -> Option<&str> {
        self.get("@microsoft.graph.conflictBehavior")
            .or_else(|| self.get("@name.conflictBehavior"))
    }

    pub(super) fn top(&self) -> Result<Option<usize>, Refusal> {
        self.get("top")
            .map(|text| {
                text.parse().ok().filter(|top| *top > 0).ok_or_else(|| {
                    Refusal::invalid("The value of $top must be a positive number.")
                        .inner("invalidQueryOption")
                })
            })
            .transpose()
    }
}

/// The names of a `$select`.
pub(super) fn fields(text: &str) -> Vec<String> {
    text.split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The conditional headers of a request.
pub(super) fn precondition(headers: &HeaderMap) -> Precondition {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
            .map(str::to_owned)
    };
    Precondition {
        if_match: text(header::IF_MATCH),
        if_none_match: text(header::IF_NONE_MATCH),
    }
}
