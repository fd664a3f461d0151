//! Whether the kernel can read files by itself here (passthrough).
//!
//! It takes Linux 6.9, the capability `SYS_ADMIN` outside of any user namespace, and a disk under the contents that
//! the kernel takes files of. None of that can be seen beforehand: one file is registered after the mount, and where that
//! is refused everything goes through us (`fuse-kernel.md` 2, 3).

use std::io;
use std::os::fd::AsFd;

use fuser::{BackingId, InitFlags, KernelConfig};

use crate::content::Store;

/// The magic number of overlayfs in `statfs(2)` (`linux/magic.h`).
const OVERLAYFS: u64 = 0x794c_7630;

/// How many filesystems may stand on each other, with ours: one more where the contents are on an overlay, as in a
/// container.
pub(super) fn depth(store: &Store) -> Option<u32> {
    let on = store
        .filesystem()
        .inspect_err(
            |error| tracing::warn!(%error, "cannot tell what filesystem the contents are on"),
        )
        .ok()?;
    Some(if on == OVERLAYFS { 2 } else { 1 })
}

/// Asks the kernel to read files by itself.
pub(super) fn negotiate(config: &mut KernelConfig, depth: u32) {
    if config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() {
        let _ = config.set_max_stack_depth(depth);
    }
}

/// Finds out whether it does, with an empty file that the kernel keeps as long as the mount lasts.
///
/// # Errors
/// It does not, or the disk cannot tell who writes to a file.
pub(super) fn probe(device: impl AsFd, store: &Store) -> io::Result<()> {
    let made = store.create()?;
    let (id, file) = (made.id(), made.file());
    let blob = store.open_anew(id, &file);
    drop((made, file));
    let probed = blob.and_then(|blob| {
        if !blob.is_at_rest()? {
            return Err(io::Error::other("a lease is refused for no reason"));
        }
        BackingId::create_raw(device, &*blob.file())
    });
    store.remove(id);
    probed.map(drop)
}
