//! Images go out as archives that hull and other tools take.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hull_proto::v1::{ArchiveFormat, ContainerConfig, ExportImageRequest, Image, ImportStart, RemoveImageRequest};
use hull_tests::harness::host::tool;
use hull_tests::harness::image::import;
use hull_tests::harness::keep::{export, prune, remove_all};
use hull_tests::harness::{Rootfs, Session, assert_error, connect, host, oci, wait};
use tonic::{Code, Status};

fn named(names: &[&str]) -> ImportStart {
    ImportStart { tags: names.iter().map(|name| (*name).to_owned()).collect(), ..ImportStart::default() }
}

fn compressed(hull: &Session, program: &str, data: &[u8]) -> Vec<u8> {
    let path = hull.agent.scratch("compress").join("data");
    fs::write(&path, data).expect("writing");
    let output = Command::new(program).args(["-c", "-q"]).arg(&path).output().expect(program);
    assert!(output.status.success());
    output.stdout
}

async fn two_layers(hull: &Session, name: &str) -> Image {
    let layers = [Rootfs::base().tar(), Rootfs::empty().file("own", 0o644, name).tar()];
    let archive = oci::archive(&layers, &hull.agent.scratch(name));
    import(&hull.clients, named(&[&format!("test/{name}:1")]), archive).await.expect("import")
}

async fn own_file(hull: &Session, image: &str) -> String {
    let output = hull.output(ContainerConfig { image: image.into(), ..hull.shell("cat /own") }).await;
    hull.remove(&output.id).await;
    output.text()
}

#[tokio::test]
async fn other_tools_take_what_hull_writes() {
    let hull = Session::own().await;
    let work = hull.agent.scratch("out");
    let rootfs = Rootfs::base().file("own", 0o644, "out").tar();
    let file = |name: &str| work.join(name).display().to_string();
    for (kind, archive) in [
        ("plain", rootfs.clone()),
        ("gzip", compressed(&hull, "gzip", &rootfs)),
        ("zstd", compressed(&hull, "zstd", &rootfs)),
    ] {
        let name = format!("test/{kind}:1");
        let image = import(&hull.clients, named(&[&name]), archive).await.expect("import");
        for (transport, format) in [("oci-archive", ArchiveFormat::Oci), ("docker-archive", ArchiveFormat::Docker)] {
            let archive = export(&hull.clients, &[&name], format).await.expect("ExportImage");
            let path = file(&format!("{kind}.{transport}"));
            fs::write(&path, &archive).expect("writing");
            let inspected = tool("skopeo", &["inspect", "--config", &format!("{transport}:{path}")]);
            assert!(inspected.contains(&image.layers[0].diff_id), "{kind} {transport}: {inspected}");
            // Through skopeo, whose copy reads every layer, and back.
            let copy = file(&format!("{kind}.{transport}.copy"));
            let target = format!("oci-archive:{copy}:docker.io/test/{kind}-{transport}:back");
            tool("skopeo", &["copy", "-q", "--insecure-policy", &format!("{transport}:{path}"), &target]);
            import(&hull.clients, named(&[]), fs::read(&copy).expect("reading")).await.expect("import");
            assert_eq!(own_file(&hull, &format!("test/{kind}-{transport}:back")).await, "out");
            // And straight back: the same image by content, under the name that it had.
            hull.clients
                .images
                .clone()
                .remove_image(RemoveImageRequest { image: name.clone() })
                .await
                .expect("RemoveImage");
            let back = import(&hull.clients, named(&[]), archive).await.expect("import");
            assert!(back.names.contains(&format!("docker.io/{name}")), "{:?}", back.names);
            assert_eq!(back.layers, image.layers);
            if format == ArchiveFormat::Oci {
                assert_eq!(back.digest, image.digest, "an OCI archive keeps the manifest");
            }
            assert_eq!(own_file(&hull, &name).await, "out");
        }
    }
}

#[tokio::test]
async fn several_images_share_one_archive() {
    let hull = Session::own().await;
    let one = two_layers(&hull, "one").await;
    let two = two_layers(&hull, "two").await;
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let archive = export(&hull.clients, &["test/one:1", "test/two:1"], format).await.expect("ExportImage");
        let alone = export(&hull.clients, &["test/one:1"], format).await.expect("ExportImage");
        assert!(archive.len() < alone.len() + 100_000, "the layer that they share is in there once");
        let path = hull.agent.scratch("several").join("archive");
        fs::write(&path, &archive).expect("writing");
        if format == ArchiveFormat::Oci {
            for name in ["docker.io/test/one:1", "docker.io/test/two:1"] {
                tool("skopeo", &["inspect", &format!("oci-archive:{}:{name}", path.display())]);
            }
        } else {
            let transport = format!("docker-archive:{}:docker.io/test/two:1", path.display());
            assert!(tool("skopeo", &["inspect", "--config", &transport]).contains(&two.layers[1].diff_id));
        }
        remove_all(&hull.clients).await;
        let images = hull_tests::harness::image::import_all(&hull.clients, named(&[]), archive.clone()).await;
        let images = images.expect("import");
        let names: Vec<_> = images.iter().flat_map(|image| image.names.clone()).collect();
        assert_eq!(names, ["docker.io/test/one:1", "docker.io/test/two:1"]);
        assert_eq!((&images[0].layers, &images[1].layers), (&one.layers, &two.layers));
        assert_eq!(
            (own_file(&hull, "test/one:1").await, own_file(&hull, "test/two:1").await),
            ("one".into(), "two".into())
        );
        let tagged = hull_tests::harness::image::import_all(&hull.clients, named(&["test/x:1"]), archive).await;
        assert_error(tagged, Code::InvalidArgument, "INVALID_ARGUMENT", "2 images");
    }
}

