//! The keys of a settings type, read off its serialised default.
//!
//! Each leaf has one name in the file (`drive.client_id`), one flag (`--drive.client-id`) and one
//! environment variable (`PREFIX_DRIVE__CLIENT_ID`); what its default is says how text is read.

use toml::{Table, Value};

/// One leaf of the settings.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// The tables down to it, then its own name.
    pub(crate) path: Vec<String>,
    /// What it is when nobody says anything.
    pub(crate) default: Value,
}

impl Key {
    /// As messages and the file name it: `drive.client_id`.
    pub(crate) fn name(&self) -> String {
        self.path.join(".")
    }

    /// As a flag, without the dashes: `drive.client-id`.
    pub(crate) fn flag(&self) -> String {
        self.name().replace('_', "-")
    }

    /// As an environment variable: `PREFIX_DRIVE__CLIENT_ID`.
    pub(crate) fn variable(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.path.join("__").to_uppercase())
    }

    /// Reads text from a flag or a variable, by the kind of the default.
    pub(crate) fn read(&self, text: &str) -> Result<Value, String> {
        read_as(&self.default, text)
    }

    /// Puts a value at this key's place.
    pub(crate) fn put(&self, root: &mut Table, value: Value) {
        let Some((last, tables)) = self.path.split_last() else {
            return;
        };
        let mut table = root;
        for name in tables {
            let slot = table
                .entry(name.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            match slot {
                Value::Table(inner) => table = inner,
                // The shape was checked against the type before anything is put into it.
                _ => return,
            }
        }
        table.insert(last.clone(), value);
    }
}

/// All leaves below `table`, in the order of their names.
pub(crate) fn leaves(table: &Table) -> Vec<Key> {
    let mut found = Vec::new();
    collect(table, &mut Vec::new(), &mut found);
    found
}

fn collect(table: &Table, above: &mut Vec<String>, found: &mut Vec<Key>) {
    for (name, value) in table {
        above.push(name.clone());
        match value {
            Value::Table(inner) => collect(inner, above, found),
            leaf => found.push(Key {
                path: above.clone(),
                default: leaf.clone(),
            }),
        }
        above.pop();
    }
}

/// Lays `over` on `base`: tables are merged, everything else is replaced.
pub(crate) fn lay_over(base: &mut Table, over: Table) {
    for (name, value) in over {
        match (base.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                base.insert(name, value);
            }
        }
    }
}

fn read_as(default: &Value, text: &str) -> Result<Value, String> {
    let plain = text.trim();
    match default {
        Value::Integer(_) => plain
            .replace('_', "")
            .parse()
            .map(Value::Integer)
            .map_err(|_| format!("`{text}` is not a whole number")),
        Value::Float(_) => plain
            .parse()
            .map(Value::Float)
            .map_err(|_| format!("`{text}` is not a number")),
        Value::Boolean(_) => match plain {
            "true" | "yes" | "on" | "1" => Ok(Value::Boolean(true)),
            "false" | "no" | "off" | "0" => Ok(Value::Boolean(false)),
            _ => Err(format!("`{text}` is neither true nor false")),
        },
        Value::Array(items) => read_array(items.first(), plain),
        Value::String(_) | Value::Datetime(_) | Value::Table(_) => Ok(Value::String(text.into())),
    }
}

/// A TOML array, or items with commas between them; an empty text is an empty array.
fn read_array(sample: Option<&Value>, text: &str) -> Result<Value, String> {
    if text.starts_with('[') {
        let table: Table = toml::from_str(&format!("value = {text}"))
            .map_err(|error| format!("`{text}` is not an array: {}", error.message()))?;
        return table
            .into_iter()
            .next()
            .map(|(_, value)| value)
            .ok_or_else(|| format!("`{text}` is not an array"));
    }
    let text_item = Value::String(String::new());
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| read_as(sample.unwrap_or(&text_item), item))
        .collect::<Result<Vec<_>, _>>()
        .map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_leaf_has_a_name_a_flag_and_a_variable() {
        let keys = leaves(&table("listen = \"x\"\n[drive]\nclient_id = \"\"\n"));
        let names: Vec<_> = keys
            .iter()
            .map(|key| (key.name(), key.flag(), key.variable("TUYUNFS")))
            .collect();
        let expected = [
            (
                "drive.client_id",
                "drive.client-id",
                "TUYUNFS_DRIVE__CLIENT_ID",
            ),
            ("listen", "listen", "TUYUNFS_LISTEN"),
        ]
        .map(|(name, flag, variable)| (name.into(), flag.into(), variable.into()));
        assert_eq!(names, expected);
    }

    #[test]
    fn text_is_read_by_the_kind_of_the_default() {
        let read = |default: &str, text: &str| {
            read_as(&table(&format!("value = {default}"))["value"], text)
        };
        assert_eq!(read("\"a\"", "12"), Ok(Value::String("12".into())));
        assert_eq!(read("1", "40_000"), Ok(Value::Integer(40_000)));
        assert_eq!(read("true", "off"), Ok(Value::Boolean(false)));
        assert_eq!(
            read("true", "maybe"),
            Err("`maybe` is neither true nor false".into())
        );
        assert_eq!(
            read("[]", "a, b"),
            Ok(Value::Array(vec!["a".into(), "b".into()]))
        );
        assert_eq!(
            read("[]", "[\"a,b\"]"),
            Ok(Value::Array(vec!["a,b".into()]))
        );
        assert_eq!(
            read("[1]", "3,4"),
            Ok(Value::Array(vec![3.into(), 4.into()]))
        );
        assert_eq!(read("[\"a\"]", ""), Ok(Value::Array(vec![])));
    }

    #[test]
    fn laying_over_keeps_what_is_not_mentioned() {
        let mut base = table("[a]\nx = 1\ny = 2\n");
        lay_over(&mut base, table("[a]\ny = 3\n"));
        assert_eq!(base, table("[a]\nx = 1\ny = 3\n"));
    }
}
