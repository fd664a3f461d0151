//! Reading Graph's URLs: which drive, which item, what to do with it.
//!
//! The colon forms cannot be told apart by an ordinary router, and the names inside them must be
//! decoded once. So the raw path is read here by hand. An encoded slash parts names as a plain one
//! does, and may stand behind a `.` in front: the `onedrive` client for Linux addresses everything
//! as `.%2Fa%2Fb`.

use http::Method;
use percent_encoding::percent_decode_str;

use super::query::Query;
use crate::{refusal::Refusal, route::Route};

/// A request to Graph, understood.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) route: Route,
    pub(super) what: What,
    pub(super) query: Query,
    /// Addressed by `/me`, which needs a user.
    pub(super) mine: bool,
}

/// What is addressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Me,
    Drives,
    Site,
    Batch,
    Drive(DriveRef),
    Item(DriveRef, Target, Action),
}

/// Which drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DriveRef {
    /// The signed-in user's.
    Mine,
    /// By id.
    Id(String),
    /// A user's, by id or name.
    User(String),
    /// The default library of a site or group.
    Site,
}

/// Which item of the drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// An item id; none is the root.
    pub(super) base: Option<String>,
    /// Names to follow from there.
    pub(super) path: Vec<String>,
    /// The names were given in the colon form.
    pub(super) colon: bool,
}

/// What to do with the item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Item,
    Children,
    Content,
    CreateSession,
    Delta,
    Copy,
    Versions,
    Version(String),
    PermanentDelete,
    Restore,
    SocketIo,
}

/// Understands a method, a raw path and a query.
pub(super) fn parse(
    method: &Method,
    path: &str,
    query: &str,
    plus_is_space: bool,
) -> Result<Call, Refusal> {
    let query = Query::parse(query);
    let path = path
        .strip_prefix("/v1.0")
        .or_else(|| path.strip_prefix("/beta"))
        .ok_or_else(|| Refusal::new(400, "BadRequest", "Invalid version."))?;
    let reader = Reader {
        query: &query,
        plus_is_space,
    };
    let what = reader.top(path)?;
    let route = route(method, &what, &query);
    Ok(Call {
        route,
        what,
        mine: path.starts_with("/me"),
        query,
    })
}

struct Reader<'a> {
    query: &'a Query,
    plus_is_space: bool,
}

