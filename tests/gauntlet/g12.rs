//! G12: Lsky Pro's own calls, made by several PHP workers at once, while the service refuses every third
//! request for being too many, with a restart in the middle. No call fails, each picture is there at once
//! with its bytes, and all of them get to the drive, once each.

use std::collections::BTreeMap;

use graph_emulator::{Fault, NodeKind, Profile, Route};
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::{gate, php};

/// Workers that php-fpm has at work.
const WORKERS: usize = 4;

/// Pictures of a worker before the restart, and after it: a round has a thousand.
const PICTURES: usize = 125;

/// The same where many tests have to be done soon.
const FEW: usize = 15;

/// What 99 of 100 uploads take at most on a machine of its own, in microseconds (gate G12 of the design).
const PATIENCE: u64 = 20_000;

fn round(seed: u64) -> Vec<(&'static str, u64)> {
    let long = std::env::var_os("GAUNTLET_ROUNDS").is_some();
    let count = if long { PICTURES } else { FEW };
    let cloud = Cloud::start(Profile::Business);
    for (route, n) in [Route::PutContent, Route::CreateFolder, Route::Delta]
        .into_iter()
        .zip(0..)
    {
        let refused = Fault::status(route, 429).retry_after(1);
        cloud.0.inject(refused.chance(0.3, seed.wrapping_add(n)));
    }
    let mut mount = Mount::start(&cloud);
    let mut pictures = BTreeMap::new();
    let mut micros = Vec::new();
    for half in 0..2 {
        if half > 0 {
            mount.stop();
            mount.run_degraded();
        }
        work(
            &mount,
            count,
            &format!("{seed}-{half}"),
            &mut pictures,
            &mut micros,
        );
    }
    let refused = cloud.0.requests();
    let refused = refused.iter().filter(|it| it.status == Some(429)).count();
    cloud.0.clear_faults();
    mount.tuyunfs(&["flush", "--wait"]);
    verify(&cloud, &mount, &pictures);
    micros.sort_unstable();
    let slow = micros[micros.len() * 99 / 100];
    assert!(
        !long || slow < PATIENCE,
        "1 of 100 uploads took {slow} µs and more"
    );
    vec![
        ("pictures", pictures.len() as u64),
        ("requests refused", refused as u64),
    ]
}

/// Has the workers upload and view.
fn work(
    mount: &Mount,
    count: usize,
    seed: &str,
    pictures: &mut BTreeMap<String, String>,
    micros: &mut Vec<u64>,
) {
    let root = mount.point.display().to_string();
    let workers: Vec<_> = (0..WORKERS)
        .map(|n| php::spawn(&["many", &root, &count.to_string(), &format!("{seed}-{n}")]))
        .collect();
    for worker in workers {
        let done = php::finish(worker);
        for (path, md5) in done["pictures"].as_object().expect("an object") {
            pictures.insert(path.clone(), md5.as_str().expect("a hash").to_owned());
        }
        let times = done["micros"].as_array().expect("a list");
        micros.extend(times.iter().map(|it| it.as_u64().expect("a number")));
    }
}

/// Each picture is here and on the drive, in one version, and nothing else is.
fn verify(cloud: &Cloud, mount: &Mount, pictures: &BTreeMap<String, String>) {
    let root = mount.point.display().to_string();
    let mut there = 0;
    for node in cloud.0.tree() {
        let path = node.path.strip_prefix("share/mount/");
        let Some(path) = path.filter(|_| node.kind == NodeKind::File) else {
            continue;
        };
        let md5 = pictures
            .get(path)
            .unwrap_or_else(|| panic!("{path} was never uploaded"));
        let bytes = cloud.0.read_file(&node.path).expect("a file");
        let here = std::fs::read(mount.point.join(path)).expect("it is here");
        assert!(bytes == here, "{path} has other bytes on the drive");
        let viewed = (there % 50 == 0).then(|| php::run(&["view", &root, path]));
        assert!(viewed.is_none_or(|viewed| viewed["md5"] == **md5), "{path}");
        assert_eq!(cloud.0.versions(&node.path).len(), 1, "{path}");
        there += 1;
    }
    assert_eq!(there, pictures.len(), "on the drive");
}

#[test]
fn g12_php() {
    if needs::met(&[Need::Root, Need::Fuse, Need::Program("php")]) {
        gate::run(
            "G12",
            "Lsky Pro's calls by PHP, a storm of 429, a restart",
            1,
            round,
        );
    }
}
