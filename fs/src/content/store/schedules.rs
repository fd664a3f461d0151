//! Opening, closing and removing the same contents, in many orders.

use super::super::disk::Host;
use super::*;
use crate::threads::thread;
use crate::threads::tried::in_many_orders;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(Host)).unwrap();
    (dir, store)
}

#[test]
fn g8_all_who_hold_a_content_at_once_share_it_and_the_last_leaves_no_trace() {
    let title = "contents opened and closed, in many orders";
    in_many_orders("G8-contents", title, || {
        let (_dir, store) = store();
        let id = store.create().unwrap().id();
        let open: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                thread::spawn(move || {
                    drop(store.load(id).unwrap());
                    store.load(id).unwrap()
                })
            })
            .collect();
        let held: Vec<_> = open.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(held.iter().all(|blob| Arc::ptr_eq(blob, &held[0])));
        assert!(Arc::ptr_eq(&store.load(id).unwrap(), &held[0]));
        let closing: Vec<_> = held
            .into_iter()
            .map(|blob| thread::spawn(move || drop(blob)))
            .collect();
        for one in closing {
            one.join().unwrap();
        }
        assert!(store.shelf.open.lock().is_empty());
    });
}

#[test]
fn g8_a_content_that_is_removed_is_whole_for_who_has_it_open_and_gone_for_all_others() {
    let title = "contents opened and removed, in many orders";
    in_many_orders("G8-removal", title, || {
        let (_dir, store) = store();
        let blob = store.create().unwrap();
        blob.write_at(0, b"whole").unwrap();
        let id = blob.id();
        drop(blob);
        let remover = store.clone();
        let removing = thread::spawn(move || remover.remove(id));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let store = store.clone();
                thread::spawn(move || match store.load(id) {
                    Ok(blob) => assert_eq!(blob.read_at(0, 9).unwrap(), "whole"),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
                })
            })
            .collect();
        for one in readers.into_iter().chain([removing]) {
            one.join().unwrap();
        }
        assert!(store.load(id).is_err(), "it is found again");
        assert!(store.shelf.open.lock().is_empty());
        assert_eq!(store.list().unwrap(), []);
    });
}
