//! The agent is killed at a hundred moments of what it does with images; the next one finds whole images alone, and nothing
//! that would never be freed.

use std::time::{Duration, Instant};

use hull_proto::v1::{ImportStart, PruneImagesRequest, PullImageRequest, RemoveImageRequest};
use hull_tests::harness::keep::{assert_files_are_those_of, files, images, prune, remove_all, usage, verify};
use hull_tests::harness::oci::Compression;
use hull_tests::harness::site::Site;
use hull_tests::harness::{Clients, Rootfs, Session, bulk, image, oci};

/// Moments of each operation.
const IMPORTS: usize = 40;
const PULLS: usize = 30;
const PRUNES: usize = 15;
const REMOVALS: usize = 15;

fn start() -> ImportStart {
    ImportStart { tags: vec!["test/crash:1".into()], ..ImportStart::default() }
}

/// Kills the agent at `moments` moments, by [`bulk`], of an operation, spread evenly over the time that it takes, and looks each time.
/// `prepared`: an archive that is imported before each.
async fn at_each_moment<F: Future<Output = ()> + Send + 'static>(
    hull: &mut Session,
    moments: usize,
    prepared: Option<&[u8]>,
    operation: impl Fn(Clients) -> F,
) {
    let mut lengths = Vec::new();
    for _ in 0..3 {
        prepare(hull, prepared).await;
        let begun = Instant::now();
        operation(hull.clients.clone()).await;
        lengths.push(begun.elapsed());
        remove_all(&hull.clients).await;
        prune(&hull.clients, true, false).await;
    }
    lengths.sort();
    let length = lengths[1];
    let moments = u32::try_from(bulk(moments)).expect("a sane number");
    for moment in 0..moments {
        prepare(hull, prepared).await;
        let delay = length * moment / moments;
        let running = tokio::spawn(operation(hull.clients.clone()));
        sleep(delay).await;
        hull.agent.kill();
        running.await.expect("join");
        hull.agent.spawn();
        hull.reconnect().await;
        check(hull, &format!("{delay:?} of {length:?}")).await;
    }
}

async fn prepare(hull: &Session, archive: Option<&[u8]>) {
    if let Some(archive) = archive {
        image::import(&hull.clients, start(), archive.to_vec()).await.expect("ImportImage");
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
    // Parts of blobs are there to be gone on with, and go with a prune.
    let parts = usage(&hull.clients).await.partial_pulls.expect("parts").bytes;
    assert_eq!(prune(&hull.clients, true, false).await.freed_bytes, parts, "killed after {moment}");
    assert!(files(&data, "parts").is_empty(), "killed after {moment}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_a_hundred_moments_no_partial_image_is_left() {
    let mut site = Site::new().await;
    remove_all(&site.hull.clients).await;
    let noise = |seed: u32| -> Vec<u8> {
        (0_u32..2 << 20).map(|at| at.wrapping_mul(2_654_435_761 + 2 * seed).to_le_bytes()[1]).collect()
    };
    let layers: Vec<Vec<u8>> = (0..3).map(|seed| Rootfs::empty().file("noise", 0o644, noise(seed)).tar()).collect();
    let archive = oci::archive(&layers, &site.hull.agent.scratch("crash"));
    let packed: Vec<_> = layers.into_iter().map(|layer| (layer, Compression::Gzip)).collect();
    site.publish("test/crash:1", &packed);
    let name = site.registry.name("test/crash:1");
    let hull = &mut site.hull;

    // Whether what is killed was in time does not matter.
    at_each_moment(hull, IMPORTS, None, |clients| {
        let archive = archive.clone();
        async move { drop(image::import(&clients, start(), archive).await) }
    })
    .await;
    at_each_moment(hull, PULLS, None, |clients| {
        let request = PullImageRequest { image: name.clone(), ..PullImageRequest::default() };
        async move {
            let Ok(answers) = clients.images.clone().pull_image(request).await else { return };
            let mut answers = answers.into_inner();
            while let Ok(Some(_)) = answers.message().await {}
        }
    })
    .await;
    at_each_moment(hull, PRUNES, Some(&archive), |clients| async move {
        let request = PruneImagesRequest { all: true, dry_run: false };
        drop(clients.images.clone().prune_images(request).await);
    })
    .await;
    at_each_moment(hull, REMOVALS, Some(&archive), |clients| async move {
        let request = RemoveImageRequest { image: "test/crash:1".into() };
        drop(clients.images.clone().remove_image(request).await);
    })
    .await;
}
