//! Images from end to end: archives made by other tools, the store's whole life.

use std::fs;
use std::process::Command;

use super::*;
use crate::error::Reason;
use crate::store::Table;

struct Fixture {
    dir: tempfile::TempDir,
    images: Images,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = open(dir.path());
        Self { dir, images }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn reopen(self) -> Self {
        self.reopen_after(|_| {})
    }

    /// Does something to the data directory while the images are closed.
    fn reopen_after(self, change: impl FnOnce(&Path)) -> Self {
        let Self { dir, images } = self;
        drop(images);
        change(dir.path());
        let images = open(dir.path());
        Self { dir, images }
    }

    fn import(&self, tags: &[&str], bytes: &[u8]) -> Result<Arc<Image>> {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let options = ImportOptions { tags, ..ImportOptions::default() };
        let imported = self.images.import(&options, bytes, &Progress::default(), &AtomicBool::new(false));
        imported.map(|mut images| {
            assert_eq!(images.len(), 1);
            images.remove(0)
        })
    }

    /// Names of all files below images/, without the documents of an empty store.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut pending = vec![self.path("images")];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                } else if !matches!(entry.file_name().to_str(), Some("index.json" | "oci-layout" | "base-1.erofs")) {
                    files.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        files.sort();
        files
    }
}

fn open(dir: &Path) -> Images {
    Images::open(dir, Store::open(&dir.join("hull.redb")).unwrap(), RegistryConfig::default()).unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tar of a small tree that says `marker`.
fn rootfs(marker: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("bin")).unwrap();
    fs::write(dir.path().join("bin/sh"), "a shell").unwrap();
    fs::write(dir.path().join("marker"), marker).unwrap();
    fs::hard_link(dir.path().join("marker"), dir.path().join("again")).unwrap();
    let output = Command::new("tar").args(["-C", dir.path().to_str().unwrap(), "-cf", "-", "."]).output().unwrap();
    output.stdout
}

fn unused(_: &str) -> Option<String> {
    None
}

#[test]
fn the_life_of_an_image() {
    let fixture = Fixture::new();
    let one = fixture.import(&["demo/one:1", "demo/one:latest"], &rootfs("one")).unwrap();
    let two = fixture.import(&["two"], &zstd::encode_all(&*rootfs("two"), 1).unwrap()).unwrap();
    assert_eq!(one.names, ["docker.io/demo/one:1", "docker.io/demo/one:latest"]);
    assert_eq!(one.config.cmd, ["/bin/sh"]);
    assert_eq!((one.architecture.as_str(), one.os.as_str()), ("amd64", "linux"));
    assert_eq!(one.layers.len(), 1);
    assert_eq!(one.size(), fs::metadata(fixture.images.layer_path(&one.layers[0].diff_id)).unwrap().len());

    let fixture = fixture.reopen();
    let listed: Vec<_> = fixture.images.list().iter().map(|image| image.digest.clone()).collect();
    assert_eq!(listed, [two.digest.clone(), one.digest.clone()]);
    for reference in ["demo/one", "docker.io/demo/one:1", &one.digest, &one.digest[..19], &one.digest[7..20]] {
        assert_eq!(fixture.images.get(reference).unwrap(), one, "{reference}");
    }
    assert_eq!(fixture.images.get("three").unwrap_err().reason, Reason::ImageNotFound);
    assert_eq!(fixture.images.get("NOT A NAME").unwrap_err().reason, Reason::InvalidArgument);

    let removed = fixture.images.remove("demo/one:1", &unused).unwrap();
    assert_eq!(removed, Removed { untagged: vec!["docker.io/demo/one:1".into()], deleted: None, freed_bytes: 0 });
    let user = |_: &str| Some("web".to_owned());
    assert_eq!(fixture.images.remove("demo/one", &user).unwrap_err().reason, Reason::ImageInUse);
    let lease = fixture.images.lease("demo/one").unwrap();
    assert_eq!(fixture.images.remove("demo/one", &unused).unwrap_err().reason, Reason::ImageInUse);
    drop(lease);
    let removed = fixture.images.remove("demo/one", &unused).unwrap();
    assert_eq!(removed.deleted.as_deref(), Some(one.digest.as_str()));
    assert!(removed.freed_bytes > one.size());
    assert_eq!(fixture.images.get("demo/one").unwrap_err().reason, Reason::ImageNotFound);

    let fixture = fixture.reopen();
    assert_eq!(fixture.images.list().len(), 1);
    fixture.images.remove(&two.digest, &unused).unwrap();
    assert_eq!(fixture.files(), Vec::<String>::new());
}

