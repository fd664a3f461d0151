//! The ids that a back end gives to drives and items.
//!
//! They only have to look right and never repeat: clients treat them as opaque.

use rand::RngExt as _;

use crate::profile::{Switches, TagForm};

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The first number of a classic personal drive's items; the root has it.
const CLASSIC_ROOT: u64 = 101;

/// Gives ids for one drive.
#[derive(Debug)]
pub(crate) struct Mint {
    form: Form,
    next: u64,
}

#[derive(Debug)]
enum Form {
    /// `<DRIVEID>!<digits>`.
    Classic(String),
    /// `<DRIVEID>!s<32 hex>`.
    Migrated(String),
    /// `01` and base 32.
    Site,
}

impl Mint {
    /// The id of a new drive, and the mint for its items.
    pub(crate) fn drive(switches: &Switches) -> (String, Self) {
        if !switches.personal {
            let id = format!("b!{}", pick(BASE64_URL, 64));
            return (
                id,
                Self {
                    form: Form::Site,
                    next: 0,
                },
            );
        }
        // A leading zero, so that the quirk of dropping it has something to drop.
        let id = format!("0{}", &hex(16)[1..]);
        let upper = id.to_uppercase();
        let form = match switches.tags {
            TagForm::Bare => Form::Classic(upper),
            TagForm::Guid => Form::Migrated(upper),
        };
        (
            id,
            Self {
                form,
                next: CLASSIC_ROOT,
            },
        )
    }

    pub(crate) fn item(&mut self) -> String {
        let number = self.next;
        self.next += 1;
        match &self.form {
            Form::Classic(drive) => format!("{drive}!{number}"),
            Form::Migrated(drive) => format!("{drive}!s{}", hex(32)),
            Form::Site => format!("01{}", pick(BASE32, 32)),
        }
    }
}

/// A GUID as the service writes it inside tags: upper case.
pub(crate) fn guid() -> String {
    let text = hex(32).to_uppercase();
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}

/// A GUID in lower case, for request ids.
pub(crate) fn request_id() -> String {
    guid().to_lowercase()
}

/// So many random hex digits.
pub(crate) fn hex(length: usize) -> String {
    pick(b"0123456789abcdef", length)
}

/// A secret that fits into a URL or a header as it stands.
pub(crate) fn secret(length: usize) -> String {
    pick(BASE64_URL, length)
}

/// What a person types: capitals and digits that cannot be mistaken for each other.
pub(crate) fn user_code() -> String {
    pick(b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789", 9)
}

fn pick(alphabet: &[u8], length: usize) -> String {
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn ids_have_the_form_of_their_back_end() {
        let (drive, mut mint) = Mint::drive(&Profile::PersonalClassic.switches());
        assert_eq!(drive.len(), 16);
        assert_eq!(mint.item(), format!("{}!101", drive.to_uppercase()));
        let (drive, mut mint) = Mint::drive(&Profile::PersonalMigrated.switches());
        assert_eq!(mint.item().len(), drive.len() + 2 + 32);
        let (drive, mut mint) = Mint::drive(&Profile::Business.switches());
        assert_eq!((&drive[..2], drive.len()), ("b!", 66));
        let item = mint.item();
        assert_eq!((&item[..2], item.len()), ("01", 34));
    }
}
