//! A picture's bytes as a response's body, counted as they leave.
//!
//! A body that cannot be completed ends in an error, which resets the visitor's connection: better
//! no picture than half of one that looks whole.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, stream};

use super::multipart::Layout;
use crate::cache::{Content, Reader};
use crate::traffic::Counters;

/// How much of a file is read at once: large enough to make the trip to another thread cheap,
/// small enough that a thousand visitors are no burden.
const PIECE: u64 = 128 * 1024;

/// A part of what is held.
pub(super) fn held(content: Content, part: Range<u64>, counters: Arc<Counters>) -> Body {
    counted(pieces_of(content, part), counters)
}

fn pieces_of(content: Content, part: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
    match content {
        Content::Memory(bytes) => {
            let part =
                index(&part).and_then(|part| (part.end <= bytes.len()).then(|| bytes.slice(part)));
            let piece = part.ok_or_else(|| io::Error::other("a part outside of its picture"));
            stream::iter([piece]).boxed()
        }
        Content::File(file) => read(file, part).boxed(),
    }
}

/// Several parts of what is held, with what stands between them.
pub(super) fn parts(content: &Content, layout: Layout, counters: &Arc<Counters>) -> Body {
    let piece = |bytes: Bytes| stream::iter([Ok::<_, io::Error>(bytes)]).boxed();
    let mut pieces = Vec::with_capacity(2 * layout.parts.len() + 1);
    for (head, part) in layout.parts {
        pieces.push(piece(head));
        pieces.push(pieces_of(content.clone(), part));
    }
    pieces.push(piece(layout.end));
    counted(stream::iter(pieces).flatten(), Arc::clone(counters))
}

/// What a reader reads along.
pub(super) fn coming(reader: Reader, counters: Arc<Counters>) -> Body {
    let pieces = stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(reader))),
            Ok(None) => None,
            Err(cut) => Some((Err(io::Error::other(cut)), None)),
        }
    });
    counted(pieces, counters)
}

fn read(file: Arc<File>, part: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(part, move |part| {
        let file = Arc::clone(&file);
        async move {
            if part.is_empty() {
                return None;
            }
            let end = part.end.min(part.start + PIECE);
            let piece = part.start..end;
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; index(&piece).map_or(0, |piece| piece.len())];
                file.read_exact_at(&mut bytes, piece.start)
                    .map(|()| Bytes::from(bytes))
            });
            match read
                .await
                .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            {
                Ok(bytes) => Some((Ok(bytes), end..part.end)),
                // Nothing more after an error.
                Err(error) => Some((Err(error), 0..0)),
            }
        }
    })
}

fn counted(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    counters: Arc<Counters>,
) -> Body {
    Body::from_stream(pieces.inspect(move |piece| {
        if let Ok(piece) = piece {
            counters.went_out(piece.len() as u64);
        }
    }))
}

fn index(part: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(part.start).ok()?..usize::try_from(part.end).ok()?)
}
