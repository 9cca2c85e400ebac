//! Images are named, pruned, verified and repaired.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use hull_proto::v1::{
    ContainerConfig, GetImageRequest, GetImageResponse, Image, ImageFileKind, ImportStart, RemoveImageRequest,
    TagImageRequest,
};
use hull_tests::harness::image::import;
use hull_tests::harness::keep::{assert_files_are_those_of, files, images, prune, remove_all, usage, verify};
use hull_tests::harness::oci::Compression;
use hull_tests::harness::site::Site;
use hull_tests::harness::{Rootfs, Session, assert_error, oci};
use serde_json::json;
use tonic::{Code, Status};

fn named(name: &str) -> ImportStart {
    ImportStart { tags: vec![name.into()], ..ImportStart::default() }
}

async fn get(hull: &Session, image: &str) -> Result<GetImageResponse, Status> {
    Ok(hull.clients.images.clone().get_image(GetImageRequest { image: image.into() }).await?.into_inner())
}

async fn tag(hull: &Session, image: &str, name: &str) -> Result<Image, Status> {
    let request = TagImageRequest { image: image.into(), name: name.into() };
    let answer = hull.clients.images.clone().tag_image(request).await?.into_inner();
    Ok(answer.image.expect("an image"))
}

/// An image of two layers: what the base has, and a file of its own.
async fn two_layers(hull: &Session, name: &str) -> Image {
    let layers = [Rootfs::base().tar(), Rootfs::empty().file("own", 0o644, name).tar()];
    let archive = oci::archive(&layers, &hull.agent.scratch(name));
    import(&hull.clients, named(&format!("test/{name}:1")), archive).await.expect("import")
}

fn layer_file(hull: &Session, diff_id: &str) -> PathBuf {
    let name = format!("{}.erofs", diff_id.trim_start_matches("sha256:"));
    hull.agent.data_dir().join("images/layers").join(name)
}

fn blob_file(hull: &Session, digest: &str) -> PathBuf {
    hull.agent.data_dir().join("images/content/blobs").join(digest.replacen(':', "/", 1))
}

/// Changes one byte in the middle of a file.
fn damage(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).expect("opening the file");
    let middle = file.metadata().expect("metadata").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("reading");
    file.write_all_at(&[byte[0] ^ 0x55], middle).expect("writing");
    file.sync_all().expect("syncing");
}

#[tokio::test]
async fn a_name_goes_over_to_the_image_that_gets_it() {
    let mut hull = Session::own().await;
    let one = two_layers(&hull, "one").await;
    let two = two_layers(&hull, "two").await;
    let tagged = tag(&hull, "test/one:1", "test/both").await.expect("TagImage");
    assert_eq!(tagged.names, ["docker.io/test/both:latest", "docker.io/test/one:1"]);
    assert_eq!(tag(&hull, "test/one:1", "test/both").await.expect("again").names, tagged.names);
    let tagged = tag(&hull, &two.digest, "docker.io/test/both:latest").await.expect("TagImage");
    assert_eq!((&tagged.digest, tagged.names.len()), (&two.digest, 2));
    assert_eq!(get(&hull, &one.digest).await.expect("one").image.expect("image").names, ["docker.io/test/one:1"]);
    // One that loses its last name stays, and is found by its digest.
    tag(&hull, &two.digest, "test/one:1").await.expect("TagImage");
    assert!(get(&hull, &one.digest).await.expect("one").image.expect("image").names.is_empty());
    hull.agent.crash_and_restart();
    hull.reconnect().await;
    assert!(get(&hull, &one.digest).await.expect("one").image.expect("image").names.is_empty());
    assert_eq!(get(&hull, "test/both").await.expect("both").image.expect("image").digest, two.digest);
    assert_error(tag(&hull, "test/none:1", "test/x").await, Code::NotFound, "IMAGE_NOT_FOUND", "test/none:1");
    assert_error(tag(&hull, "test/both", "UPPER").await, Code::InvalidArgument, "INVALID_ARGUMENT", "UPPER");
    assert_error(tag(&hull, "test/both", "").await, Code::InvalidArgument, "INVALID_ARGUMENT", "name");
    let pinned = format!("test/both@{}", two.digest);
    assert_error(tag(&hull, "test/both", &pinned).await, Code::InvalidArgument, "INVALID_ARGUMENT", "digest");
}

