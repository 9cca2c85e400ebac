//! What hull takes on the disk, and what happens when that is full.

use std::fs;
use std::sync::Arc;

use hull_proto::v1::{ContainerConfig, GetImageRequest, Image, ImportStart, PullImageRequest, RemoveImageRequest};
use hull_tests::harness::image::{base_config, import};
use hull_tests::harness::keep::{assert_files_are_those_of, files, images, prune, usage, verify};
use hull_tests::harness::oci::{Compression, Layout};
use hull_tests::harness::{AgentOptions, Registry, Rootfs, Session, SmallDisk, assert_error, error_info, site, wait};
use tonic::{Code, Status};

const MIB: u64 = 1 << 20;

fn named(name: &str) -> ImportStart {
    ImportStart { tags: vec![name.into()], ..ImportStart::default() }
}

/// Bytes that cannot be compressed, nor be left out as zeros.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut words = Vec::with_capacity(bytes + 8);
    while words.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        words.extend(state.to_le_bytes());
    }
    words.truncate(bytes);
    words
}

async fn add(hull: &Session, name: &str, bytes: u64) -> Result<Image, Status> {
    let noise = noise(usize::try_from(bytes).expect("a size"));
    let rootfs = Rootfs::empty().file("noise", 0o644, noise).file("name", 0o644, name);
    let start = ImportStart { config: Some(base_config()), ..named(&format!("test/{name}:1")) };
    wait::within("ImportImage", import(&hull.clients, start, rootfs.tar())).await
}

#[tokio::test]
async fn usage_tells_of_images_containers_and_logs() {
    let hull = Session::own().await;
    let found = usage(&hull.clients).await;
    let base = found.images.expect("images");
    assert_eq!((base.count, base.active, base.reclaimable_bytes), (1, 0, base.bytes));
    assert!(found.container.is_empty() && found.containers.expect("containers").bytes == 0);
    assert!(found.filesystem_bytes > found.filesystem_free_bytes && found.filesystem_free_bytes > 0);
    assert_eq!(found.partial_pulls.expect("parts").bytes, 0);
    let image = add(&hull, "more", 3 * MIB).await.expect("import");
    let more = usage(&hull.clients).await.images.expect("images");
    // The blob as it came, and the layer.
    assert!(more.bytes - base.bytes > 3 * MIB + image.size, "{more:?} {base:?}");

    let writes = "dd if=/dev/zero of=/big bs=1M count=5 2>/dev/null; ln /big /again; ln -s / /root-of-all; mkdir -p /a/b; \
                  cat /proc/self/status; exit 3";
    let ended = hull.run(ContainerConfig { name: "ended".into(), ..hull.shell(writes) }).await;
    assert_eq!(hull.wait(&ended).await.code, 3);
    let runs = format!("{}; sleep 1000", writes.trim_end_matches("; exit 3").replace("count=5", "count=2"));
    let running = hull.run(ContainerConfig { name: "running".into(), ..hull.shell(&runs) }).await;
    let created = hull.create(ContainerConfig { name: "created".into(), ..hull.probe(&[]) }).await;
    let of = |found: &hull_proto::v1::GetDiskUsageResponse, id: &str| {
        found.container.iter().find(|container| container.id == id).cloned().expect("the container")
    };
    let found = wait::until_async("what has ended is measured", || async {
        let found = usage(&hull.clients).await;
        (of(&found, &ended).writable_bytes > 0).then_some(found)
    })
    .await;
    let measured = of(&found, &ended);
    assert_eq!(measured.name, "ended");
    assert!((5 * MIB..6 * MIB).contains(&measured.writable_bytes), "{measured:?}");
    // The layer itself, big, root-of-all, a and b; perhaps what the runtime makes for its mounts.
    assert!((5..20).contains(&measured.writable_inodes), "{measured:?}");
    let log = fs::metadata(hull.get(&ended).await.log_path).expect("the log").len();
    assert_eq!((measured.log_bytes, log > 0), (log, true));
    let none = of(&found, &created);
    assert_eq!((none.writable_bytes, none.log_bytes, none.measured_at), (0, 0, None));
    let running_usage = wait::until_async("what runs is measured once, too", || async {
        let usage = of(&usage(&hull.clients).await, &running);
        usage.measured_at.is_some().then_some(usage)
    })
    .await;
    assert!(running_usage.writable_bytes < 4 * MIB, "{running_usage:?}");
    let found = usage(&hull.clients).await;
    let containers = found.containers.expect("containers");
    assert_eq!((containers.count, containers.active), (3, 1));
    assert_eq!(containers.bytes, found.container.iter().map(|container| container.writable_bytes).sum::<u64>());
    assert_eq!(containers.reclaimable_bytes, measured.writable_bytes);
    let logs = found.logs.expect("logs");
    assert_eq!(logs.bytes, found.container.iter().map(|container| container.log_bytes).sum::<u64>());
    let images = found.images.expect("images");
    assert_eq!((images.count, images.active), (2, 1));
    assert!(images.reclaimable_bytes < images.bytes && images.reclaimable_bytes > 6 * MIB);
    // What it wrote since is measured when it has ended.
    hull.kill(&running, "KILL").await;
    hull.wait(&running).await;
    wait::until_async("the end is measured", || async {
        (of(&usage(&hull.clients).await, &running).writable_bytes >= 2 * MIB).then_some(())
    })
    .await;
}

