//! Which Redis, read from one URL.
//!
//! | URL | means |
//! |---|---|
//! | `redis://[[user]:password@]host[:port]/[database]` | one server |
//! | `redis+sentinel://[[user]:password@]host[:port],…/service[/database]` | the master that Sentinels name |
//! | `redis+cluster://[[user]:password@]host[:port],…/` | a Cluster |
//!
//! `rediss` in place of `redis` is TLS. The password is the servers'; Sentinels are asked without one.

use std::path::Path;

use percent_encoding::percent_decode_str;

/// The database that the originals use.
const DATABASE: i64 = 2;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// Which Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// How many servers, and how they are found.
    pub kind: Kind,
    /// Host and port of a server, of Sentinels, or of some of a Cluster.
    pub hosts: Vec<(String, u16)>,
    /// The name to log in with; none: Redis' default.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The database; a Cluster has only 0.
    pub database: i64,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// A certificate to trust instead of the public ones, PEM.
    pub ca: Option<Vec<u8>>,
}

/// How servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is the one.
    Single,
    /// Sentinels name the master of this service.
    Sentinel(String),
    /// Each server of a Cluster names the others.
    Cluster,
}

/// The password stays unsaid.
impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            hosts,
            database,
            tls,
            ..
        } = self;
        write!(
            f,
            "Place({kind:?}, {hosts:?}, database {database}, tls {tls})"
        )
    }
}

impl Place {
    /// Reads the URL.
    ///
    /// # Errors
    /// Says what is wrong with it, without repeating it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it is not a URL")?;
        let (tls, flavour) = match scheme.strip_prefix("rediss") {
            Some(flavour) => (true, flavour),
            None => (false, scheme.strip_prefix("redis").unwrap_or("?")),
        };
        if rest.contains(['?', '#']) {
            return Err(
                "it has a `?` or `#`; write such a letter of a password as %3F or %23".into(),
            );
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None => (None, None),
        };
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let kind = match flavour {
            "" => Kind::Single,
            "+cluster" => Kind::Cluster,
            "+sentinel" => {
                let service = parts.next().ok_or(
                    "it names no service; write it like redis+sentinel://host:26379/mymaster",
                )?;
                Kind::Sentinel(decode(service)?.unwrap_or_default())
            }
            _ => return Err(format!("{}:// is not a Redis URL", shown(scheme))),
        };
        let database = match parts.next() {
            None if kind == Kind::Cluster => 0,
            None => DATABASE,
            Some(number) => number
                .parse()
                .ok()
                .filter(|number| (0..=i64::from(u16::MAX)).contains(number))
                .ok_or("its database is not a number")?,
        };
        if kind == Kind::Cluster && database != 0 {
            return Err("a Cluster has only the database 0".into());
        }
        if parts.next().is_some() {
            return Err("its path has too many parts".into());
        }
        let usual = if matches!(kind, Kind::Sentinel(_)) {
            SENTINEL_PORT
        } else {
            PORT
        };
        let hosts = hosts
            .split(',')
            .map(|host| host_and_port(host, usual))
            .collect::<Result<Vec<_>, _>>()?;
        if kind == Kind::Single && hosts.len() != 1 {
            return Err(
                "it names several hosts; that is for redis+sentinel:// and redis+cluster://".into(),
            );
        }
        Ok(Self {
            kind,
            hosts,
            user,
            password,
            database,
            tls,
            ca: None,
        })
    }

    /// The same, trusting this certificate; an empty path changes nothing.
    ///
    /// # Errors
    /// When the file cannot be read, or TLS is not spoken at all.
    pub fn trusting(mut self, file: &str) -> Result<Self, String> {
        if file.is_empty() {
            return Ok(self);
        }
        if !self.tls {
            return Err("the URL does not speak TLS: begin it with rediss".into());
        }
        let pem = std::fs::read(Path::new(file)).map_err(|error| format!("{file}: {error}"))?;
        self.ca = Some(pem);
        Ok(self)
    }
}

fn host_and_port(text: &str, usual: u16) -> Result<(String, u16), String> {
    let bad = || "it names a host that is none; write host:port".to_owned();
    // An IPv6 address stands in brackets, which are not part of it.
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(bad)?;
            (host, after.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        return Err(bad());
    }
    let port = port.map_or(Ok(usual), str::parse).map_err(|_| bad())?;
    Ok((host.to_owned(), port))
}

fn decode(text: &str) -> Result<Option<String>, String> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| "its user, password or service is not UTF-8".to_owned())?;
    Ok(Some(decoded.into_owned()).filter(|text| !text.is_empty()))
}

/// A scheme that somebody mistyped may be anything.
fn shown(scheme: &str) -> String {
    scheme
        .chars()
        .filter(char::is_ascii_graphic)
        .take(20)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    #[test]
    fn one_server_in_database_2_unless_the_url_names_one() {
        let one = place("redis://127.0.0.1");
        assert_eq!((one.kind, one.database, one.tls), (Kind::Single, 2, false));
        assert_eq!(one.hosts, [("127.0.0.1".to_owned(), 6379)]);
        let secret = place("rediss://:w%40rd@host:6380");
        assert_eq!((secret.tls, secret.database), (true, 2));
        assert_eq!(
            (secret.user.as_deref(), secret.password.as_deref()),
            (None, Some("w@rd"))
        );
        assert_eq!(place("redis://127.0.0.1/0").database, 0);
        assert_eq!(
            place("redis://me:word@[::1]:7/5").hosts,
            [("::1".to_owned(), 7)]
        );
    }

    #[test]
    fn sentinels_name_a_service_and_a_cluster_has_one_database() {
        let sentinels = place("redis+sentinel://:word@a,b:1/mymaster/3");
        assert_eq!(sentinels.kind, Kind::Sentinel("mymaster".into()));
        assert_eq!(
            sentinels.hosts,
            [("a".to_owned(), 26_379), ("b".to_owned(), 1)]
        );
        assert_eq!(sentinels.database, 3);
        assert_eq!(place("redis+sentinel://a/m").database, 2);
        let cluster = place("rediss+cluster://a:1,b:2/");
        assert_eq!(
            (cluster.kind, cluster.database, cluster.tls),
            (Kind::Cluster, 0, true)
        );
    }

    #[test]
    fn what_is_wrong_is_said_and_no_password_is() {
        for (text, expected) in [
            ("s3cret", "not a URL"),
            ("http://:s3cret@a/", "http:// is not a Redis URL"),
            ("redis://:s3cret@a,b/", "several hosts"),
            ("redis+sentinel://:s3cret@a/", "no service"),
            ("redis+cluster://:s3cret@a/2", "only the database 0"),
            ("redis://:s3cret@a/x", "not a number"),
            ("redis://:s3cret@a/2/3", "too many parts"),
            ("redis://:s3cret@/", "a host that is none"),
            ("redis://:s3cret@a:b/", "a host that is none"),
            ("redis://:s3?cret@a/", "`?`"),
        ] {
            let said = Place::parse(text).unwrap_err();
            assert!(
                said.contains(expected) && !said.contains("s3"),
                "{text}: {said}"
            );
        }
        assert!(!format!("{:?}", place("redis://:s3cret@a/")).contains("s3"));
    }
}
