//! One real picture through all of it, before and after its upload to the drive.

use graph_emulator::{Profile, Route};
use harness::cloud::Cloud;
use harness::fleet::{Edge, Jump};
use harness::mount::Mount;
use harness::redis::Redis;
use harness::wait::until;
use harness::{http, needs, php};

#[test]
fn what_php_uploads_comes_back_through_origin_edge_and_jump() {
    if !needs::met(php::NEEDS) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    let redis = Redis::start();
    let jump = Jump::start(&mount.origin, &redis.url());
    let edge = Edge::start(1, &mount.origin, &jump);
    until("jump knows the edge", || {
        jump.location("/mount/x")
            .starts_with(&edge.url)
            .then_some(())
    });
    let root = mount.point.display().to_string();

    // Nothing gets to the drive for now: everything is served from what is here.
    cloud.0.hold(Route::PutContent);
    let mut pictures = Vec::new();
    for kind in ["gif", "jpg", "png", "webp"] {
        let (source, bytes) = php::picture(mount.dir(), kind, 100_000, kind);
        let path = format!("2026/11/23/6b03ba41dfda1.{kind}");
        let done = php::run(&["upload", &root, &source.display().to_string(), &path]);
        assert_eq!(done["bytes"], bytes.len());
        read_everywhere(&mount, &jump, &edge, &path, &bytes);
        pictures.push((path, bytes));
    }
    for (path, _) in &pictures {
        assert_eq!(
            cloud.0.read_file(&format!("share/mount/{path}")),
            None,
            "held back"
        );
    }

    cloud.0.release(Route::PutContent);
    for (path, bytes) in &pictures {
        let there = format!("share/mount/{path}");
        cloud.has(&there, bytes);
        assert_eq!(cloud.0.node(&there).expect("just seen").versions, 1);
        read_everywhere(&mount, &jump, &edge, path, bytes);
    }

    let (path, bytes) = &pictures[0];
    let url = format!("{}/mount/{path}", mount.origin);
    let whole = http::get(&url, &[]);
    let tag = whole.header("etag").to_owned();
    let part = http::get(&url, &[("range", "bytes=10-19")]);
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[10..20]));
    assert_eq!(
        part.header("content-range"),
        format!("bytes 10-19/{}", bytes.len())
    );
    let same = http::get(&url, &[("if-none-match", &tag)]);
    assert_eq!((same.status, same.body.len()), (304, 0));
    let through = format!("{}mount/{path}", edge.url);
    let part = http::get(&through, &[("range", "bytes=0-3")]);
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[..4]));
    let tag = http::get(&through, &[]).header("etag").to_owned();
    assert_eq!(http::get(&through, &[("if-none-match", &tag)]).status, 304);

    for (path, _) in &pictures {
        assert_eq!(php::run(&["delete", &root, path])["deleted"], true);
        assert_eq!(
            http::get(&format!("{}/mount/{path}", mount.origin), &[]).status,
            404
        );
        assert_eq!(php::run(&["view", &root, path])["found"], false);
    }
    cloud.until("the pictures are gone from the drive", |drive| {
        pictures
            .iter()
            .all(|(path, _)| drive.node(&format!("share/mount/{path}")).is_none())
    });
}

fn read_everywhere(mount: &Mount, jump: &Jump, edge: &Edge, path: &str, bytes: &[u8]) {
    let root = mount.point.display().to_string();
    let viewed = php::run(&["view", &root, path]);
    assert_eq!(viewed["bytes"], bytes.len());
    let from_origin = http::get(&format!("{}/mount/{path}", mount.origin), &[]);
    assert_eq!(
        (from_origin.status, from_origin.body.as_slice()),
        (200, bytes)
    );
    let raw = http::get(
        &format!("{}/api/raw/?path=/mount/{path}", mount.origin),
        &[],
    );
    assert_eq!((raw.status, raw.body.as_slice()), (200, bytes));
    let location = jump.location(&format!("/mount/{path}?v=1"));
    assert_eq!(location, format!("{}mount/{path}?v=1", edge.url));
    let from_edge = http::get(&location, &[]);
    assert_eq!((from_edge.status, from_edge.body.as_slice()), (200, bytes));
    assert_eq!(
        from_edge.header("content-type"),
        from_origin.header("content-type")
    );
}

#[test]
fn six_first_uploads_of_a_day_at_once_all_succeed() {
    if !needs::met(php::NEEDS) {
        return;
    }
    let cloud = Cloud::start(Profile::PersonalMigrated);
    let mount = Mount::start(&cloud);
    let root = mount.point.display().to_string();
    let uploads: Vec<_> = (0..6)
        .map(|n| {
            let (source, bytes) = php::picture(mount.dir(), "gif", 30_000, &format!("p{n}"));
            let path = format!("2026/12/01/picture{n}.gif");
            (source.display().to_string(), path, bytes)
        })
        .collect();
    let running: Vec<_> = uploads
        .iter()
        .map(|(source, path, _)| php::spawn(&["upload", &root, source, path]))
        .collect();
    for child in running {
        let _ = php::finish(child);
    }
    for (_, path, bytes) in &uploads {
        assert_eq!(
            std::fs::read(mount.point.join(path)).expect("it is there"),
            *bytes
        );
        cloud.has(&format!("share/mount/{path}"), bytes);
    }
    let folders: Vec<String> = cloud
        .0
        .tree()
        .into_iter()
        .filter(|node| node.kind == graph_emulator::NodeKind::Folder)
        .map(|node| node.path.trim_start_matches('/').to_owned())
        .collect();
    assert_eq!(
        folders,
        [
            "share",
            "share/mount",
            "share/mount/2026",
            "share/mount/2026/12",
            "share/mount/2026/12/01"
        ]
    );
}
