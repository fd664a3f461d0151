//! What changes in the mounted folder changes on the edges, before somebody could notice.

use std::fs;
use std::time::{Duration, Instant};

use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::fleet::{Edge, Jump};
use harness::mount::Mount;
use harness::wait::until;
use harness::{http, needs, php};

/// What a changed picture may take to be gone from an edge.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn a_picture_that_is_replaced_moved_or_deleted_in_the_folder_is_so_on_the_edge_within_a_second() {
    if !needs::met(php::NEEDS) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    let jump = Jump::start(&mount.origin, "");
    let edge = Edge::start(1, &mount.origin, &jump);
    let seen = |path: &str| {
        let reply = http::get(&format!("{}mount/{path}", edge.url), &[]);
        (reply.status, reply.body)
    };
    until("the edge follows the origin's changes", || {
        let status = http::get(&format!("{}_api/status", edge.url), &[]);
        let text = String::from_utf8(status.body).ok()?;
        text.contains("\"changes\":\"followed\"").then_some(())
    });
    let picture = |letter: u8| [b"GIF89a".as_slice(), &[letter; 5_000]].concat();
    fs::create_dir(mount.point.join("pic")).expect("a folder");
    for name in ["kept.gif", "replaced.gif", "deleted.gif", "pic/moved.gif"] {
        fs::write(mount.point.join(name), picture(b'1')).expect("a picture");
        until("the edge holds it", || {
            let reply = http::get(&format!("{}mount/{name}", edge.url), &[]);
            (reply.header("x-cache") == "HIT" && reply.body == picture(b'1')).then_some(())
        });
    }

    let happens = |what: &str, done: &dyn Fn() -> bool| {
        let began = Instant::now();
        until(what, || done().then_some(()));
        assert!(
            began.elapsed() < AT_ONCE,
            "{what}: after {:?}",
            began.elapsed()
        );
    };
    fs::write(mount.point.join("replaced.gif"), picture(b'2')).expect("a picture");
    happens("the new one is seen", &|| {
        seen("replaced.gif") == (200, picture(b'2'))
    });
    fs::remove_file(mount.point.join("deleted.gif")).expect("deleted");
    happens("it is gone", &|| seen("deleted.gif").0 == 404);
    fs::rename(mount.point.join("pic"), mount.point.join("other")).expect("renamed");
    happens("it is gone from its old place", &|| {
        seen("pic/moved.gif").0 == 404
    });
    happens("it is at its new place", &|| {
        seen("other/moved.gif") == (200, picture(b'1'))
    });
    let kept = http::get(&format!("{}mount/kept.gif", edge.url), &[]);
    assert_eq!(kept.header("x-cache"), "HIT");
}
