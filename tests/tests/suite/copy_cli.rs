//! `hullctl cp` and `export`, with the semantics of `docker cp`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use hull_tests::harness::copy::names;
use hull_tests::harness::{Ctl, Pty, Session};

struct Fixture {
    hull: Session,
    id: String,
    dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let hull = Session::shared().await;
        let line = "mkdir -p /s/dir/sub /t; echo file > /s/file; echo a > /s/dir/a; echo b > /s/dir/sub/b; \
                    ln -s file /s/to-file; ln -s dir /s/to-dir; chown -R 7:8 /s/dir; chmod 4750 /s/dir/a; \
                    echo ready; exec sleep 1000";
        let id = hull.run(hull.shell(line)).await;
        hull.until_logged(&id, "ready").await;
        let dir = tempfile::tempdir().expect("a directory");
        Self { hull, id, dir }
    }

    fn path(&self, name: &str) -> String {
        // Not `join`: how a path ends matters.
        format!("{}/{name}", self.dir.path().display())
    }

    fn cp(&self, words: &[&str]) -> Ctl {
        Ctl::run(&self.hull.agent, &[&["cp"], words].concat())
    }

    fn inside(&self, path: &str) -> String {
        format!("{}:{path}", self.id)
    }

    async fn sh(&self, line: &str) -> String {
        self.hull.exec(&self.id, &["sh", "-c", line]).await.text()
    }
}

/// What is below a directory, sorted; links are not followed.
fn tree(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).expect("reading").flatten() {
            found.push(entry.path().strip_prefix(top).expect("below").display().to_string());
            if entry.file_type().expect("a type").is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// SOURCE, TARGET, and what is then in a directory that had `old` (a file) and `d` (a directory); `None`: an error.
type Case = (&'static str, &'static str, Option<&'static [&'static str]>);

/// `docker cp --help`: what goes where.
const MATRIX: [Case; 20] = [
    ("file", "new", Some(&["d", "new", "old"])),
    ("file", "new/", None),
    ("file", "none/new", None),
    ("file", "old", Some(&["d", "old"])),
    ("file", "old/", None),
    ("file", "d", Some(&["d", "d/file", "old"])),
    ("file", "d/", Some(&["d", "d/file", "old"])),
    ("file", "d/x", Some(&["d", "d/x", "old"])),
    ("dir", "new", Some(&["d", "new", "new/a", "new/sub", "new/sub/b", "old"])),
    ("dir", "new/", Some(&["d", "new", "new/a", "new/sub", "new/sub/b", "old"])),
    ("dir", "none/new", None),
    ("dir", "old", None),
    ("dir", "d", Some(&["d", "d/dir", "d/dir/a", "d/dir/sub", "d/dir/sub/b", "old"])),
    ("dir/", "d/", Some(&["d", "d/dir", "d/dir/a", "d/dir/sub", "d/dir/sub/b", "old"])),
    ("dir/.", "new", Some(&["d", "new", "new/a", "new/sub", "new/sub/b", "old"])),
    ("dir/.", "d", Some(&["d", "d/a", "d/sub", "d/sub/b", "old"])),
    ("dir/.", "old", None),
    ("to-file", "new", Some(&["d", "new", "old"])),
    ("to-dir/", "d", Some(&["d", "d/a", "d/sub", "d/sub/b", "old"])),
    ("nothing", "new", None),
];

#[tokio::test]
async fn the_matrix_from_a_container() {
    let fixture = Fixture::new().await;
    for (number, (source, target, expected)) in MATRIX.iter().enumerate() {
        let top = format!("m{number}");
        fs::create_dir_all(fixture.path(&format!("{top}/d"))).expect("creating");
        fs::write(fixture.path(&format!("{top}/old")), "old").expect("writing");
        let ran = fixture.cp(&[&fixture.inside(&format!("/s/{source}")), &fixture.path(&format!("{top}/{target}"))]);
        assert_eq!(ran.code == 0, expected.is_some(), "{source} to {target}: {}", ran.error());
        let found = tree(Path::new(&fixture.path(&top)));
        // A link to a directory keeps its own name, as with Docker.
        let expected: Vec<String> = match (*expected, *source) {
            (Some(_), "to-dir/") => {
                ["d", "d/to-dir", "d/to-dir/a", "d/to-dir/sub", "d/to-dir/sub/b", "old"].map(str::to_owned).into()
            }
            (Some(expected), _) => expected.iter().map(|name| (*name).to_owned()).collect(),
            (None, _) => vec!["d".to_owned(), "old".to_owned()],
        };
        assert_eq!(found, expected, "{source} to {target}");
    }
    assert_eq!(fs::read_to_string(fixture.path("m3/old")).expect("copied"), "file\n");
    assert!(fs::symlink_metadata(fixture.path("m17/new")).expect("copied").is_symlink());
}