#[tokio::test]
async fn history_tells_of_each_layer() {
    let hull = Session::own().await;
    let work = hull.agent.scratch("history");
    let layers = [Rootfs::base().tar(), Rootfs::empty().file("own", 0o644, "own").tar()];
    let history = json!([
        {"created": "2024-05-01T10:00:00Z", "created_by": "ADD rootfs", "comment": "first"},
        {"created_by": "ENV A=1", "empty_layer": true, "author": "somebody"},
        {"created": "0001-01-01T00:00:00Z", "created_by": "COPY own /own"},
    ]);
    let archive = oci::archive_with(&layers, &work, |config| config["history"] = history.clone());
    let image = import(&hull.clients, named("test/history:1"), archive).await.expect("import");
    let answer = get(&hull, "test/history:1").await.expect("GetImage");
    let history = answer.history;
    assert_eq!(history.len(), 3);
    assert_eq!((history[0].created_by.as_str(), history[0].comment.as_str()), ("ADD rootfs", "first"));
    assert_eq!(history[0].created_at.expect("a time").seconds, 1_714_557_600);
    assert_eq!((&history[0].diff_id, history[0].size), (&image.layers[0].diff_id, image.layers[0].size));
    assert_eq!((history[1].author.as_str(), history[1].diff_id.as_str(), history[1].size), ("somebody", "", 0));
    assert_eq!((&history[2].diff_id, history[2].created_at), (&image.layers[1].diff_id, None));
    assert!(get(&hull, "test/base:1").await.expect("GetImage").history.is_empty());
}

#[tokio::test]
async fn prune_takes_what_nobody_uses_and_says_why_the_rest_stays() {
    let hull = Session::own().await;
    let base = get(&hull, "test/base:1").await.expect("base").image.expect("image");
    let used = two_layers(&hull, "used").await;
    let named = two_layers(&hull, "named").await;
    let nameless = two_layers(&hull, "nameless").await;
    tag(&hull, "test/named:1", "test/nameless:1").await.expect("TagImage");
    let config = ContainerConfig { name: "web".into(), image: used.digest.clone(), ..hull.probe(&["sleep"]) };
    let id = hull.create(config).await;
    let before = usage(&hull.clients).await.images.expect("images");
    assert_eq!((before.count, before.active), (4, 1));

    let would = prune(&hull.clients, false, true).await;
    assert_eq!(images(&hull.clients).await.len(), 4, "a dry run changes nothing");
    let done = prune(&hull.clients, false, false).await;
    assert_eq!(would, done, "a dry run tells what is done");
    assert_eq!(done.removed.iter().map(|image| &image.digest).collect::<Vec<_>>(), [&nameless.digest]);
    let reason = |digest: &str| {
        let kept = done.kept.iter().find(|image| image.digest == digest).expect("kept");
        (kept.reason.clone(), kept.bytes)
    };
    assert_eq!(reason(&used.digest).0, "used by the container web");
    assert_eq!(reason(&named.digest).0, "has a name");
    let after = usage(&hull.clients).await.images.expect("images");
    assert_eq!(before.bytes - after.bytes, done.freed_bytes);
    // What it shares with others would not become free with it.
    let own = reason(&named.digest).1;
    assert!(own > named.layers[1].size && own < named.layers[0].size, "{own}");

    let would = prune(&hull.clients, true, true).await;
    assert_eq!(would.freed_bytes, after.reclaimable_bytes);
    let done = prune(&hull.clients, true, false).await;
    assert_eq!(would, done);
    let removed: Vec<_> = done.removed.iter().map(|image| image.digest.clone()).collect();
    assert_eq!(removed.len(), 2);
    assert!(removed.contains(&named.digest) && removed.contains(&base.digest));
    assert_eq!(done.kept.len(), 1);
    assert_eq!(usage(&hull.clients).await.images.expect("images").bytes, after.bytes - done.freed_bytes);
    assert_files_are_those_of(&hull.agent.data_dir(), &images(&hull.clients).await);
    // What stayed is whole.
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    hull.start(&id).await;
    hull.remove(&id).await;
    assert_eq!(prune(&hull.clients, true, false).await.removed.len(), 1);
    assert_eq!(usage(&hull.clients).await.images.expect("images").bytes, 0);
}