/// A session on a small disk. The disk goes after the agent.
async fn small(bytes: u64, inodes: u64) -> (Session, SmallDisk) {
    let disk = SmallDisk::new(bytes, inodes);
    let options = AgentOptions { data_dir: Some(disk.data_dir()), ..AgentOptions::default() };
    (Session::own_with(options).await, disk)
}

/// Checks that an error is that of a full disk, and says what is free.
fn assert_full<T: std::fmt::Debug>(result: Result<T, Status>, what: &str) {
    let status = assert_error(result, Code::ResourceExhausted, "STORAGE_FULL", "free on the file system");
    assert!(status.message().contains(what), "{what:?} is not in {:?}", status.message());
    assert!(error_info(&status).metadata["hint"].contains("image prune"), "{status:?}");
}

async fn runs(hull: &Session) {
    let output = hull.output(hull.shell("echo well >/file; cat /file")).await;
    assert_eq!(output.text(), "well");
    hull.remove(&output.id).await;
}

#[tokio::test]
async fn an_image_that_does_not_fit_leaves_the_store_as_it_was() {
    let (hull, disk) = small(48 * MIB, 100_000).await;
    let data = disk.data_dir();
    let before = usage(&hull.clients).await;
    for _ in 0..2 {
        assert_full(add(&hull, "large", 40 * MIB).await, "bytes of the archive");
        assert_files_are_those_of(&data, &images(&hull.clients).await);
        let after = usage(&hull.clients).await;
        assert_eq!(after.images, before.images);
        assert!(after.filesystem_free_bytes + 4 * MIB > before.filesystem_free_bytes, "{after:?}");
    }
    assert_eq!(after_inodes(&hull).await, before.filesystem_free_inodes);
    runs(&hull).await;
    add(&hull, "small", 4 * MIB).await.expect("what fits comes in");
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    drop(hull);
    assert!(files(&data, "content/blobs/sha256").is_empty());
    assert_eq!(files(&data, "layers").into_iter().collect::<Vec<_>>(), ["base-1.erofs"]);
}

#[tokio::test]
async fn a_pull_that_does_not_fit_says_how_much_it_brings() {
    let disk = SmallDisk::new(48 * MIB, 100_000);
    let registry = Registry::open();
    let network = Some(Arc::clone(registry.network()));
    let options = AgentOptions { data_dir: Some(disk.data_dir()), network, ..AgentOptions::default() };
    let hull = Session::own_with(options).await;
    let mut layout = Layout::new(hull.agent.scratch("layout"));
    for (name, bytes) in [("large", 40 << 20), ("small", 2 << 20)] {
        let layer = Rootfs::empty().file("noise", 0o644, noise(bytes)).tar();
        let image = layout.image(&[(layer, Compression::None)], "linux/amd64");
        registry.push(&layout.name(&image, name), &format!("test/{name}:1"), &[]);
    }
    let pull = async |name: &str| {
        let image = registry.name(&format!("test/{name}:1"));
        site::pull(&hull, PullImageRequest { image, ..PullImageRequest::default() }).await
    };
    let before = usage(&hull.clients).await;
    // Refused before it begins.
    assert_error(pull("large").await, Code::ResourceExhausted, "STORAGE_FULL", "bytes more");
    assert_eq!(usage(&hull.clients).await.images, before.images);
    assert_files_are_those_of(&disk.data_dir(), &images(&hull.clients).await);
    prune(&hull.clients, false, false).await;
    assert!(usage(&hull.clients).await.filesystem_free_bytes + 4 * MIB > before.filesystem_free_bytes);
    pull("small").await.expect("what fits comes in");
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    drop(hull);
}