#[tokio::test]
async fn the_matrix_to_a_container() {
    let fixture = Fixture::new().await;
    fs::create_dir_all(fixture.path("s/dir/sub")).expect("creating");
    for (name, text) in [("s/file", "file\n"), ("s/dir/a", "a\n"), ("s/dir/sub/b", "b\n")] {
        fs::write(fixture.path(name), text).expect("writing");
    }
    symlink("file", fixture.path("s/to-file")).expect("linking");
    symlink("dir", fixture.path("s/to-dir")).expect("linking");
    for (number, (source, target, expected)) in MATRIX.iter().enumerate() {
        let top = format!("/t/m{number}");
        fixture.sh(&format!("mkdir -p {top}/d; echo old > {top}/old")).await;
        let ran = fixture.cp(&[&fixture.path(&format!("s/{source}")), &fixture.inside(&format!("{top}/{target}"))]);
        assert_eq!(ran.code == 0, expected.is_some(), "{source} to {target}: {}", ran.error());
        let found = fixture.sh(&format!("cd {top}; find . -mindepth 1 | cut -c3-")).await;
        let mut found: Vec<&str> = found.lines().collect();
        found.sort_unstable();
        let expected: Vec<&str> = match (*expected, *source) {
            (Some(_), "to-dir/") => vec!["d", "d/to-dir", "d/to-dir/a", "d/to-dir/sub", "d/to-dir/sub/b", "old"],
            (Some(expected), _) => expected.to_vec(),
            (None, _) => vec!["d", "old"],
        };
        assert_eq!(found, expected, "{source} to {target}");
    }
    assert_eq!(fixture.sh("cat /t/m3/old; readlink /t/m17/new").await, "file\nfile");
    // A target that is a link is followed; one that leads nowhere comes to be what it says.
    fixture.sh("ln -s d /t/m0/to-d; ln -s made /t/m0/dangling").await;
    fixture.cp(&[&fixture.path("s/file"), &fixture.inside("/t/m0/to-d")]).ok();
    fixture.cp(&[&fixture.path("s/file"), &fixture.inside("/t/m0/dangling")]).ok();
    assert_eq!(fixture.sh("cat /t/m0/d/file /t/m0/made; readlink /t/m0/dangling").await, "file\nfile\nmade");
}

#[tokio::test]
async fn archives_go_through_standard_streams() {
    let fixture = Fixture::new().await;
    let out = fixture.cp(&[&fixture.inside("/s/dir"), "-"]);
    assert_eq!((out.code, out.error().as_str()), (0, ""));
    let mut found = names(&out.stdout);
    found.sort();
    assert_eq!(found, ["dir/", "dir/a", "dir/sub/", "dir/sub/b"]);
    let words = ["cp", "-a", "-", &fixture.inside("/t")];
    let ran = Ctl::run_with(&fixture.hull.agent, &words, &out.stdout);
    assert_eq!((ran.code, ran.text().as_str()), (0, ""), "{}", ran.error());
    assert_eq!(fixture.sh("stat -c '%u %g %a' /t/dir/a; cat /t/dir/sub/b").await, "7 8 4750\nb");
    let words = ["cp", "-", &fixture.inside("/s/file")];
    let ran = Ctl::run_with(&fixture.hull.agent, &words, &out.stdout);
    assert!(ran.code == 1 && ran.error().contains("must be a directory"), "{}", ran.error());
    let words = ["cp", "-", &fixture.inside("/t")];
    let ran = Ctl::run_with(&fixture.hull.agent, &words, b"no tar, but longer than a few bytes");
    assert!(ran.code == 1 && ran.error().contains("tar"), "{}", ran.error());
    let refused = fixture.cp(&["-", "-"]);
    assert!(refused.code == 1 && refused.error().contains("CONTAINER:PATH"), "{}", refused.error());
    let refused = fixture.cp(&[&fixture.inside("/s"), &fixture.inside("/t")]);
    assert!(refused.code == 1 && refused.error().contains("one container to another"), "{}", refused.error());
    let refused = fixture.cp(&["no-such:/x", &fixture.path("x")]);
    assert!(refused.code == 1 && refused.error().contains("no-such"), "{}", refused.error());
}

