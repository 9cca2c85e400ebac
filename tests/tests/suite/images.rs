//! Images come in as archives of every kind, are listed, removed, and never trusted.

use std::path::Path;
use std::process::Command;

use hull_proto::v1::{
    ArchiveFormat, ContainerConfig, GetImageRequest, Image, ImageConfig, ImportImageRequest, ImportStart,
    ListImagesRequest, RemoveImageRequest, RemoveImageResponse, import_image_request,
};
use hull_tests::harness::host::tool;
use hull_tests::harness::image::{base_config, header, import};
use hull_tests::harness::{Rootfs, Session, assert_error, error_info, host, oci};
use tonic::{Code, Status};

fn tags(tags: &[&str]) -> ImportStart {
    ImportStart { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..ImportStart::default() }
}

async fn get(hull: &Session, image: &str) -> Result<Image, Status> {
    let answer = hull.clients.images.clone().get_image(GetImageRequest { image: image.into() }).await?;
    Ok(answer.into_inner().image.expect("an image"))
}

async fn remove(hull: &Session, image: &str) -> Result<RemoveImageResponse, Status> {
    Ok(hull.clients.images.clone().remove_image(RemoveImageRequest { image: image.into() }).await?.into_inner())
}

fn compressed(program: &str, data: &[u8], work: &Path) -> Vec<u8> {
    let path = work.join("archive");
    std::fs::write(&path, data).expect("writing");
    let output = Command::new(program).args(["-c", "-q"]).arg(&path).output().expect(program);
    assert!(output.status.success());
    output.stdout
}

async fn runs(hull: &Session, image: &str) {
    let output = hull.output(ContainerConfig { image: image.into(), ..hull.command(&["/probe", "exit", "11"]) }).await;
    assert_eq!(output.exit.code, 11);
    hull.remove(&output.id).await;
}

#[tokio::test]
async fn a_root_file_system_comes_plain_gzipped_or_with_zstd() {
    let hull = Session::own().await;
    let work = hull.agent.scratch("work");
    let plain = Rootfs::base().tar();
    let mut diff_ids = Vec::new();
    for (name, archive) in [
        ("plain", plain.clone()),
        ("gz", compressed("gzip", &plain, &work)),
        ("zst", compressed("zstd", &plain, &work)),
    ] {
        let tag = format!("test/{name}:1");
        let image = import(&hull.clients, tags(&[&tag]), archive).await.expect(name);
        assert_eq!(image.names, [format!("docker.io/test/{name}:1")]);
        assert_eq!((image.os.as_str(), image.layers.len()), ("linux", 1));
        assert!(image.imported_at.is_some() && image.size > 0);
        diff_ids.push(image.layers[0].diff_id.clone());
        runs(&hull, &tag).await;
    }
    assert!(diff_ids.iter().all(|id| *id == diff_ids[0]), "the layer is the same, however it is compressed");
}

#[tokio::test]
async fn the_configuration_of_a_root_file_system_is_kept() {
    let hull = Session::shared().await;
    let config = ImageConfig {
        entrypoint: vec!["/probe".into()],
        cmd: vec!["report".into(), "default".into()],
        env: vec!["PATH=/bin".into(), "A=1".into()],
        working_dir: "/var".into(),
        user: "app".into(),
        stop_signal: "SIGUSR2".into(),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        exposed_ports: vec!["80/tcp".into()],
        volumes: vec!["/data".into()],
    };
    let tag = format!("test/{}:1", hull.name("config"));
    let image = hull.try_image(&tag, Rootfs::base().tar(), config.clone()).await.expect("ImportImage");
    assert_eq!(image.config, Some(config));
    let report = hull.report(ContainerConfig { image: tag.clone(), args: Vec::new(), ..hull.probe(&[]) }).await;
    assert_eq!(report.argv, ["/probe", "report", "default"]);
    assert_eq!((report.cwd.as_str(), report.uids[0], report.env["A"].as_str()), ("/var", 1000, "1"));
    let changed = ContainerConfig {
        image: tag,
        args: vec!["report".into(), "x".into()],
        user: "0".into(),
        cwd: "/".into(),
        ..hull.probe(&[])
    };
    let report = hull.report(changed).await;
    assert_eq!(
        (report.argv, report.cwd.as_str(), report.uids[0]),
        (vec!["/probe".to_owned(), "report".into(), "x".into()], "/", 0)
    );
}