async fn after_inodes(hull: &Session) -> u64 {
    usage(&hull.clients).await.filesystem_free_inodes
}

#[tokio::test]
async fn a_full_disk_is_told_and_room_can_be_made() {
    let (mut hull, disk) = small(64 * MIB, 100_000).await;
    add(&hull, "one", 4 * MIB).await.expect("import");
    add(&hull, "two", 4 * MIB).await.expect("import");
    let waiting = hull.create(hull.shell("echo started")).await;
    disk.fill();
    assert_full(add(&hull, "three", MIB).await, "had been read; ");
    // What the journal has room for may still be recorded; what it has not is refused, and not half there.
    let mut created = vec![waiting.clone()];
    let refused = loop {
        assert!(created.len() < 1000, "a full disk takes no end of containers");
        match hull.try_create(hull.shell("echo started")).await {
            Ok(id) => created.push(id),
            Err(status) => break status,
        }
    };
    assert_full(Err::<(), _>(refused), "");
    assert_full(hull.try_start(&waiting).await, "");
    for id in &created {
        hull.get(id).await;
    }
    // Nobody who makes room is refused for want of it.
    let request = RemoveImageRequest { image: "test/one:1".into() };
    let removed = hull.clients.images.clone().remove_image(request).await.expect("RemoveImage").into_inner();
    assert!(removed.freed_bytes > 8 * MIB, "{removed:?}");
    let pruned = prune(&hull.clients, true, false).await;
    assert!(pruned.freed_bytes > 8 * MIB, "{pruned:?}");
    for id in &created {
        hull.remove(id).await;
    }
    disk.empty();
    runs(&hull).await;
    add(&hull, "three", MIB).await.expect("import");
    hull.agent.crash_and_restart();
    hull.reconnect().await;
    let names: Vec<_> = images(&hull.clients).await.into_iter().flat_map(|image| image.names).collect();
    assert_eq!(names, ["docker.io/test/three:1", "docker.io/test/base:1"]);
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    assert_files_are_those_of(&disk.data_dir(), &images(&hull.clients).await);
    runs(&hull).await;
    drop(hull);
}

#[tokio::test]
async fn a_container_that_fills_the_disk_harms_nobody_else() {
    let (hull, disk) = small(64 * MIB, 100_000).await;
    let filler =
        hull.output(hull.shell("dd if=/dev/zero of=/full bs=1M 2>/dev/null; echo >&2 done; sleep 1000 & exit 0")).await;
    hull.remove(&filler.id).await;
    wait::until_async("its layer is deleted", || async {
        (usage(&hull.clients).await.filesystem_free_bytes > 32 * MIB).then_some(())
    })
    .await;
    runs(&hull).await;
    drop(hull);
    drop(disk);
}

#[tokio::test]
async fn inodes_run_out_as_bytes_do() {
    let (mut hull, disk) = small(64 * MIB, 400).await;
    add(&hull, "one", MIB).await.expect("import");
    let created = hull.create(hull.shell("echo started")).await;
    disk.fill_inodes();
    assert_full(add(&hull, "two", MIB).await, "and 0 inodes");
    assert_full(hull.try_start(&created).await, "and 0 inodes");
    let request = RemoveImageRequest { image: "test/one:1".into() };
    hull.clients.images.clone().remove_image(request).await.expect("RemoveImage");
    disk.empty();
    add(&hull, "two", MIB).await.expect("import");
    hull.agent.crash_and_restart();
    hull.reconnect().await;
    assert_files_are_those_of(&disk.data_dir(), &images(&hull.clients).await);
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    let gone = hull.clients.images.clone().get_image(GetImageRequest { image: "test/one:1".into() }).await;
    assert_error(gone, Code::NotFound, "IMAGE_NOT_FOUND", "");
    hull.remove(&created).await;
    runs(&hull).await;
    drop(hull);
}