#[tokio::test]
async fn owners_come_along_where_asked_for() {
    let fixture = Fixture::new().await;
    fixture.cp(&[&fixture.inside("/s/dir"), &fixture.path("plain")]).ok();
    fixture.cp(&["-a", &fixture.inside("/s/dir"), &fixture.path("kept")]).ok();
    let stat = |name: &str| {
        fs::metadata(fixture.path(name)).map(|stat| (stat.uid(), stat.gid(), stat.mode() & 0o7777)).expect("copied")
    };
    assert_eq!((stat("plain/a"), stat("kept/a")), ((0, 0, 0o750), (7, 8, 0o4750)));
    std::os::unix::fs::chown(fixture.path("kept/a"), Some(12), Some(13)).expect("chown");
    fs::set_permissions(fixture.path("kept/a"), fs::Permissions::from_mode(0o2755)).expect("chmod");
    fixture.cp(&[&fixture.path("kept/a"), &fixture.inside("/t/plain")]).ok();
    fixture.cp(&["--archive", &fixture.path("kept/a"), &fixture.inside("/t/kept")]).ok();
    assert_eq!(fixture.sh("stat -c '%u %g %a' /t/plain /t/kept").await, "0 0 755\n12 13 2755");
    // Links, with -L and without.
    fixture.cp(&["-L", &fixture.inside("/s/to-file"), &fixture.path("followed")]).ok();
    assert_eq!(fs::read_to_string(fixture.path("followed")).expect("copied"), "file\n");
    assert!(!fs::symlink_metadata(fixture.path("followed")).expect("copied").is_symlink());
    symlink("followed", fixture.path("link")).expect("linking");
    fixture.cp(&["-L", &fixture.path("link"), &fixture.inside("/t/followed")]).ok();
    fixture.cp(&[&fixture.path("link"), &fixture.inside("/t/link")]).ok();
    assert_eq!(fixture.sh("cat /t/followed; readlink /t/link").await, "file\nfollowed");
}

#[tokio::test]
async fn a_hard_linked_tree_comes_as_it_was() {
    let fixture = Fixture::new().await;
    fixture
        .sh("ln /s/dir/a /s/dir/again; mknod /s/dir/null c 1 3; mkfifo /s/dir/pipe 2>/dev/null || mknod /s/dir/pipe p")
        .await;
    let ran = fixture.cp(&[&fixture.inside("/s/dir"), &fixture.path("got")]);
    assert_eq!(ran.code, 0, "{}", ran.error());
    assert!(ran.error().contains("1 device nodes were left out") && ran.error().contains("null"), "{}", ran.error());
    let inode = |name: &str| fs::metadata(fixture.path(name)).expect("copied").ino();
    assert_eq!(inode("got/a"), inode("got/again"));
    assert!(!Path::new(&fixture.path("got/null")).exists());
    fixture.cp(&["-q", &fixture.path("got"), &fixture.inside("/t")]).ok();
    assert_eq!(fixture.sh("stat -c %h /t/got/a; test -p /t/got/pipe && echo pipe").await, "2\npipe");
}

#[tokio::test]
async fn an_export_is_a_file_or_a_stream() {
    let fixture = Fixture::new().await;
    let out = Ctl::run(&fixture.hull.agent, &["export", &fixture.id]);
    assert_eq!((out.code, out.error().as_str()), (0, ""));
    assert!(names(&out.stdout).contains(&"s/dir/sub/b".to_owned()));
    let path = fixture.path("root.tar");
    Ctl::run(&fixture.hull.agent, &["export", "-o", &path, &fixture.id]).ok();
    assert!(names(&fs::read(&path).expect("written")).contains(&"etc/passwd".to_owned()));
    let wrong = Ctl::run(&fixture.hull.agent, &["export", "-o", &fixture.path("none.tar"), "no-such"]);
    assert!(wrong.code == 1 && wrong.error().contains("no-such"), "{}", wrong.error());
    assert!(!Path::new(&fixture.path("none.tar")).exists());
    // A terminal gets no archive, but is told of what was copied.
    let pty = Pty::start(&fixture.hull.agent, &["export", &fixture.id], 24, 80);
    let (code, shown) = pty.finish();
    assert!(code == 1 && shown.contains("not shown on a terminal"), "{shown}");
    let words = ["cp", &fixture.inside("/s/file"), &fixture.path("told")];
    let (code, shown) = Pty::start(&fixture.hull.agent, &words, 24, 200).finish();
    assert!(code == 0 && shown.contains("Successfully copied"), "{shown}");
}
