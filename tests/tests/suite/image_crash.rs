//! The agent is killed at a hundred moments of what it does with images; the next one finds whole images alone, and nothing
//! that would never be freed.

use std::time::{Duration, Instant};

use hull_proto::v1::{ImportStart, PruneImagesRequest, RemoveImageRequest};
use hull_tests::harness::keep::{assert_files_are_those_of, files, images, remove_all, usage, verify};
use hull_tests::harness::{AgentOptions, Clients, Rootfs, Session, image, oci};

/// Moments of each operation; what is done to images is imports, for the most part.
const IMPORTS: u32 = 50;
const PRUNES: u32 = 25;
const REMOVALS: u32 = 25;

fn start() -> ImportStart {
    ImportStart { tags: vec!["test/crash:1".into()], ..ImportStart::default() }
}

async fn import(clients: &Clients, archive: Vec<u8>) {
    // Whether it was in time does not matter.
    let _either = image::import(clients, start(), archive).await;
}

async fn prune(clients: &Clients, _: Vec<u8>) {
    let request = PruneImagesRequest { all: true, dry_run: false };
    let _either = clients.images.clone().prune_images(request).await;
}

async fn remove(clients: &Clients, _: Vec<u8>) {
    let request = RemoveImageRequest { image: "test/crash:1".into() };
    let _either = clients.images.clone().remove_image(request).await;
}

/// Kills the agent at `moments` moments of an operation, spread evenly over the time that it takes, and looks each time.
async fn at_each_moment<F: Future<Output = ()> + Send + 'static>(
    hull: &mut Session,
    archive: &[u8],
    prepared: bool,
    moments: u32,
    operation: fn(Clients, Vec<u8>) -> F,
) {
    let mut lengths = Vec::new();
    for _ in 0..3 {
        if prepared {
            import(&hull.clients, archive.to_vec()).await;
        }
        let begun = Instant::now();
        operation(hull.clients.clone(), archive.to_vec()).await;
        lengths.push(begun.elapsed());
        remove_all(&hull.clients).await;
    }
    lengths.sort();
    let length = lengths[1];
    for moment in 0..moments {
        if prepared {
            image::import(&hull.clients, start(), archive.to_vec()).await.expect("ImportImage");
        }
        let delay = length * moment / moments;
        let running = tokio::spawn(operation(hull.clients.clone(), archive.to_vec()));
        sleep(delay).await;
        hull.agent.kill();
        running.await.expect("join");
        hull.agent.spawn();
        hull.reconnect().await;
        check(hull, &format!("{delay:?} of {length:?}")).await;
    }
}

/// To the microsecond.
async fn sleep(delay: Duration) {
    tokio::task::spawn_blocking(move || std::thread::sleep(delay)).await.expect("sleeping");
}

async fn check(hull: &Session, moment: &str) {
    let there = images(&hull.clients).await;
    let (damaged, _) = verify(&hull.clients, &[], false).await.expect("VerifyImages");
    assert!(damaged.is_empty(), "killed after {moment}: {damaged:?}");
    let data = hull.agent.data_dir();
    assert_files_are_those_of(&data, &there);
    assert!(files(&data, "damaged").is_empty(), "killed after {moment}");
    remove_all(&hull.clients).await;
    assert_eq!(usage(&hull.clients).await.images.expect("images").bytes, 0, "killed after {moment}");
    assert_files_are_those_of(&data, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_a_hundred_moments_no_partial_image_is_left() {
    let mut hull = Session::own_with(AgentOptions::default()).await;
    remove_all(&hull.clients).await;
    let noise = |seed: u32| -> Vec<u8> {
        (0_u32..2 << 20).map(|at| at.wrapping_mul(2_654_435_761 + 2 * seed).to_le_bytes()[1]).collect()
    };
    let layers: Vec<Vec<u8>> = (0..3).map(|seed| Rootfs::empty().file("noise", 0o644, noise(seed)).tar()).collect();
    let archive = oci::archive(&layers, &hull.agent.scratch("crash"));
    at_each_moment(&mut hull, &archive, false, IMPORTS, |clients, archive| async move {
        import(&clients, archive).await;
    })
    .await;
    at_each_moment(&mut hull, &archive, true, PRUNES, |clients, archive| async move { prune(&clients, archive).await })
        .await;
    at_each_moment(&mut hull, &archive, true, REMOVALS, |clients, archive| async move {
        remove(&clients, archive).await;
    })
    .await;
}