#[tokio::test]
async fn damaged_files_are_found_set_aside_and_made_anew() {
    let hull = Session::own().await;
    let image = two_layers(&hull, "hurt").await;
    let other = two_layers(&hull, "other").await;
    let (clean, progress) = verify(&hull.clients, &[], false).await.expect("VerifyImages");
    assert!(clean.is_empty(), "{clean:?}");
    // Manifest and config of each, the layer that all three share and the two others, and the blobs of those.
    assert_eq!(progress.files_total, 6 + 3 + 3);
    assert_eq!(progress.bytes_done, progress.bytes_total);
    assert_eq!(progress.bytes_total, usage(&hull.clients).await.images.expect("images").bytes);

    let layer = layer_file(&hull, &image.layers[0].diff_id);
    let whole = fs::read(&layer).expect("reading");
    damage(&layer);
    let (found, _) = verify(&hull.clients, &["test/hurt:1"], false).await.expect("VerifyImages");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].digest, image.layers[0].diff_id);
    assert_eq!((found[0].kind(), found[0].repaired), (ImageFileKind::Layer, false));
    assert_eq!(found[0].images, std::slice::from_ref(&image.digest));
    assert!(found[0].problem.contains("digest"), "{:?}", found[0].problem);
    assert!(files(&hull.agent.data_dir(), "damaged").is_empty(), "without repair, nothing is changed");

    let (found, _) = verify(&hull.clients, &[], true).await.expect("VerifyImages");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].repaired && found[0].repair_error.is_empty(), "{found:?}");
    assert!(found[0].images.contains(&image.digest) && found[0].images.contains(&other.digest));
    assert_eq!(fs::read(&layer).expect("reading"), whole);
    assert_eq!(files(&hull.agent.data_dir(), "damaged").len(), 1);
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());

    // Missing and cut files, several at once.
    fs::remove_file(&layer).expect("removing");
    let cut = layer_file(&hull, &other.layers[1].diff_id);
    fs::File::options().write(true).open(&cut).expect("opening").set_len(4096).expect("cutting");
    let (found, _) = verify(&hull.clients, &[], true).await.expect("VerifyImages");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|file| file.repaired), "{found:?}");
    assert!(found.iter().any(|file| file.problem.contains("missing")), "{found:?}");
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());

    // What was set aside goes with a prune.
    let would = prune(&hull.clients, false, true).await.freed_bytes;
    let before = usage(&hull.clients).await.images.expect("images").bytes;
    assert_eq!(prune(&hull.clients, false, false).await.freed_bytes, would);
    assert!(would > 4096 && usage(&hull.clients).await.images.expect("images").bytes == before - would);
    assert!(files(&hull.agent.data_dir(), "damaged").is_empty());
    let missing = verify(&hull.clients, &["test/none:1"], false).await;
    assert_error(missing, Code::NotFound, "IMAGE_NOT_FOUND", "test/none:1");
}

#[tokio::test]
async fn a_blob_of_an_archive_comes_back_with_the_archive() {
    let hull = Session::own().await;
    let image = two_layers(&hull, "blob").await;
    let archive = fs::read_dir(hull.agent.scratch("blob")).is_ok().then(|| oci::tar_of(&hull.agent.scratch("blob")));
    // Layers came uncompressed: a blob's digest is the layer's diff id.
    let blob = blob_file(&hull, &image.layers[1].diff_id);
    damage(&blob);
    damage(&layer_file(&hull, &image.layers[1].diff_id));
    let (found, _) = verify(&hull.clients, &["test/blob:1"], true).await.expect("VerifyImages");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|file| !file.repaired && !file.repair_error.is_empty()), "{found:?}");
    assert_eq!((found[0].kind(), found[1].kind()), (ImageFileKind::Blob, ImageFileKind::Layer));
    // What is damaged does not stand in the way of what is whole.
    let start = named("test/blob:1");
    import(&hull.clients, start, archive.expect("an archive")).await.expect("import");
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    let output = hull.output(ContainerConfig { image: "test/blob:1".into(), ..hull.shell("cat /own") }).await;
    assert_eq!(output.text(), "blob");
    hull.remove(&output.id).await;
    assert!(prune(&hull.clients, false, false).await.freed_bytes > 0, "what was set aside goes");
}