/// An OCI layout made by umoci, with the base image as `NAME:1`.
fn umoci_layout(work: &Path) -> String {
    let (layout, bundle) = (work.join("layout").display().to_string(), work.join("bundle").display().to_string());
    let image = format!("{layout}:one");
    tool("umoci", &["init", "--layout", &layout]);
    tool("umoci", &["new", "--image", &image]);
    tool("umoci", &["unpack", "--image", &image, &bundle]);
    let tar = work.join("rootfs.tar");
    Rootfs::base().write(&tar);
    tool("tar", &["-C", &format!("{bundle}/rootfs"), "-xf", &tar.display().to_string()]);
    tool("umoci", &["repack", "--image", &image, &bundle]);
    std::fs::write(format!("{bundle}/rootfs/etc/second"), "layer").expect("writing");
    std::fs::remove_file(format!("{bundle}/rootfs/etc/group")).expect("removing");
    tool("umoci", &["repack", "--image", &image, &bundle]);
    tool("umoci", &["config", "--image", &image, "--config.cmd", "/probe", "--config.env", "FROM=umoci"]);
    layout
}

#[tokio::test]
async fn oci_and_docker_archives_of_other_tools_come_in() {
    let hull = Session::own().await;
    let work = hull.agent.scratch("work");
    let layout = umoci_layout(&work);
    let source = format!("oci:{layout}:one");
    let file = |name: &str| work.join(name).display().to_string();
    tool(
        "skopeo",
        &["copy", "-q", "--insecure-policy", &source, &format!("oci-archive:{}:test/oci:1", file("oci.tar"))],
    );
    tool(
        "skopeo",
        &["copy", "-q", "--insecure-policy", &source, &format!("docker-archive:{}:test/docker:1", file("docker.tar"))],
    );
    for (name, format) in [("oci", ArchiveFormat::Oci), ("docker", ArchiveFormat::Docker)] {
        let archive = std::fs::read(file(&format!("{name}.tar"))).expect("reading");
        for (tag, format) in
            [(format!("test/{name}-found:1"), ArchiveFormat::Unspecified), (format!("test/{name}-told:1"), format)]
        {
            let start = ImportStart { format: format.into(), ..tags(&[&tag]) };
            let image = import(&hull.clients, start, archive.clone()).await.expect(name);
            assert!(image.names.contains(&format!("docker.io/{tag}")), "{:?}", image.names);
            let line = "cat /etc/second; ls /etc/group 2>/dev/null; echo $FROM; stat -c %a /tmp";
            let output = hull.output(ContainerConfig { image: tag, ..hull.shell(line) }).await;
            assert_eq!(output.lines(), ["layerumoci", "1777"], "{name}");
            hull.remove(&output.id).await;
        }
    }
    // Without names of one's own, those in the archive count.
    let image =
        import(&hull.clients, tags(&[]), std::fs::read(file("docker.tar")).expect("reading")).await.expect("docker");
    assert!(image.names.contains(&"docker.io/test/docker:1".to_owned()), "{:?}", image.names);
    let mixed = ImportStart { format: ArchiveFormat::Docker.into(), ..tags(&["test/mixed:1"]) };
    let status = import(&hull.clients, mixed, std::fs::read(file("oci.tar")).expect("reading"))
        .await
        .expect_err("not what it was said to be");
    assert_eq!(error_info(&status).reason, "INVALID_ARCHIVE", "{status:?}");
}