#[tokio::test]
async fn an_image_has_the_names_in_the_archive_that_it_was_asked_for_by() {
    let hull = Session::own().await;
    let image = import(&hull.clients, named(&["test/a:1", "test/b:1"]), Rootfs::base().file("n", 0o644, "n").tar())
        .await
        .expect("import");
    let archive = export(&hull.clients, &["test/a:1"], ArchiveFormat::Oci).await.expect("ExportImage");
    remove_all(&hull.clients).await;
    let back = import(&hull.clients, named(&[]), archive).await.expect("import");
    assert_eq!(back.names, ["docker.io/test/a:1"]);
    let nameless = export(&hull.clients, &[&image.digest], ArchiveFormat::Docker).await.expect("ExportImage");
    remove_all(&hull.clients).await;
    let unnamed = import(&hull.clients, named(&[]), nameless.clone()).await;
    assert_error(unnamed, Code::InvalidArgument, "INVALID_ARGUMENT", "tags");
    let back = import(&hull.clients, named(&["test/given:1"]), nameless).await.expect("import");
    assert_eq!(back.names, ["docker.io/test/given:1"]);
}

#[tokio::test]
async fn what_cannot_be_exported_is_said_at_once() {
    let hull = Session::shared().await;
    let image = two_layers(&hull, &hull.name("hurt")).await;
    let name = image.names[0].clone();
    assert_error(
        export(&hull.clients, &["test/none:1"], ArchiveFormat::Oci).await,
        Code::NotFound,
        "IMAGE_NOT_FOUND",
        "test/none:1",
    );
    assert_error(
        export(&hull.clients, &[], ArchiveFormat::Oci).await,
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
        "images",
    );
    let rootfs = export(&hull.clients, &[&name], ArchiveFormat::RootfsTar).await;
    assert_error(rootfs, Code::InvalidArgument, "INVALID_ARGUMENT", "format");
    // A blob that is damaged leaves the node as an error, not as bytes.
    let hex = image.layers[1].diff_id.trim_start_matches("sha256:");
    let blob = hull.agent.data_dir().join("images/content/blobs/sha256").join(hex);
    let whole = fs::read(&blob).expect("reading");
    fs::write(&blob, vec![0; whole.len()]).expect("writing");
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let status = export(&hull.clients, &[&name], format).await;
        assert_error(status, Code::DataLoss, "IMAGE_DAMAGED", "verify --repair");
    }
    fs::write(&blob, whole).expect("writing");
    assert!(export(&hull.clients, &[&name], ArchiveFormat::Oci).await.is_ok());
}

#[tokio::test]
async fn an_export_waits_for_its_reader_and_ends_with_it() {
    let hull = Session::own().await;
    let noise: Vec<u8> = (0_u32..24 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let rootfs = Rootfs::base().file("noise", 0o644, noise).tar();
    import(&hull.clients, named(&["test/large:1"]), rootfs).await.expect("import");
    let request = ExportImageRequest { images: vec!["test/large:1".into()], format: 0 };
    let before = host::resident(hull.agent.pid());
    let mut streams = Vec::new();
    for _ in 0..8 {
        // Each with a connection of its own: on one, those that stand still would stop all others.
        let mut clients = connect(&hull.agent.socket()).await.expect("connecting");
        let mut stream = clients.images.export_image(request.clone()).await.expect("ExportImage").into_inner();
        stream.message().await.expect("a message").expect("a piece");
        streams.push(stream);
    }
    let removed = prune(&hull.clients, true, true).await;
    let kept = removed.kept.iter().find(|image| image.names.iter().any(|name| name.contains("large"))).expect("kept");
    assert_eq!(kept.reason, "it is being exported");
    let remove = || async {
        let request = RemoveImageRequest { image: "test/large:1".into() };
        hull.clients.images.clone().remove_image(request).await
    };
    assert_error(remove().await, Code::FailedPrecondition, "IMAGE_IN_USE", "exported");
    let grown = host::resident(hull.agent.pid()).saturating_sub(before);
    assert!(grown < 48 << 20, "eight readers that stand still cost {grown} bytes");
    drop(streams);
    wait::until_async("the exports end with their readers", || async { remove().await.ok() }).await;
}

#[tokio::test]
async fn an_export_keeps_to_its_deadline() {
    let hull = Session::own().await;
    let noise: Vec<u8> = (0_u32..16 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let rootfs = Rootfs::base().file("noise", 0o644, noise).tar();
    import(&hull.clients, named(&["test/late:1"]), rootfs).await.expect("import");
    let mut request = tonic::Request::new(ExportImageRequest { images: vec!["test/late:1".into()], format: 0 });
    request.set_timeout(wait::scaled(Duration::from_millis(400)));
    let mut stream = hull.clients.images.clone().export_image(request).await.expect("ExportImage").into_inner();
    let ended: Result<(), Status> = wait::within("the stream's end", async {
        loop {
            // A reader that is too slow.
            tokio::time::sleep(wait::scaled(Duration::from_millis(150))).await;
            if stream.message().await?.is_none() {
                return Ok(());
            }
        }
    })
    .await;
    assert_eq!(ended.expect_err("the deadline").code(), Code::DeadlineExceeded);
}
