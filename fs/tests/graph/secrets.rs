//! Tokens and pre-authenticated URLs stand in requests, and nowhere else.

use std::fmt::{Debug, Write as _};
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::client::*;

/// Everything that is logged on this thread, at every level, of every library.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<String>>);

impl Visit for Written {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field} {value:?}").unwrap();
    }
}

impl Subscriber for Written {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn no_token_and_no_address_with_a_secret_is_ever_logged_or_told() {
    let client = Client::of(Profile::Business).await;
    let written = Written::default();
    // With a single listener in the process, `tracing` asks the thread that comes first to a line of
    // the log whether anybody wants it: one of another test's, which has none.
    let _second = tracing::Dispatch::new(Written::default());
    let _here = tracing::subscriber::set_default(written.clone());
    let bytes = pattern(12 * MIB);
    let service = &client.bench.service;
    let mut told = String::new();
    // Sessions that end in every way, and downloads, too.
    for fault in [
        Fault::status(Route::Fragment, 404).after(1),
        Fault::status(Route::Fragment, 401).after(1),
        Fault::status(Route::Fragment, 416),
        Fault::lost_reply(Route::Fragment),
        Fault::status(Route::SessionCancel, 500),
        Fault::new(Route::CreateSession, Act::EmptyBody),
        Fault::status(Route::Fragment, 401).always(),
    ] {
        service.inject(fault);
        let sent = client.put(client.new_file("a"), &bytes).await;
        writeln!(told, "{sent:?}").unwrap();
        service.clear_faults();
        service.delete("/share/mount/a").ok();
    }
    let item = client.put(client.new_file("b"), &bytes).await.unwrap();
    for act in [Act::CutBody { after: 1000 }, Act::LoseRequest] {
        service.inject(Fault::new(Route::Download, act).always());
        let read = client.read_all(&item.id, 0, 100_000).await;
        writeln!(told, "{:?}", read.map(drop)).unwrap();
        service.clear_faults();
    }
    let stored = std::fs::read(client.bench.store().path()).unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    let token = stored["access_token"].as_str().unwrap();
    let written = written.0.lock().unwrap();
    assert!(written.contains("refused"), "something is logged");
    for text in [&*written, &told] {
        let at = text.find("tempauth").or_else(|| text.find(token));
        let near = at.map(|at| &text[at.saturating_sub(200)..(at + 40).min(text.len())]);
        assert_eq!(near, None);
    }
}