#[tokio::test]
async fn images_are_found_by_name_digest_and_prefix() {
    let hull = Session::own().await;
    let image = get(&hull, "test/base:1").await.expect("the base image");
    for name in ["docker.io/test/base:1", &image.digest, &image.digest["sha256:".len()..][..12]] {
        assert_eq!(get(&hull, name).await.expect(name).digest, image.digest);
    }
    let latest =
        import(&hull.clients, tags(&["test/tagless", "test/second:x"]), Rootfs::base().file("x", 0o644, "x").tar())
            .await
            .expect("import");
    assert_eq!(get(&hull, "test/tagless:latest").await.expect("latest").digest, latest.digest);
    assert_eq!(get(&hull, "test/second:x").await.expect("second").digest, latest.digest);
    for missing in
        ["test/missing:1", "sha256:0000000000000000000000000000000000000000000000000000000000000000", "abcdefabcdef"]
    {
        assert_error(get(&hull, missing).await, Code::NotFound, "IMAGE_NOT_FOUND", missing);
    }
    for wrong in ["", "UPPER/case:1", "a b", "../x", "test/base:", "x@sha256:12", "-x"] {
        let status = get(&hull, wrong).await.expect_err(wrong);
        assert!(matches!(status.code(), Code::InvalidArgument | Code::NotFound), "{wrong:?}: {status:?}");
    }
    let list = hull
        .clients
        .images
        .clone()
        .list_images(ListImagesRequest { name: "second".into(), ..Default::default() })
        .await;
    assert_eq!(list.expect("ListImages").into_inner().images.len(), 1);
}

