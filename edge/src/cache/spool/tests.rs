//! One writer, several readers, and what each of them sees.

use std::io::Write;

use super::*;

async fn all(mut reader: Reader) -> Result<Vec<u8>, Cut> {
    let mut seen = Vec::new();
    while let Some(piece) = reader.next().await? {
        seen.extend_from_slice(&piece);
    }
    Ok(seen)
}

fn filed(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("write");
    file
}

#[tokio::test]
async fn readers_see_the_same_whole_body_whenever_they_join() {
    let spool = Spool::new();
    let early = tokio::spawn(all(spool.attach().expect("attach")));
    spool.keep_in(filed(b"picture"));
    spool.filed(7, 6);
    let late = spool.attach().expect("attach");
    spool.finish(7);
    assert_eq!(early.await.expect("task"), Ok(b"picture".to_vec()));
    assert_eq!(all(late).await, Ok(b"picture".to_vec()));
}

#[tokio::test]
async fn the_last_byte_is_not_shown_before_the_end_is_verified() {
    let spool = Spool::new();
    let mut reader = spool.attach().expect("attach");
    spool.keep_in(filed(b"picture"));
    spool.filed(7, 6);
    assert_eq!(reader.next().await, Ok(Some(Bytes::from_static(b"pictur"))));
    spool.cut();
    assert_eq!(reader.next().await, Err(Cut));
}

#[tokio::test]
async fn a_range_ends_where_it_should_and_needs_no_end_of_the_body() {
    let spool = Spool::new();
    let mut reader = spool.attach().expect("attach");
    reader.narrow(2, 5);
    spool.keep_in(filed(b"picture"));
    spool.filed(7, 6);
    assert_eq!(all(reader).await, Ok(b"ctu".to_vec()));
}

#[tokio::test]
async fn what_the_disk_did_not_take_passes_through_memory_without_a_gap() {
    let spool = Spool::new();
    let reader = tokio::spawn(all(spool.attach().expect("attach")));
    spool.keep_in(filed(b"pic"));
    spool.filed(3, 3);
    spool
        .pass(Bytes::from_static(b"tu"), 5)
        .await
        .expect("a reader is there");
    spool
        .pass(Bytes::from_static(b"re"), 6)
        .await
        .expect("a reader is there");
    spool.finish(7);
    assert_eq!(reader.await.expect("task"), Ok(b"picture".to_vec()));
}

#[tokio::test]
async fn nobody_joins_a_body_whose_beginning_has_passed() {
    let spool = Spool::new();
    let mut reader = spool.attach().expect("attach");
    let pieces = WINDOW / 1024 + 1;
    for n in 1..=pieces {
        let piece = Bytes::from(vec![7; 1024]);
        let passed = spool.pass(piece, n as u64 * 1024);
        let (passed, read) = tokio::join!(passed, reader.next());
        passed.expect("a reader is there");
        assert_eq!(read.expect("not cut").map(|piece| piece.len()), Some(1024));
    }
    spool
        .pass(Bytes::from_static(b"x"), 0)
        .await
        .expect("a reader is there");
    assert!(spool.attach().is_none());
}

#[tokio::test]
async fn a_passing_body_that_nobody_reads_is_given_up() {
    let spool = Spool::new();
    drop(spool.attach());
    assert_eq!(spool.pass(Bytes::from_static(b"x"), 1).await, Err(Deserted));
}

#[tokio::test]
async fn a_reader_that_stands_still_is_cut_off_after_a_while_so_that_others_go_on() {
    let spool = Spool::with_patience(Duration::from_millis(20));
    let mut slow = spool.attach().expect("attach");
    let quick = tokio::spawn(all(spool.attach().expect("attach")));
    let half = Bytes::from(vec![1; WINDOW / 2 + 1]);
    let len = half.len() as u64;
    spool
        .pass(half.clone(), len)
        .await
        .expect("readers are there");
    spool
        .pass(half.clone(), 2 * len)
        .await
        .expect("the quick one remains");
    spool.finish(2 * len);
    assert_eq!(
        quick.await.expect("task").expect("whole").len() as u64,
        2 * len
    );
    assert_eq!(slow.next().await, Err(Cut));
}
