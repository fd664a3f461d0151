//! Is a database damaged, or is it the disk that does not serve it at present?
//!
//! What is damaged is put aside and begun anew. A full disk, too many open files or a folder that
//! is not there yet pass, and what was written before is as good as it was.

use std::io::ErrorKind;

use redb::Error;

/// Whether the bytes themselves are at fault, so that another try will read the same.
pub(crate) fn is_damage(error: &Error) -> bool {
    match error {
        // So says redb of a file that is none of its own, or ends too early.
        Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof
        ),
        // Tables of other types than ours were written by another program.
        Error::Corrupted(_)
        | Error::UpgradeRequired(_)
        | Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TableIsNotMultimap(_)
        | Error::TypeDefinitionChanged { .. } => true,
        _ => false,
    }
}
