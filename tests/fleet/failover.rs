//! A node that dies gets no visitors, at most one lease later.

use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::fleet::{Edge, Jump};
use harness::mount::Mount;
use harness::redis::Redis;
use harness::wait::until;
use harness::{needs, php};

#[test]
fn when_an_edge_dies_jump_answers_with_the_next_and_then_with_the_origin() {
    if !needs::met(php::NEEDS) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    let redis = Redis::start();
    let jump = Jump::start(&mount.origin, &redis.url());
    assert_eq!(
        jump.location("/mount/a.gif"),
        format!("{}/mount/a.gif", mount.origin)
    );
    let first = Edge::start(1, &mount.origin, &jump);
    let second = Edge::start(2, &mount.origin, &jump);
    let sent_to = |url: &str| {
        let wanted = format!("{url}mount/a.gif");
        until(&format!("visitors are sent to {url}"), || {
            (jump.location("/mount/a.gif") == wanted).then_some(())
        });
    };
    sent_to(&first.url);
    first.kill();
    sent_to(&second.url);
    assert!(second.stop().success());
    // A node that leaves is gone at once.
    assert_eq!(
        jump.location("/mount/a.gif"),
        format!("{}/mount/a.gif", mount.origin)
    );
}