impl Reader<'_> {
    fn top(&self, path: &str) -> Result<What, Refusal> {
        let (first, rest) = segment(path);
        let (second, after) = segment(rest);
        match (first, second) {
            ("me", "") => Ok(What::Me),
            ("$batch" | "%24batch", "") => Ok(What::Batch),
            ("me", "drives") => Ok(What::Drives),
            ("me", "drive") => self.in_drive(DriveRef::Mine, after),
            ("drive", _) => self.in_drive(DriveRef::Mine, rest),
            ("drives", id) if !id.is_empty() => self.in_drive(DriveRef::Id(decode(id)?), after),
            ("users", user) if !user.is_empty() => {
                let user = decode(user)?;
                match segment(after) {
                    ("drive", after) => self.in_drive(DriveRef::User(user), after),
                    ("drives", "") => Ok(What::Drives),
                    _ => Err(unknown()),
                }
            }
            ("sites", _) => self.in_site(rest),
            ("groups", id) if !id.is_empty() => match segment(after) {
                ("drive", after) => self.in_drive(DriveRef::Site, after),
                ("drives", "") => Ok(What::Drives),
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }

    /// `/{id}`, `/{host}:/{path}`, `/root`, each perhaps with `/drive` or `/drives`.
    fn in_site(&self, rest: &str) -> Result<What, Refusal> {
        if rest.is_empty() {
            return Ok(What::Site);
        }
        let (_, after) = segment(rest);
        let after = match (rest.find(":/"), rest.rfind(":/")) {
            (Some(first), Some(last)) if last > first => &rest[last + 1..],
            (Some(_), Some(_)) => "",
            _ => after,
        };
        match segment(after) {
            ("", _) => Ok(What::Site),
            ("drives", "") => Ok(What::Drives),
            ("drive", after) => self.in_drive(DriveRef::Site, after),
            _ => Err(unknown()),
        }
    }

    fn in_drive(&self, drive: DriveRef, rest: &str) -> Result<What, Refusal> {
        let (first, rest) = segment(rest);
        let colon = first.ends_with(':');
        match first.trim_end_matches(':') {
            "" => Ok(What::Drive(drive)),
            "root" => self.at_item(drive, None, colon, rest),
            "items" if !colon => {
                let (id, rest) = segment(rest);
                let colon = id.ends_with(':');
                let id = decode(id.trim_end_matches(':'))?;
                if id.is_empty() {
                    return Err(unknown());
                }
                let base = (id != "root").then_some(id);
                self.at_item(drive, base, colon, rest)
            }
            _ => Err(unknown()),
        }
    }

    fn at_item(
        &self,
        drive: DriveRef,
        base: Option<String>,
        colon: bool,
        rest: &str,
    ) -> Result<What, Refusal> {
        let mut target = Target {
            base,
            path: Vec::new(),
            colon,
        };
        let mut rest = rest;
        if colon {
            let (path, after) = rest.split_once(':').unwrap_or((rest, ""));
            target.path = self.names(path)?;
            rest = after;
        }
        // OData's way of naming a child: `children('name')`, or by an alias in the query.
        while let Some(named) = rest.strip_prefix("/children('") {
            let (quoted, after) = named.split_once("')").ok_or_else(unknown)?;
            target.path.extend(self.quoted(quoted)?);
            rest = after;
        }
        let action = action(rest)?;
        Ok(What::Item(drive, target, action))
    }

    /// The names of a colon path.
    fn names(&self, path: &str) -> Result<Vec<String>, Refusal> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(Vec::new());
        }
        let path = path.strip_prefix(".%2F").unwrap_or(path);
        decode(path)?
            .split('/')
            .map(|name| self.name(name.to_owned()))
            .collect()
    }

    fn quoted(&self, text: &str) -> Result<Vec<String>, Refusal> {
        let text = decode(text)?;
        let path = if text.starts_with('@') {
            let value = self.query.get(&text).ok_or_else(bad_path)?;
            let value = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
            value.ok_or_else(bad_path)?.to_owned()
        } else {
            text
        };
        // Nothing between the quotes is the item itself.
        if path.is_empty() {
            return Ok(Vec::new());
        }
        path.replace("''", "'")
            .split('/')
            .map(|name| self.name(name.to_owned()))
            .collect()
    }

    /// An empty segment is a trailing slash; dots do not climb.
    fn name(&self, name: String) -> Result<String, Refusal> {
        if name.is_empty() || name == "." || name == ".." {
            return Err(bad_path());
        }
        Ok(if self.plus_is_space {
            name.replace('+', " ")
        } else {
            name
        })
    }
}

fn decode(raw: &str) -> Result<String, Refusal> {
    percent_decode_str(raw)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| bad_path())
}

/// The first segment of a path, and the rest with its slash.
fn segment(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.find('/') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    }
}

fn action(suffix: &str) -> Result<Action, Refusal> {
    let (first, rest) = segment(suffix);
    let first = first.strip_prefix("microsoft.graph.").unwrap_or(first);
    let (second, third) = segment(rest);
    Ok(match (first, second, third) {
        ("", "", "") => Action::Item,
        ("children", "", "") => Action::Children,
        ("content", "", "") => Action::Content,
        ("createUploadSession", "", "") => Action::CreateSession,
        ("delta" | "delta()", "", "") => Action::Delta,
        ("copy", "", "") => Action::Copy,
        ("versions", "", "") => Action::Versions,
        ("versions", version, "/content") => Action::Version(version.to_owned()),
        ("permanentDelete", "", "") => Action::PermanentDelete,
        ("restore", "", "") => Action::Restore,
        ("subscriptions", "socketIo" | "socketio", "") => Action::SocketIo,
        _ => return Err(unknown()),
    })
}

fn route(method: &Method, what: &What, query: &Query) -> Route {
    let get = method == Method::GET || method == Method::HEAD;
    match what {
        What::Me if get => Route::Me,
        What::Drives if get => Route::Drives,
        What::Site if get => Route::Site,
        What::Batch if method == Method::POST => Route::Batch,
        What::Drive(_) if get && query.get("select") == Some("quota") => Route::Quota,
        What::Drive(_) if get => Route::Drive,
        What::Item(_, _, action) => match (action, method.as_str()) {
            (Action::Item, "GET" | "HEAD") => Route::Item,
            (Action::Item, "PATCH") => Route::Patch,
            (Action::Item, "DELETE") => Route::Delete,
            (Action::Item, "PUT") => Route::CommitSource,
            (Action::Children, "GET") => Route::Children,
            (Action::Children, "POST") => Route::CreateFolder,
            (Action::Content, "GET" | "HEAD") => Route::Content,
            (Action::Content, "PUT") => Route::PutContent,
            (Action::CreateSession, "POST") => Route::CreateSession,
            (Action::Delta, "GET") => Route::Delta,
            (Action::Copy, "POST") => Route::Copy,
            (Action::Versions, "GET") => Route::Versions,
            (Action::Version(_), "GET") => Route::VersionContent,
            (Action::PermanentDelete, "POST") => Route::PermanentDelete,
            (Action::Restore, "POST") => Route::Restore,
            (Action::SocketIo, "GET") => Route::SocketIo,
            _ => Route::Unknown,
        },
        What::Me | What::Drives | What::Site | What::Batch | What::Drive(_) => Route::Unknown,
    }
}

