//! Server-sent events, from the bytes as they come.
//!
//! As much of the format as a feed needs: lines of `id`, `event` and `data`, ended by an empty line;
//! comments keep the connection alive. What an origin may send is bounded.

/// The longest line, and the longest data of one event. A path is at most a few kilobytes, and JSON
/// writes some of its letters in six.
const MOST: usize = 64 * 1024;

/// An event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The last number told, with this event or before it; none yet.
    pub(super) id: Option<String>,
    /// Its kind; empty for an event that only tells a number.
    pub(super) name: String,
    /// What it says.
    pub(super) data: String,
}

/// More than an event may hold, or no text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no feed of events")]
pub(super) struct NoFeed;

/// What has come of an event so far.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    event: Event,
    /// A line of this event has said something.
    begun: bool,
}

impl Parser {
    /// Takes more bytes; gives the events that are whole now. An id without data counts as an event
    /// here: it tells where to resume.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, NoFeed> {
        let mut whole = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            if self.line.len() + text.len() > MOST {
                return Err(NoFeed);
            }
            self.line.extend_from_slice(text);
            if ended {
                let line = std::mem::take(&mut self.line);
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                whole.extend(self.read(std::str::from_utf8(line).map_err(|_| NoFeed)?)?);
            }
        }
        Ok(whole)
    }

    fn read(&mut self, line: &str) -> Result<Option<Event>, NoFeed> {
        if line.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            let id = self.event.id.clone();
            let event = std::mem::replace(
                &mut self.event,
                Event {
                    id,
                    ..Event::default()
                },
            );
            return Ok(begun.then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if self.event.data.len() + value.len() >= MOST {
                    return Err(NoFeed);
                }
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment, `retry`, or something of a later version.
            _ => return Ok(None),
        }
        self.begun = true;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(id: &str, name: &str, data: &str) -> Event {
        Event {
            id: Some(id.into()),
            name: name.into(),
            data: data.into(),
        }
    }

    #[test]
    fn events_are_told_with_the_last_number() {
        let mut parser = Parser::default();
        let feed = b"id: 7\n\n: ping\n\nid:8\r\nevent:put\r\ndata: {}\r\n\r\nevent: delete\ndata: a\ndata: b\n\n";
        let expected = vec![
            event("7", "", ""),
            event("8", "put", "{}"),
            event("8", "delete", "a\nb"),
        ];
        assert_eq!(parser.take(feed), Ok(expected));
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut parser = Parser::default();
        let endless = vec![b'x'; MOST / 2 + 1];
        assert_eq!(parser.take(&endless), Ok(vec![]));
        assert_eq!(parser.take(&endless), Err(NoFeed));
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(MOST / 2));
        assert_eq!(parser.take(line.as_bytes()), Ok(vec![]));
        assert_eq!(parser.take(line.as_bytes()), Err(NoFeed));
        assert_eq!(Parser::default().take(b"data: \xff\n\n"), Err(NoFeed));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            lines in prop::collection::vec("(id|event|data|retry|)[: ]{0,2}[a-z]{0,5}\r?\n|\r?\n", 0..30),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let text = lines.concat().into_bytes();
            let whole = Parser::default().take(&text);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let (mut parser, mut from, mut events) = (Parser::default(), 0, Vec::new());
            for cut in cuts {
                events.extend(parser.take(&text[from..cut]).expect("short lines"));
                from = cut;
            }
            prop_assert_eq!(Ok(events), whole);
        }

        #[test]
        fn whatever_comes_nothing_breaks(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Parser::default().take(&bytes);
        }
    }
}