#[tokio::test]
async fn images_come_in_pages_newest_first() {
    let hull = Session::own().await;
    for number in 0..5 {
        let rootfs = Rootfs::empty().file("n", 0o644, number.to_string());
        import(&hull.clients, tags(&[&format!("test/page{number}:1")]), rootfs.tar()).await.expect("import");
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListImagesRequest { name: "page".into(), page_size: 2, page_token: token };
        let answer = hull.clients.images.clone().list_images(request).await.expect("ListImages").into_inner();
        names.extend(answer.images.into_iter().flat_map(|image| image.names));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..5).rev().map(|number| format!("docker.io/test/page{number}:1")).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_image_in_use_stays() {
    let hull = Session::own().await;
    let id = hull.create(hull.probe(&["sleep"])).await;
    let status = assert_error(remove(&hull, "test/base:1").await, Code::FailedPrecondition, "IMAGE_IN_USE", "");
    assert!(status.message().contains(&id[..12]) || status.message().contains("container"), "{status:?}");
    hull.start(&id).await;
    assert_error(remove(&hull, "test/base:1").await, Code::FailedPrecondition, "IMAGE_IN_USE", "");
    hull.remove(&id).await;
    let gone = remove(&hull, "test/base:1").await.expect("RemoveImage");
    assert!(gone.deleted.starts_with("sha256:") && gone.freed_bytes > 0);
    assert_error(hull.try_create(hull.probe(&[])).await, Code::NotFound, "IMAGE_NOT_FOUND", "test/base:1");
}

#[tokio::test]
async fn removing_a_name_keeps_the_image_while_it_has_another() {
    let hull = Session::own().await;
    let rootfs = || Rootfs::empty().file("only", 0o644, "here").tar();
    import(&hull.clients, tags(&["test/a:1", "test/b:1"]), rootfs()).await.expect("import");
    let first = remove(&hull, "test/a:1").await.expect("RemoveImage");
    assert_eq!(
        (first.untagged, first.deleted.as_str(), first.freed_bytes),
        (vec!["docker.io/test/a:1".to_owned()], "", 0)
    );
    let last = remove(&hull, "test/b:1").await.expect("RemoveImage");
    assert!(!last.deleted.is_empty());
    // A name that is given anew goes over to the new image.
    let old = import(&hull.clients, tags(&["test/moves:1"]), rootfs()).await.expect("import").digest;
    let new = import(&hull.clients, tags(&["test/moves:1"]), Rootfs::empty().file("other", 0o644, "x").tar())
        .await
        .expect("import")
        .digest;
    assert_ne!(old, new);
    assert_eq!(get(&hull, "test/moves:1").await.expect("moved").digest, new);
}

#[tokio::test]
async fn a_shared_layer_stays_with_its_last_image() {
    let hull = Session::own().await;
    let base = Rootfs::base().tar();
    for name in ["x", "y"] {
        let layers = [base.clone(), Rootfs::empty().file(name, 0o644, name).tar()];
        import(&hull.clients, tags(&[&format!("test/{name}:1")]), oci::archive(&layers, &hull.agent.scratch(name)))
            .await
            .expect("import");
    }
    remove(&hull, "test/x:1").await.expect("RemoveImage");
    runs(&hull, "test/y:1").await;
}

#[tokio::test]
async fn damaged_archives_are_refused_and_leave_nothing() {
    let hull = Session::own().await;
    let work = hull.agent.scratch("work");
    let good = Rootfs::base().tar();
    let gz = compressed("gzip", &good, &work);
    let zst = compressed("zstd", &good, &work);
    let flipped = |data: &[u8], at: usize| {
        let mut data = data.to_vec();
        data[at] ^= 0xff;
        data
    };
    let oci_dir = hull.agent.scratch("oci");
    oci::archive(std::slice::from_ref(&good), &oci_dir);
    let blob = |dir: &Path| -> std::path::PathBuf {
        let blobs = std::fs::read_dir(dir.join("blobs/sha256")).expect("blobs").flatten().map(|entry| entry.path());
        blobs.max_by_key(|path| path.metadata().expect("metadata").len()).expect("a layer")
    };
    let layer = blob(&oci_dir);
    let content = std::fs::read(&layer).expect("reading");
    std::fs::write(&layer, flipped(&content, content.len() / 2)).expect("writing");
    let wrong_digest = oci::tar_of(&oci_dir);
    std::fs::remove_file(&layer).expect("removing");
    let missing_blob = oci::tar_of(&oci_dir);
    let archives: [(&str, Vec<u8>); 11] = [
        ("empty", Vec::new()),
        ("text", b"this is no archive\n".repeat(100)),
        ("zeroes", vec![0; 100]),
        ("cut tar", good[..good.len() / 2 + 100].to_vec()),
        ("cut gzip", gz[..gz.len() / 2].to_vec()),
        ("cut zstd", zst[..zst.len() / 2].to_vec()),
        ("damaged gzip", flipped(&gz, gz.len() / 2)),
        ("damaged header", flipped(&good, 10)),
        ("wrong digest", wrong_digest),
        ("missing blob", missing_blob),
        ("gzip of gzip of nothing", compressed("gzip", &[], &work)),
    ];
    for (name, archive) in archives {
        let status = import(&hull.clients, tags(&["test/bad:1"]), archive).await.expect_err(name);
        assert_eq!(
            (status.code(), error_info(&status).reason.as_str()),
            (Code::InvalidArgument, "INVALID_ARCHIVE"),
            "{name}: {status:?}"
        );
        assert_error(get(&hull, "test/bad:1").await, Code::NotFound, "IMAGE_NOT_FOUND", "");
    }
    let unnamed = import(&hull.clients, tags(&[]), good).await;
    assert_error(unnamed, Code::InvalidArgument, "INVALID_ARGUMENT", "tag");
}

#[tokio::test]
async fn hostile_archives_write_nothing_outside() {
    let hull = Session::own().await;
    let regular = || header(tar::EntryType::Regular, 0o644, 0);
    let link = |target: &str, kind| {
        let mut header = header(kind, 0o777, 0);
        header.set_link_name_literal(target).expect("a link name");
        header
    };
    let base = || Rootfs::empty().dir("bin", 0o755).programs();
    let outside = "/tmp/hull-test-escaped";
    let hostile: Vec<(&str, Rootfs)> = vec![
        ("dots", base().raw_entry("../../../../../../tmp/hull-test-escaped", regular(), b"x")),
        ("absolute", base().raw_entry(outside, regular(), b"x")),
        ("through a link", base().link("out", "/tmp").raw_entry("out/hull-test-escaped", regular(), b"x")),
        ("hard link out", base().raw_entry("hard", link("/etc/shadow", tar::EntryType::Link), b"")),
        ("hard link up", base().raw_entry("hard", link("../../../../etc/shadow", tar::EntryType::Link), b"")),
        ("hard link to nothing", base().raw_entry("hard", link("not/there", tar::EntryType::Link), b"")),
        ("whiteout up", base().raw_entry("../.wh.x", regular(), b"")),
        ("whiteout of dots", base().raw_entry("bin/.wh...", regular(), b"")),
        ("file below a file", base().raw_entry("probe/below", regular(), b"x")),
        ("empty name", base().raw_entry("", regular(), b"x")),
        ("dot", base().raw_entry("bin/./../bin/x", regular(), b"x")),
    ];
    for (name, rootfs) in hostile {
        // Refused, or harmless inside.
        match import(&hull.clients, tags(&["test/hostile:1"]), rootfs.tar()).await {
            Ok(_) => {
                let line = ["/bin/busybox", "cat", "/hard"];
                if let Ok(output) =
                    hull.try_output(ContainerConfig { image: "test/hostile:1".into(), ..hull.command(&line) }).await
                {
                    assert!(!output.text().contains("root:"), "{name}: the host's shadow file is inside");
                }
            }
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}"),
        }
        assert!(!Path::new(outside).exists(), "{name} wrote outside");
    }
}

