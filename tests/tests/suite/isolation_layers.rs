//! The layers of an image as one root file system.

use hull_proto::v1::{ContainerConfig, ImportStart};
use hull_tests::harness::image::import;
use hull_tests::harness::oci::archive;
use hull_tests::harness::{Rootfs, Session};

#[tokio::test]
async fn a_hundred_layers_make_one_root() {
    let hull = Session::own().await;
    let layers = layered_archive(&hull, 99);
    let start = ImportStart { tags: vec!["test/deep:1".into()], format: 0, config: None };
    import(&hull.clients, start, layers).await.expect("ImportImage");
    let line = "cat /layer-0 /layer-57 /layer-98 /same; ls / | grep -c layer-";
    let config = ContainerConfig { image: "test/deep:1".into(), ..hull.shell(line) };
    assert_eq!(hull.output(config).await.text(), "0\n57\n98\n98\n99");
}

/// An OCI archive: the base image below `count` layers with a file each.
fn layered_archive(hull: &Session, count: usize) -> Vec<u8> {
    let mut layers = vec![Rootfs::base().tar()];
    for number in 0..count {
        let text = format!("{number}\n");
        layers.push(Rootfs::empty().file(&format!("layer-{number}"), 0o644, &text).file("same", 0o644, &text).tar());
    }
    archive(&layers, &hull.agent.scratch("oci"))
}

#[tokio::test]
async fn whiteouts_hide_what_lower_layers_have() {
    let hull = Session::own().await;
    let base = Rootfs::base()
        .dir("d", 0o755)
        .file("d/one", 0o644, "1")
        .file("d/two", 0o644, "2")
        .dir("o", 0o755)
        .file("o/old", 0o644, "o");
    let upper = Rootfs::empty()
        .dir("d", 0o755)
        .file("d/.wh.one", 0o644, "")
        .dir("o", 0o755)
        .file("o/.wh..wh..opq", 0o644, "")
        .file("o/new", 0o644, "n");
    let layers = archive(&[base.tar(), upper.tar()], &hull.agent.scratch("oci"));
    let start = ImportStart { tags: vec!["test/white:1".into()], format: 0, config: None };
    import(&hull.clients, start, layers).await.expect("ImportImage");
    let config = ContainerConfig { image: "test/white:1".into(), ..hull.shell("ls -a /d /o") };
    let text = hull.output(config).await.text();
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["/d:", ".", "..", "two", "/o:", ".", "..", "new"]);
}
