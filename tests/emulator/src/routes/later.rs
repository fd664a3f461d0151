//! What the service does to a file some time after its upload, without an edit by anyone.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    store::{Item, Stamps},
    world::World,
};

/// Starts the later work that the settings ask for.
pub(super) fn after_upload(world: &Arc<World>, drive: usize, id: &str) {
    let settings = world.settings();
    if settings.etag_bump_ms > 0 {
        spawn(
            world,
            settings.etag_bump_ms,
            drive,
            id,
            |world, drive, id| {
                // Deleted meanwhile: nothing is left to be done.
                let _ = world.state().drives[drive].bump(id, world.now());
            },
        );
    }
    if settings.rewrite_ms > 0 {
        spawn(world, settings.rewrite_ms, drive, id, rewrite);
    }
}

fn spawn(
    world: &Arc<World>,
    millis: u64,
    drive: usize,
    id: &str,
    work: impl FnOnce(&World, usize, &str) + Send + 'static,
) {
    // The task outlives neither the runtime nor, by holding it weakly, the emulator.
    let (world, id) = (Arc::downgrade(world), id.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        if let Some(world) = world.upgrade() {
            work(&world, drive, &id);
            world.pulse.beat();
        }
    });
}

/// Properties are written into documents: other bytes, another size, hash and eTag.
fn rewrite(world: &World, drive: usize, id: &str) {
    let found = {
        let state = world.state();
        let item = state.drives[drive].get(id).filter(|item| is_document(item));
        item.and_then(|item| Some((item.file()?.content.clone(), item.stamps)))
    };
    let Some((content, stamps)) = found else {
        return;
    };
    let Ok(bytes) = content.all() else { return };
    let bytes = [&bytes[..], b"<!-- properties -->"].concat();
    let Ok(content) = world.hold(&bytes, drive) else {
        return;
    };
    let now: Timestamp = world.now();
    let stamps = Stamps {
        modified: stamps.modified,
        ..stamps
    };
    // Deleted meanwhile: nothing is left to be rewritten.
    let _ = world.state().drives[drive].set_content(id, content, stamps, now);
}

fn is_document(item: &Item) -> bool {
    let extension = item
        .name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_lowercase());
    matches!(
        extension.as_deref(),
        Some("docx" | "xlsx" | "pptx" | "doc" | "xls" | "ppt" | "pdf" | "html" | "htm")
    )
}
