//! `tuyunfs config check`.

use tuyun_chassis::exit::Failure;
use tuyun_chassis::settings::Loaded;

use super::output::say;
use crate::settings::Settings;

/// Loading has checked them; what is left is to say so.
pub(super) fn check(loaded: &Loaded<Settings>) -> Result<(), Failure> {
    let file = loaded
        .file
        .as_ref()
        .map_or("no settings file".into(), |f| f.display().to_string());
    let mut text = format!("{file}: the settings can be used\n");
    for warning in &loaded.warnings {
        for part in ["warning: ", warning, "\n"] {
            text.push_str(part);
        }
    }
    if loaded.settings.mount.point.is_empty() {
        text.push_str("warning: mount.point is not set; `tuyunfs mount` needs it\n");
    }
    say(&text)
}
