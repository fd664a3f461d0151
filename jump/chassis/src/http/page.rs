//! Status pages: one file without anything from elsewhere, in two languages, light and dark.
//!
//! A page is a template with `{{nonce}}` on its `<style>` and `<script>`, `{{style}}` and `{{tools}}` where
//! what all pages share comes in, and `{{said}}` for what is said where no script runs.

use axum::response::{Html, IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, header};

const STYLE: &str = include_str!("page.css");
const TOOLS: &str = include_str!("page.js");

/// The page, of which only the script that is ours runs, whatever the figures call themselves. `said` is
/// text of the program's own: nothing in it is escaped.
#[must_use]
pub fn page(template: &str, said: &str) -> Response {
    let nonce = format!("{:032x}", rand::random::<u128>());
    let html = template
        .replace("{{style}}", STYLE)
        .replace("{{tools}}", TOOLS)
        .replace("{{said}}", said)
        .replace("{{nonce}}", &nonce);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let policy =
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, Html(html)).into_response()
}
