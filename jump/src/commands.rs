//! What jump does besides serving: a line for a new node, and links that end.

use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgMatches, Command};
use tuyun_chassis::exit::{Code, Failure};
use tuyun_chassis::program::Extra;
use tuyun_chassis::settings::Period;
use tuyun_protocol::{Base, ImagePath, NodeId};

use crate::Settings;
use crate::gate;

/// The commands.
pub const ALL: [Extra<Settings>; 2] = [
    Extra {
        parent: Some(("node", "Nodes that report here")),
        command: node_add,
        run: add_node,
    },
    Extra {
        parent: None,
        command: link,
        run: make_link,
    },
];

/// Longest life of a link: ten years; more is a slip of the keyboard.
const LONGEST: Duration = Duration::from_hours(24 * 3660);

fn node_add() -> Command {
    Command::new("add")
        .about("Give a node a token of its own, and print the line to paste on its machine")
        .arg(
            Arg::new("ID")
                .required(true)
                .help("Its server_id: a number or a name"),
        )
        .arg(
            Arg::new("JUMP")
                .long("url")
                .required(true)
                .help("Where nodes reach this jump, like https://jump.example/"),
        )
        .arg(
            Arg::new("NODE")
                .long("node-url")
                .default_value("auto")
                .help("Where visitors reach the node; auto: at the address its reports come from"),
        )
}

/// Writes the token down and says what to paste.
fn add_node(matches: &ArgMatches, settings: &Settings) -> Result<String, Failure> {
    let usage = |what: String, hint: &str| Failure::new(Code::Usage, what).hint(hint);
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let id: NodeId = text("ID").parse().map_err(|bad| {
        usage(
            format!("`{}`: {bad}", text("ID")),
            "use a number like 3, or a name like home",
        )
    })?;
    let jump = Base::parse(text("JUMP")).map_err(|bad| {
        usage(
            format!("--url: {bad}"),
            "write it like https://jump.example/",
        )
    })?;
    let node = match text("NODE") {
        "auto" => "auto".to_owned(),
        url => Base::parse(url)
            .map_err(|bad| {
                usage(
                    format!("--node-url: {bad}"),
                    "write it like https://me.example:45678/",
                )
            })?
            .to_string(),
    };
    let file = &settings.nodes.token_file;
    if file.is_empty() {
        return Err(
            Failure::new(Code::Config, "setting `nodes.token_file`: it is not set").hint(
                "set it to the file of the nodes' tokens, such as /etc/tuyun/jump-node-tokens",
            ),
        );
    }
    let origin = settings.origin().map_err(Failure::from)?;
    let token = format!(
        "{:032x}{:032x}",
        rand::random::<u128>(),
        rand::random::<u128>()
    );
    append(Path::new(file), &id, &token)?;
    Ok(paste(&id, &token, &jump, &node, &origin))
}

/// Adds a line for this node to the file of tokens.
fn append(path: &Path, id: &NodeId, token: &str) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(Code::Permission, format!("cannot write {}", path.display()))
            .because(error)
            .hint("run this as the file's owner, most often root")
    };
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(&error))?;
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(|error| failed(&error))?;
    let known = |line: &str| line.split_whitespace().next() == Some(id.as_str());
    if text
        .lines()
        .any(|line| known(line) && line.split_whitespace().count() == 2)
    {
        return Err(Failure::new(
            Code::Usage,
            format!("{} has a token for `{id}` already", path.display()),
        )
        .hint("take another id, or remove that line first"));
    }
    let gap = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let line = format!("{gap}{id} {token}\n");
    file.seek(std::io::SeekFrom::End(0))
        .and_then(|_| file.write_all(line.as_bytes()))
        .and_then(|()| file.sync_all())
        .map_err(|error| failed(&error))
}

/// One line for a root shell on the node's machine. It leaves settings that are there alone.
fn paste(id: &NodeId, token: &str, jump: &Base, node: &str, origin: &Base) -> String {
    let insecure = |base: &Base| {
        if base.url().scheme() == "http" {
            "insecure = true\n"
        } else {
            ""
        }
    };
    let settings = format!(
        "server_id = \"{id}\"\nurl = \"{node}\"\n[origin]\nprimary = \"{origin}\"\n{}[jump]\nurls = [\"{jump}\"]\ntoken_file = \"/run/credentials/tuyun-edge.service/jump-token\"\n{}",
        insecure(origin),
        insecure(jump),
    );
    // A base is a URL as the library writes it: no quote, backslash or white space is left in it but `'`.
    let settings = settings.replace('\'', "%27").replace('\n', "\\n");
    format!(
        "(umask 077; mkdir -p /etc/tuyun && printf '%s\\n' '{token}' >/etc/tuyun/edge-jump-token) && \
         {{ [ -e /etc/tuyun/edge.toml ] || printf '{}' >/etc/tuyun/edge.toml; }} && \
         chmod 0755 /etc/tuyun && chmod 0644 /etc/tuyun/edge.toml && systemctl enable --now tuyun-edge\n",
        settings.replace('%', "%%")
    )
}

fn link() -> Command {
    Command::new("link")
        .about("Print a picture's path and query, signed until some time")
        .arg(
            Arg::new("PATH")
                .required(true)
                .help("The picture's path, not percent-encoded"),
        )
        .arg(
            Arg::new("LIFE")
                .long("for")
                .default_value("24h")
                .help("How long the link counts"),
        )
}

/// Signs a path with the first key.
fn make_link(matches: &ArgMatches, settings: &Settings) -> Result<String, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let path = ImagePath::parse(text("PATH")).map_err(|bad| {
        Failure::new(Code::Usage, bad.to_string()).hint("write it like /mount/pic/a.webp")
    })?;
    let life = text("LIFE")
        .parse::<Period>()
        .map_err(|bad| Failure::new(Code::Usage, format!("--for: {bad}")))?;
    if life.get() > LONGEST {
        return Err(Failure::new(
            Code::Usage,
            "--for: that is longer than ten years",
        ));
    }
    let file = &settings.hotlink.key_file;
    if file.is_empty() {
        return Err(Failure::new(Code::Config, "setting `hotlink.key_file`: it is not set")
            .hint("make a key with: (umask 077; openssl rand -hex 32 > /etc/tuyun/jump-link-key), and name that file"));
    }
    let keys = crate::files::read_link_keys(Path::new(file)).map_err(Failure::from)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let until = (now + life.get()).as_secs();
    let signatures = keys.first().map(|key| gate::sign(key, &path, until));
    let signature = signatures.unwrap_or_default();
    Ok(format!(
        "/{}?expires={until}&signature={signature}\n",
        path.encoded()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_added_once_on_a_line_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "* all").unwrap();
        let id: NodeId = "home".parse().unwrap();
        append(file.path(), &id, "abc").unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "* all\nhome abc\n");
        assert!(append(file.path(), &id, "def").is_err());
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
    }

    #[test]
    fn what_is_pasted_is_one_line() {
        let base = |text| Base::parse(text).unwrap();
        let (jump, origin) = (
            base("https://jump.example/"),
            base("http://10.0.0.1/api/raw/?path=/"),
        );
        let line = paste(&"7".parse().unwrap(), "abc", &jump, "auto", &origin);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(
            line.contains("server_id = \"7\"\\nurl = \"auto\""),
            "{line}"
        );
    }
}