#[tokio::test]
async fn bombs_are_bounded() {
    let hull = Session::own().await;
    let work = hull.agent.scratch("work");
    let peak = || host::peak(hull.agent.pid());
    let before = peak();
    // 256 MiB of zeroes in some kB; read once, never held.
    let bomb = compressed("zstd", &Rootfs::empty().file("zeroes", 0o644, vec![0; 256 << 20]).tar(), &work);
    match import(&hull.clients, tags(&["test/bomb:1"]), bomb).await {
        Ok(image) => assert!(image.size > 0),
        Err(status) => assert!(matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted), "{status:?}"),
    }
    assert!(peak() < before + (64 << 20), "{before} -> {} bytes", peak());
}

#[tokio::test]
async fn files_keep_their_names_modes_owners_and_times() {
    let hull = Session::own().await;
    let long = format!("long/{}", "n".repeat(200));
    let rootfs = Rootfs::base()
        .owned("owned", 0o640, 1234, "x")
        .file("setuid", 0o4755, "x")
        .dir("sticky", 0o1777)
        .dir("long", 0o755)
        .file(&long, 0o600, "deep")
        .file("sp ace\u{e9}", 0o644, "")
        .link("dangling", "/not/there")
        .fifo("fifo");
    import(&hull.clients, ImportStart { config: Some(base_config()), ..tags(&["test/tree:1"]) }, rootfs.tar())
        .await
        .expect("import");
    let line = format!(
        "stat -c '%a %u %g %Y' /owned; stat -c %a /setuid /sticky; stat -c '%a %F' '/{long}' /fifo; cat '/sp ace\u{e9}' && echo there; readlink /dangling"
    );
    let output = hull.output(ContainerConfig { image: "test/tree:1".into(), ..hull.shell(&line) }).await;
    assert_eq!(
        output.lines(),
        ["640 1234 1234 1700000000", "4755", "1777", "600 regular file", "666 fifo", "there", "/not/there"]
    );
}

#[tokio::test]
async fn a_stream_must_begin_with_start() {
    let hull = Session::shared().await;
    let data = ImportImageRequest { message: Some(import_image_request::Message::Data(vec![1, 2, 3].into())) };
    for first in [data, ImportImageRequest { message: None }] {
        let result = async {
            let mut answers = hull.clients.images.clone().import_image(tokio_stream::iter([first])).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<(), Status>(())
        };
        let status = result.await.expect_err("no start");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
}

#[tokio::test]
async fn an_import_that_is_cancelled_leaves_nothing() {
    let hull = Session::own().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let start = import_image_request::Message::Start(tags(&["test/cancelled:1"]));
    sender.send(ImportImageRequest { message: Some(start) }).await.expect("send");
    let mut service = hull.clients.images.clone();
    let call =
        tokio::spawn(async move { service.import_image(tokio_stream::wrappers::ReceiverStream::new(receiver)).await });
    let piece = &Rootfs::base().tar()[..600_000];
    sender
        .send(ImportImageRequest { message: Some(import_image_request::Message::Data(piece.to_vec().into())) })
        .await
        .expect("send");
    call.abort();
    let _aborted = call.await;
    drop(sender);
    assert_error(get(&hull, "test/cancelled:1").await, Code::NotFound, "IMAGE_NOT_FOUND", "");
    // The census at the end fails on any file that is left.
}