#[test]
fn other_tools_read_the_store_and_write_archives() {
    let fixture = Fixture::new();
    // docker-archive knows no zstd.
    let both = [("oci-archive", "x.oci"), ("docker-archive", "x.docker")];
    for (bytes, kinds) in [(rootfs("plain"), &both[..]), (zstd::encode_all(&*rootfs("zstd"), 1).unwrap(), &both[..1])] {
        let image = fixture.import(&["demo/x:1"], &bytes).unwrap();
        let content = fixture.path("images/content");
        let source = format!("oci:{}:docker.io/demo/x:1", content.display());
        for (kind, name) in kinds {
            let archive = fixture.path(name);
            fs::remove_file(&archive).ok();
            run("skopeo", &["copy", "-q", &source, &format!("{kind}:{}:docker.io/demo/back:2", archive.display())]);
            let back = fixture.import(&[], &fs::read(&archive).unwrap()).unwrap();
            assert!(back.names.contains(&"docker.io/demo/back:2".to_owned()), "{:?}", back.names);
            assert_eq!(back.layers, image.layers);
            assert_eq!(back.config, image.config);
        }
    }
}

#[test]
fn a_lost_database_is_read_anew_and_missing_layers_are_made_anew() {
    let fixture = Fixture::new();
    let one = fixture.import(&["one", "uno"], &rootfs("one")).unwrap();
    let layer = fixture.images.layer_path(&one.layers[0].diff_id);
    let before = fs::read(&layer).unwrap();
    fs::remove_file(&layer).unwrap();
    let fixture = fixture.reopen();
    assert_eq!(fs::read(&layer).unwrap(), before);
    let fixture = fixture.reopen_after(|dir| {
        fs::write(dir.join("hull.redb"), vec![0; 100_000]).unwrap();
        fs::remove_file(&layer).unwrap();
    });
    let again = fixture.images.get("one").unwrap();
    assert_eq!((&again.names, &again.layers, &again.config), (&one.names, &one.layers, &one.config));
    assert_eq!(fs::read(&layer).unwrap(), before);
}

#[test]
fn a_failed_import_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let good = rootfs("good");
    let zstd = zstd::encode_all(&*good, 1).unwrap();
    let cases: [(&[u8], Reason); 6] = [
        (b"", Reason::InvalidArchive),
        (b"this is no archive", Reason::InvalidArchive),
        (&good[..1000], Reason::InvalidArchive),
        (&good[..1024], Reason::InvalidArchive),
        (&zstd[..zstd.len() / 2], Reason::InvalidArchive),
        (b"BZh9 and so on", Reason::InvalidArchive),
    ];
    for (bytes, reason) in cases {
        assert_eq!(fixture.import(&["x"], bytes).unwrap_err().reason, reason, "{}", bytes.len());
        assert_eq!(fixture.files(), Vec::<String>::new());
    }
    assert_eq!(fixture.import(&[], &good).unwrap_err().reason, Reason::InvalidArgument);
    assert_eq!(fixture.import(&["Bad"], &good).unwrap_err().reason, Reason::InvalidArgument);
    let options = ImportOptions { tags: vec!["x".into()], ..ImportOptions::default() };
    let stopped = fixture.images.import(&options, &*good, &Progress::default(), &AtomicBool::new(true));
    assert_eq!(stopped.unwrap_err().reason, Reason::DeadlineExceeded);
    assert_eq!(fixture.files(), Vec::<String>::new());
}

#[test]
fn the_same_image_imported_at_once_is_one() {
    let fixture = Fixture::new();
    let bytes = rootfs("same");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (fixture, bytes) = (&fixture, &bytes);
            scope.spawn(move || fixture.import(&[&format!("x:{n}")], bytes).unwrap());
        }
    });
    let images = fixture.images.list();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].names.len(), 4);
    assert_eq!(fixture.files().len(), 4, "{:?}", fixture.files());
}

#[test]
fn layers_of_an_earlier_hull_get_their_digest_when_they_are_verified() {
    let fixture = Fixture::new();
    let image = fixture.import(&["old"], &rootfs("old")).unwrap();
    let digest = image.layers[0].digest.clone();
    assert!(digest.is_some());
    let forget = |dir: &Path| {
        let store = Store::open(&dir.join("hull.redb")).unwrap();
        let (key, value) = store.scan(Table::Images).unwrap().remove(0);
        let mut record: serde_json::Value = serde_json::from_slice(&value).unwrap();
        record["layers"][0].as_object_mut().unwrap().remove("digest");
        let value = serde_json::to_vec(&record).unwrap();
        store.commit_durable_blocking(vec![Write::Put { table: Table::Images, key, value }]).unwrap();
    };
    let verify = |fixture: &Fixture| {
        let mut found = Vec::new();
        let progress = VerifyProgress::default();
        let mut report = |damaged| found.push(damaged);
        fixture.images.verify(&[], None, &progress, &AtomicBool::new(false), &mut report).unwrap();
        found
    };
    let fixture = fixture.reopen_after(forget);
    assert_eq!(fixture.images.get("old").unwrap().layers[0].digest, None);
    assert_eq!(verify(&fixture), []);
    let fixture = fixture.reopen();
    assert_eq!(fixture.images.get("old").unwrap().layers[0].digest, digest);
    let fixture = fixture.reopen_after(forget);
    let path = fixture.images.layer_path(&image.layers[0].diff_id);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = verify(&fixture);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].problem.contains("not what its blob converts to"), "{found:?}");
}