#[tokio::test]
async fn a_layer_that_cannot_be_mounted_is_made_anew_and_one_in_use_is_not_taken_away() {
    let mut hull = Session::own().await;
    let image = two_layers(&hull, "mend").await;
    let running = hull.run(ContainerConfig { image: "test/mend:1".into(), ..hull.probe(&["sleep"]) }).await;
    let layer = layer_file(&hull, &image.layers[1].diff_id);
    // Its place is taken by another file; the container keeps the one that it has.
    fs::rename(&layer, layer.with_extension("old")).expect("renaming");
    fs::write(&layer, b"no file system").expect("writing");
    let (found, _) = verify(&hull.clients, &["test/mend:1"], true).await.expect("VerifyImages");
    assert!(found.len() == 1 && found[0].repaired, "{found:?}");
    assert_eq!(hull.exec(&running, &["/bin/cat", "/own"]).await.stdout, b"mend");
    hull.remove(&running).await;
    fs::remove_file(layer.with_extension("old")).expect("removing");
    // Found while nothing is mounted: at the next start of a container.
    hull.agent.crash_and_restart();
    hull.reconnect().await;
    let file = fs::File::options().write(true).open(&layer).expect("opening");
    file.write_all_at(&[0; 64], 1024).expect("overwriting the superblock");
    file.sync_all().expect("syncing");
    let output = hull.output(ContainerConfig { image: "test/mend:1".into(), ..hull.shell("cat /own") }).await;
    assert_eq!(output.text(), "mend");
    hull.remove(&output.id).await;
    assert_eq!(files(&hull.agent.data_dir(), "damaged").len(), 1);
    // Cut while no agent ran: at its start.
    hull.agent.kill();
    fs::File::options().write(true).open(&layer).expect("opening").set_len(4096).expect("cutting");
    hull.agent.spawn();
    hull.reconnect().await;
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    assert!(prune(&hull.clients, false, false).await.freed_bytes > 0, "what was set aside goes");
}

#[tokio::test]
async fn what_came_from_a_registry_is_fetched_there_again() {
    let site = Site::new().await;
    let layers = [Rootfs::base().tar(), Rootfs::empty().file("own", 0o644, "fetched").tar()];
    let layers: Vec<_> = layers.into_iter().map(|layer| (layer, Compression::Gzip)).collect();
    site.publish("test/heal:1", &layers);
    let name = site.registry.name("test/heal:1");
    let image = site.pull(&name).await.expect("PullImage").image().clone();
    let hull = &site.hull;
    // Everything that it has, but for what nothing could be told without.
    let manifest = fs::read(blob_file(hull, &image.digest)).expect("the manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let blobs = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]);
    for blob in blobs {
        damage(&blob_file(hull, blob["digest"].as_str().expect("a digest")));
    }
    fs::remove_file(blob_file(hull, &image.digest)).expect("removing");
    image.layers.iter().for_each(|layer| damage(&layer_file(hull, &layer.diff_id)));
    let (found, _) = verify(&hull.clients, &[&image.digest], true).await.expect("VerifyImages");
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found.iter().all(|file| file.repaired), "{found:?}");
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    assert_files_are_those_of(&hull.agent.data_dir(), &images(&hull.clients).await);
    // A pull does not take a damaged blob for one that is there, either.
    damage(&blob_file(hull, manifest["layers"][1]["digest"].as_str().expect("a digest")));
    fs::remove_file(layer_file(hull, &image.layers[1].diff_id)).expect("removing");
    site.pull(&name).await.expect("PullImage");
    assert!(verify(&hull.clients, &[], false).await.expect("VerifyImages").0.is_empty());
    let output = hull.output(ContainerConfig { image: name, ..hull.shell("cat /own") }).await;
    assert_eq!(output.text(), "fetched");
    hull.remove(&output.id).await;
    assert!(prune(&hull.clients, false, false).await.freed_bytes > 0, "what was set aside goes");
}

#[tokio::test]
async fn an_image_that_is_not_whole_can_be_removed() {
    let mut hull = Session::own().await;
    let image = two_layers(&hull, "broken").await;
    hull.agent.kill();
    fs::remove_file(layer_file(&hull, &image.layers[1].diff_id)).expect("removing");
    fs::remove_file(blob_file(&hull, &image.layers[1].diff_id)).expect("removing");
    fs::remove_file(blob_file(&hull, &image.digest)).expect("removing");
    hull.agent.spawn();
    hull.reconnect().await;
    assert_eq!(images(&hull.clients).await.len(), 2);
    let (found, _) = verify(&hull.clients, &["test/broken:1"], false).await.expect("VerifyImages");
    assert_eq!(found.len(), 3, "{found:?}");
    let config = ContainerConfig { image: "test/broken:1".into(), ..hull.probe(&["sleep"]) };
    let status = hull.try_run(config).await.expect_err("its layer is missing");
    assert!(status.message().contains("verify --repair"), "{status:?}");
    let request = RemoveImageRequest { image: "test/broken:1".into() };
    hull.clients.images.clone().remove_image(request).await.expect("RemoveImage");
    assert_files_are_those_of(&hull.agent.data_dir(), &images(&hull.clients).await);
    remove_all(&hull.clients).await;
    assert_eq!(usage(&hull.clients).await.images.expect("images").bytes, 0);
}
