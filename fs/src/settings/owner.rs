//! Names of users and groups to numbers.
//!
//! First the plain files, then `getent`, which also asks whatever else the machine has (LDAP,
//! systemd). Asking the C library in this process would need `unsafe` for a start-up question.

use std::process::Command;

use serde::{Deserialize, Deserializer};
use tuyun_chassis::settings::SettingsError;

/// Which list a name is looked up in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    Users,
    Groups,
}

impl Table {
    fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/passwd",
            Self::Groups => "/etc/group",
        }
    }

    fn database(self) -> &'static str {
        match self {
            Self::Users => "passwd",
            Self::Groups => "group",
        }
    }
}

/// The number of a name; a number stands for itself, and nothing for nothing.
pub(super) fn number(table: Table, name: &str) -> Result<Option<u32>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let listed = std::fs::read_to_string(table.file()).unwrap_or_default();
    if let Some(number) = find(&listed, name) {
        return Ok(Some(number));
    }
    let answer = Command::new("getent")
        .args([table.database(), "--", name])
        .output();
    let text = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
    match find(&text.unwrap_or_default(), name) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("nobody here is called `{name}`")),
    }
}

/// Reads a name, or a number with or without quotes.
pub(super) fn name_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a name, or a number")]
    enum Given {
        Name(String),
        Number(u32),
    }
    Ok(match Given::deserialize(from)? {
        Given::Name(name) => name,
        Given::Number(number) => number.to_string(),
    })
}

/// The third field of the line that begins with the name.
fn find(lines: &str, name: &str) -> Option<u32> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

pub(super) fn unusable(key: &'static str, problem: String) -> SettingsError {
    let advice = "give a name that `getent passwd` or `getent group` lists, or a number; \
                  web servers often run as `www` or `www-data`";
    SettingsError::unusable(key, problem, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nwww:x:1001:1002::/home/www:/sbin/nologin\n";
        assert_eq!(find(passwd, "www"), Some(1001));
        assert_eq!(find(passwd, "ww"), None);
        assert_eq!(number(Table::Users, "root"), Ok(Some(0)));
        assert_eq!(number(Table::Groups, "4711"), Ok(Some(4711)));
        assert_eq!(number(Table::Users, ""), Ok(None));
        assert!(number(Table::Users, "no-such-person").is_err());
    }
}