fn unknown() -> Refusal {
    Refusal::new(400, "BadRequest", "Resource not found for the segment.")
}

fn bad_path() -> Refusal {
    Refusal::invalid("The path is malformed.").inner("invalidPath")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &str, query: &str) -> (Option<String>, Vec<String>, Action) {
        let call = parse(&Method::GET, path, query, false).unwrap();
        match call.what {
            What::Item(_, target, action) => (target.base, target.path, action),
            other => panic!("{path} is {other:?}"),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_form_of_an_address_is_understood() {
        let id = || Some("A!1".to_owned());
        for (path, base, tail, action) in [
            ("/v1.0/me/drive/root", None, &[][..], Action::Item),
            ("/v1.0/drives/b!x/items/root", None, &[], Action::Item),
            ("/v1.0/drives/b!x/items/A!1", id(), &[], Action::Item),
            (
                "/v1.0/drives/b!x/items/A%211/children",
                id(),
                &[],
                Action::Children,
            ),
            (
                "/v1.0/drives/b!x/root:/a/b%20c.txt",
                None,
                &["a", "b c.txt"],
                Action::Item,
            ),
            (
                "/v1.0/drives/b!x/root:/a/b:",
                None,
                &["a", "b"],
                Action::Item,
            ),
            (
                "/v1.0/drives/b!x/root:/a/b:/content",
                None,
                &["a", "b"],
                Action::Content,
            ),
            (
                "/v1.0/drives/b!x/items/A!1:/n:/createUploadSession",
                id(),
                &["n"],
                Action::CreateSession,
            ),
            (
                "/v1.0/drives/b!x/root:/:/children",
                None,
                &[],
                Action::Children,
            ),
            (
                "/v1.0/users/ada%40contoso.com/drive/root/delta",
                None,
                &[],
                Action::Delta,
            ),
            ("/v1.0/sites/root/drive/root", None, &[], Action::Item),
            (
                "/v1.0/sites/contoso.sharepoint.com:/sites/x:/drive/root",
                None,
                &[],
                Action::Item,
            ),
            (
                "/v1.0/drives/b!x/items/A!1/children('it''s')/content",
                id(),
                &["it's"],
                Action::Content,
            ),
            (
                "/v1.0/drives/b!x/root:/.%2Fa%2Fb%20c.txt:/content",
                None,
                &["a", "b c.txt"],
                Action::Content,
            ),
            (
                "/v1.0/drives/b!x/items/A!1/versions/2.0/content",
                id(),
                &[],
                Action::Version("2.0".into()),
            ),
        ] {
            assert_eq!(item(path, ""), (base, names(tail), action), "{path}");
        }
    }

    #[test]
    fn an_alias_names_a_path_of_several_levels() {
        let found = item(
            "/v1.0/drives/d/items/A!1/children('@a1')/content",
            "@a1='x%2Fit''s'",
        );
        assert_eq!(
            found,
            (Some("A!1".into()), names(&["x", "it's"]), Action::Content)
        );
    }

    #[test]
    fn an_empty_alias_is_the_item_itself() {
        let found = item("/v1.0/drives/d/items/A!1/children('@a1')", "@a1=''");
        assert_eq!(found, (Some("A!1".into()), names(&[]), Action::Item));
    }

    #[test]
    fn trailing_slashes_dots_and_broken_encoding_are_refused() {
        for path in [
            "root:/a/",
            "root:/a/./b",
            "root:/a/../b",
            "root:/%ff",
            "root:/a//b",
        ] {
            let path = format!("/v1.0/drives/d/{path}");
            let refusal = parse(&Method::GET, &path, "", false).unwrap_err();
            assert_eq!(refusal.status(), 400, "{path}");
        }
    }
}
