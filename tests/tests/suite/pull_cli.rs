//! `hullctl pull`, and what `run` does about an image that is not there.

use hull_tests::harness::oci::Compression;
use hull_tests::harness::site::Site;
use hull_tests::harness::{Ctl, Fault, Pty, Rootfs, host};

fn layers() -> Vec<(Vec<u8>, Compression)> {
    let upper = Rootfs::empty().dir("etc", 0o755).file("etc/x", 0o644, "x").tar();
    vec![(Rootfs::base().tar(), Compression::Gzip), (upper, Compression::Gzip)]
}

#[tokio::test]
async fn a_pull_is_one_line_or_a_bar_for_each_layer() {
    let site = Site::new().await;
    let manifest = site.publish("demo/x:1", &layers());
    let digest = manifest["digest"].as_str().expect("a digest");
    let name = site.proxy.name("demo/x:1");
    site.proxy.fault("GET", "/blobs/", 9, Fault::Throttle(2 << 20));
    let mut terminal = Pty::start(&site.hull.agent, &["pull", &name], 24, 100);
    terminal.until("Downloading");
    let shown = terminal.until(&format!("{name}: pulled {digest}, 2 layers"));
    assert!(shown.matches("Pull complete").count() >= 2, "{shown:?}");
    assert_eq!(terminal.finish().0, 0);
    let again = Ctl::run(&site.hull.agent, &["pull", &name]);
    assert_eq!((again.code, again.text(), again.error()), (0, format!("{name}: up to date, {digest}"), String::new()));
    assert_eq!(Ctl::run(&site.hull.agent, &["pull", "-q", &name]).ok(), digest);
    Ctl::run(&site.hull.agent, &["rmi", &name]).ok();
    let anew = Ctl::run(&site.hull.agent, &["image", "pull", &name]);
    assert!(anew.error().is_empty() && anew.ok().starts_with(&format!("{name}: pulled {digest}, 2 layers, ")));
}

#[tokio::test]
async fn an_interrupt_ends_a_pull_and_another_goes_on() {
    let site = Site::new().await;
    let layer = site.publish_blob("demo/x:1", 1 << 20);
    let blob = layer["digest"].as_str().expect("a digest");
    site.proxy.fault("GET", blob, 1, Fault::Stall(500_000));
    let name = site.proxy.name("demo/x:1");
    let mut terminal = Pty::start(&site.hull.agent, &["pull", &name], 24, 100);
    terminal.until("500.00 kB");
    terminal.write("\x03");
    assert_ne!(terminal.finish().0, 0);
    let pulled = Ctl::run(&site.hull.agent, &["pull", &name]).ok();
    assert!(pulled.ends_with("1 layer, 550.6kB fetched"), "{pulled}");
    assert_eq!(site.proxy.asked_for("GET", blob)[1].header("range"), "bytes=500000-");
}

#[tokio::test]
async fn run_pulls_what_is_missing() {
    let site = Site::new().await;
    site.publish("demo/x:1", &layers());
    let name = site.proxy.name("demo/x:1");
    let run = |flags: &[&str]| {
        let words: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).copied().chain([&*name, "/probe", "exit", "11"]).collect();
        Ctl::run(&site.hull.agent, &words)
    };
    let refused = run(&["--pull", "never"]);
    assert!(refused.code == 125 && refused.error().contains(&name), "{}", refused.error());
    assert_eq!(site.proxy.asked().len(), 0);
    let first = run(&[]);
    assert_eq!((first.code, first.text()), (11, String::new()));
    assert!(first.error().starts_with(&format!("{name}: pulled sha256:")), "{}", first.error());
    let asked = site.proxy.asked().len();
    assert_eq!((run(&[]).error(), site.proxy.asked().len()), (String::new(), asked));
    let always = run(&["--pull", "always"]);
    assert!(always.error().contains("up to date"), "{}", always.error());
    assert_eq!(site.proxy.asked().len(), asked + 1);
    let absent = Ctl::run(&site.hull.agent, &["run", "--rm", &site.proxy.name("demo/absent:1"), "true"]);
    assert!(absent.code == 125 && absent.error().contains("manifest unknown"), "{}", absent.error());
}

#[tokio::test]
async fn a_large_layer_does_not_fill_the_agents_memory() {
    let site = Site::new().await;
    let size = 100 << 20;
    let layer = site.publish_blob("demo/large:1", size);
    let before = host::peak(site.hull.agent.pid());
    Ctl::run(&site.hull.agent, &["pull", &site.proxy.name("demo/large:1")]).ok();
    let after = host::peak(site.hull.agent.pid());
    assert!(after - before < 50 << 20, "it took up to {} MB, {} before", after >> 20, before >> 20);
    let blob = layer["digest"].as_str().expect("a digest");
    let asked = site.proxy.asked_for("GET", blob);
    assert!(asked.len() > 3 && asked.iter().all(|asked| asked.status == 206), "it came in ranges: {asked:?}");
    assert_eq!(asked.iter().map(|asked| asked.sent).sum::<u64>(), layer["size"].as_u64().expect("a size"));
}
