//! What a test may turn while the emulator runs.
//!
//! The defaults are the service's usual figures; every quirk is off until asked for.

use serde::{Deserialize, Serialize};

/// Figures and quirks, changed by [`Running::adjust`](crate::Running::adjust) or by
/// `PATCH /settings` of the control listener.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a list of independent quirks"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Time added to every request of the three hosts.
    pub latency_ms: u64,
    /// Children on a page when `$top` is absent.
    pub page_size: usize,
    /// The most children on a page, whatever `$top` says.
    pub page_cap: usize,
    /// Rows on a page of delta.
    pub delta_page_size: usize,
    /// The drive's size; a change that would not fit gets 507.
    pub quota_total: u64,
    /// The quota is reported as zeros, as libraries do: unknown, not full.
    pub quota_zeros: bool,
    /// Life of an access token.
    pub access_token_seconds: u64,
    /// Life of a refresh token that is not used.
    pub refresh_token_seconds: u64,
    /// A refresh gives a new refresh token; the old one stays good either way.
    pub rotate_refresh_tokens: bool,
    /// Requests to Graph need a token.
    pub require_auth: bool,
    /// The sign-in page approves by itself.
    pub auto_approve: bool,
    /// A device code approves itself at this poll, counted from 1; 0 means never.
    pub device_approved_at_poll: u32,
    /// The interval told to clients of the device flow.
    pub device_interval_seconds: u64,
    /// Life of a device code.
    pub device_code_seconds: u64,
    /// Polls that come faster than the interval get `slow_down`.
    pub device_slow_down: bool,
    /// Life of a pre-authenticated download URL.
    pub download_url_seconds: u64,
    /// Life of an upload session after its last fragment; 0 means the back end's own.
    pub session_seconds: u64,
    /// Polls of a copy that answer "in progress" before it is done.
    pub copy_polls: u32,
    /// Changes show in delta this late.
    pub delta_lag_ms: u64,
    /// Every row of a delta page comes twice.
    pub delta_duplicates: bool,
    /// Tombstones are left out of delta.
    pub delta_loses_tombstones: bool,
    /// A nextLink of delta that leads to itself.
    pub delta_loops: bool,
    /// New items give 404 by id or path for so long.
    pub young_404_ms: u64,
    /// A rename or move without `fileSystemInfo` sets the client's mtime to now.
    pub rename_resets_mtime: bool,
    /// A rename or move changes the cTag of a file.
    pub rename_bumps_ctag: bool,
    /// Conditional changes always fail, as reported for some accounts.
    pub if_match_always_412: bool,
    /// The eTag of a new content changes once more after this time; 0 means never.
    pub etag_bump_ms: u64,
    /// Office, PDF and HTML files are rewritten this long after their upload; 0 means never.
    pub rewrite_ms: u64,
    /// Personal drive ids lose their leading zero, and change their case, inside items.
    pub drive_id_quirk: bool,
    /// A plain `+` in a path is read as a space.
    pub plus_is_space: bool,
    /// Items leave their hashes out.
    pub hide_hashes: bool,
    /// Downloads ignore `Range` and give the whole file.
    pub ignore_range: bool,
    /// The storage host overlooks an `Authorization` header, as it did for clients of 2022.
    pub storage_takes_tokens: bool,
    /// Changes tell the path of an item's folder. The documentation says that they do not; clients
    /// for which they did are in use, and take a change without one for none of theirs.
    pub delta_tells_paths: bool,
    /// Pings of the notification socket.
    pub push_ping_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            page_size: 200,
            page_cap: 1000,
            delta_page_size: 200,
            quota_total: 1 << 40,
            quota_zeros: false,
            access_token_seconds: 3599,
            refresh_token_seconds: 90 * 24 * 3600,
            rotate_refresh_tokens: true,
            require_auth: true,
            auto_approve: true,
            device_approved_at_poll: 0,
            device_interval_seconds: 5,
            device_code_seconds: 900,
            device_slow_down: false,
            download_url_seconds: 3600,
            session_seconds: 0,
            copy_polls: 1,
            delta_lag_ms: 0,
            delta_duplicates: false,
            delta_loses_tombstones: false,
            delta_loops: false,
            young_404_ms: 0,
            rename_resets_mtime: false,
            rename_bumps_ctag: false,
            if_match_always_412: false,
            etag_bump_ms: 0,
            rewrite_ms: 0,
            drive_id_quirk: false,
            plus_is_space: false,
            hide_hashes: false,
            ignore_range: false,
            storage_takes_tokens: false,
            delta_tells_paths: false,
            push_ping_ms: 25_000,
        }
    }
}
