//! The files that settings name: tokens, keys, and where visitors are.
//!
//! Read at the start, where one that cannot be used is an error that names its setting, and followed
//! from then on.

use std::path::Path;

use tuyun_chassis::settings::{SecretError, SettingsError};
use tuyun_protocol::{Token, TokenBook};

use crate::RunError;
use crate::atlas::{Atlas, BadAtlas, Database, Ranges};
use crate::fresh::{Follower, Fresh};
use crate::settings::{Geo, Settings};

/// The nodes' tokens; without a file nobody can report here.
pub(crate) fn token_book(
    settings: &Settings,
    follower: &mut Follower,
) -> Result<Fresh<TokenBook>, RunError> {
    let file = &settings.nodes.token_file;
    if file.is_empty() {
        tracing::warn!(
            "`nodes.token_file` is not set: no node can report here, only nodes found in Redis get visitors"
        );
        return Ok(Fresh::default());
    }
    follower.add(Path::new(file), read_book)
}

fn read_book(path: &Path) -> Result<TokenBook, RunError> {
    let text = tuyun_chassis::settings::read_secret_text(path)?;
    let unusable = |what: String| {
        let advice = "write one line a node: its server_id, a space, its token; or `*` and a token";
        let what = format!("{}: {what}", path.display());
        SettingsError::unusable("nodes.token_file", what, advice)
    };
    let book = TokenBook::parse(&text).map_err(|bad| unusable(bad.to_string()))?;
    if book.is_empty() {
        return Err(unusable("there is no token in it".to_owned()).into());
    }
    Ok(book)
}

/// The operator's token; without a file there is no operator.
pub(crate) fn operator_token(file: &str) -> Result<Option<Token>, RunError> {
    if file.is_empty() {
        return Ok(None);
    }
    Ok(Some(
        tuyun_chassis::settings::read_secret(Path::new(file))?.into(),
    ))
}

/// The keys of signed links, the first being the one that signs.
pub(crate) fn link_keys(
    file: &str,
    follower: &mut Follower,
) -> Result<Option<Fresh<Vec<Token>>>, RunError> {
    if file.is_empty() {
        return Ok(None);
    }
    Ok(Some(follower.add(Path::new(file), read_link_keys)?))
}

pub(crate) fn read_link_keys(path: &Path) -> Result<Vec<Token>, SecretError> {
    let lines = tuyun_chassis::settings::read_secret_lines(path)?;
    Ok(lines.into_iter().map(Token::from).collect())
}

/// What is known of where visitors are.
pub(crate) fn atlas(settings: &Settings, follower: &mut Follower) -> Result<Atlas, RunError> {
    let wrong = |setting, file: &str, bad: &BadAtlas| {
        let advice = "name a readable file of that kind, or leave it empty";
        SettingsError::unusable(setting, format!("{file}: {bad}"), advice)
    };
    let Geo { table, database } = &settings.geo;
    let ranges = match table.as_str() {
        "" => None,
        file => {
            let ranges = follower.add(Path::new(file), Ranges::read);
            Some(ranges.map_err(|bad| wrong("geo.table", file, &bad))?)
        }
    };
    let places = match database.as_str() {
        "" => None,
        file => {
            let places = follower.add(Path::new(file), Database::read);
            Some(places.map_err(|bad| wrong("geo.database", file, &bad))?)
        }
    };
    Ok(Atlas::new(ranges, places))
}
