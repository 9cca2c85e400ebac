//! Verbs for images and registries.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use hull_proto::v1::{ArchiveFormat, PullImageRequest, RegistryAuth};
use rustix::process::Signal;

use crate::agent::Agent;
use crate::{expect, is_cooked, on_terminal, parts, run, signal, terminal_of, wait};

/// "u:p" in base64.
const AUTH: &str = "dTpw";

/// `hullctl` with a configuration of Docker.
fn with_config(agent: &Agent, line: &str, config: &str) -> Command {
    fs::write(agent.path("config.json"), config).unwrap();
    let mut command = agent.hullctl(line);
    command.env("DOCKER_CONFIG", agent.path(""));
    command
}

/// Installs a credential helper that keeps what it is given in a file; a PATH to find it.
fn helper(agent: &Agent, name: &str) -> String {
    let bin = agent.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = bin.join(format!("docker-credential-{name}"));
    let kept = agent.path(&format!("kept-{name}"));
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat >{kept};;\nerase) rm {kept};;\n\
         get) cat {kept} 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }};;\nesac\n",
        kept = kept.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", bin.display())
}

fn user() -> RegistryAuth {
    RegistryAuth { username: "u".into(), password: "p".into(), ..RegistryAuth::default() }
}

fn digest() -> String {
    format!("sha256:{}", "d".repeat(64))
}

#[test]
fn a_pull_is_one_line_where_nobody_looks() {
    let agent = Agent::start();
    let line = format!("a/b:1: pulled {}, 2 layers, 2MB fetched\n", digest());
    assert_eq!(run(&mut agent.hullctl("pull a/b:1")), (0, line, String::new()));
    let line = format!("present: up to date, {}\n", digest());
    assert_eq!(run(&mut agent.hullctl("image pull present")), (0, line, String::new()));
    let line = format!("{}\n", digest());
    assert_eq!(run(&mut agent.hullctl("pull -q --platform linux/arm64 a/b:1")), (0, line, String::new()));
    let told = agent.told.lock().unwrap().images.pulled.pop().unwrap();
    assert_eq!(told, PullImageRequest { image: "a/b:1".into(), platform: "linux/arm64".into(), auth: None });
    let (code, out, err) = run(&mut agent.hullctl("pull absent"));
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "hullctl: absent: the registry has no such image\n"));
}

#[test]
fn a_pull_on_a_terminal_shows_a_line_for_each_layer() {
    let agent = Agent::start();
    let (mut child, mut person, _program) = on_terminal(&agent, "pull a/b:1");
    let shown = expect(&mut person, "2MB fetched");
    assert!(shown.contains("aaaaaaaaaaaa: Already exists") && shown.contains("bbbbbbbbbbbb: Pull complete"), "{shown}");
    assert!(!shown.contains("\x1b[3"), "no colours: {shown}");
    assert_eq!(wait(&mut child), 0);
    let (mut child, mut person, _program) = on_terminal(&agent, "pull -q a/b:1");
    assert_eq!(expect(&mut person, "\n").trim_end(), digest());
    assert_eq!(wait(&mut child), 0);
    let (mut child, mut person, _program) = terminal_of(agent.hullctl("pull a/b:1").env("TERM", "dumb"));
    let shown = expect(&mut person, "\n");
    assert!(shown.starts_with("a/b:1: pulled"), "{shown}");
    assert_eq!(wait(&mut child), 0);
}

#[test]
fn credentials_come_from_dockers_configuration() {
    let agent = Agent::start();
    let (code, _, err) = run(&mut agent.hullctl("pull r.io/secret"));
    assert_eq!((code, err.as_str()), (1, "hullctl: fetching r.io/secret: denied\n"));
    let config = format!("{{\"auths\": {{\"r.io\": {{\"auth\": \"{AUTH}\"}}}}}}");
    assert_eq!(run(&mut with_config(&agent, "pull r.io/secret", &config)).0, 0);
    assert_eq!(run(&mut with_config(&agent, "push x r.io/secret", &config)).0, 0);
    assert_eq!(agent.told.lock().unwrap().images.pushed.clone().unwrap().auth, Some(user()));
    assert_eq!(run(&mut with_config(&agent, "pull other.io/secret", &config)).0, 1, "they are of r.io alone");
    let home = agent.path("home");
    fs::create_dir_all(home.join(".docker")).unwrap();
    fs::write(home.join(".docker/config.json"), config).unwrap();
    assert_eq!(run(agent.hullctl("pull r.io/secret").env("HOME", home)).0, 0);
    let (code, _, err) = run(&mut with_config(&agent, "pull r.io/x", "{"));
    assert!(code == 1 && err.contains("config.json") && err.lines().count() == 1, "{err}");
}

#[test]
fn credentials_come_from_helpers() {
    let agent = Agent::start();
    let path = helper(&agent, "mine");
    let kept = agent.path("kept-mine");
    let config = "{\"credHelpers\": {\"r.io\": \"mine\"}}";
    assert_eq!(run(with_config(&agent, "pull r.io/secret", config).env("PATH", &path)).0, 1, "it has none yet");
    fs::write(&kept, "{\"ServerURL\": \"r.io\", \"Username\": \"u\", \"Secret\": \"p\"}").unwrap();
    assert_eq!(run(with_config(&agent, "pull r.io/secret", config).env("PATH", &path)).0, 0);
    fs::write(&kept, "{\"ServerURL\": \"r.io\", \"Username\": \"<token>\", \"Secret\": \"token\"}").unwrap();
    assert_eq!(run(with_config(&agent, "pull r.io/secret", config).env("PATH", &path)).0, 0);
    fs::write(&kept, "nothing").unwrap();
    let (code, _, err) = run(with_config(&agent, "pull r.io/secret", config).env("PATH", &path));
    assert!(code == 1 && err.starts_with("hullctl: docker-credential-mine get: "), "{err}");
    let (code, _, err) = run(&mut with_config(&agent, "pull r.io/x", "{\"credsStore\": \"gone\"}"));
    assert!(code == 1 && err.contains("docker-credential-gone get: there is no such program"), "{err}");
}

fn login(agent: &Agent, line: &str, password: &str) -> (i32, String, String) {
    let mut command = agent.hullctl(line);
    command.env("DOCKER_CONFIG", agent.path("docker")).env("PATH", helper(agent, "mine"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    parts(&child.wait_with_output().unwrap())
}

fn config_of(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_login_is_tried_and_kept_and_forgotten() {
    let agent = Agent::start();
    let (code, out, err) = login(&agent, "login -u u --password-stdin https://r.io/v2/", "wrong\n");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("denied") && !agent.path("docker").exists(), "{err}");
    let (code, out, err) = login(&agent, "login -u u --password-stdin https://r.io/v2/", "p\r\n");
    let path = agent.path("docker/config.json");
    assert_eq!((code, out.as_str()), (0, "Login Succeeded\n"), "{err}");
    assert!(err.contains("unencrypted") && err.lines().count() == 1, "{err}");
    assert_eq!(agent.told.lock().unwrap().images.checked.clone().unwrap().registry, "r.io");
    assert_eq!(config_of(&path), serde_json::json!({"auths": {"r.io": {"auth": AUTH}}}));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(run(agent.hullctl("pull r.io/secret").env("DOCKER_CONFIG", agent.path("docker"))).0, 0);
    let (code, _, err) = login(&agent, "login -u u -p p token.io", "");
    assert!(code == 0 && err.contains("--password-stdin"), "{err}");
    assert_eq!(config_of(&path)["auths"]["token.io"]["identitytoken"], "token");
    assert!(!fs::read_to_string(&path).unwrap().contains("\"password\""));
    let out = "Removed login credentials for r.io\n".to_owned();
    assert_eq!(login(&agent, "logout r.io", ""), (0, out, String::new()));
    assert_eq!(login(&agent, "logout r.io", ""), (0, "Not logged in to r.io\n".into(), String::new()));
    assert!(config_of(&path)["auths"].get("r.io").is_none() && config_of(&path)["auths"].get("token.io").is_some());
}

#[test]
fn a_login_with_a_helper_puts_no_secret_into_the_file() {
    let agent = Agent::start();
    fs::create_dir(agent.path("docker")).unwrap();
    let path = agent.path("docker/config.json");
    fs::write(&path, "{\"credsStore\": \"mine\", \"detachKeys\": \"ctrl-a\"}").unwrap();
    let (code, _, err) = login(&agent, "login -u u --password-stdin", "p");
    assert_eq!((code, err.as_str()), (0, ""));
    let kept = fs::read_to_string(agent.path("kept-mine")).unwrap();
    assert_eq!(kept, "{\"ServerURL\":\"https://index.docker.io/v1/\",\"Username\":\"u\",\"Secret\":\"p\"}");
    let config = config_of(&path);
    assert_eq!(config["auths"]["https://index.docker.io/v1/"], serde_json::json!({}));
    assert_eq!(config["detachKeys"], "ctrl-a");
    assert_eq!(login(&agent, "logout", "").1, "Removed login credentials for docker.io\n");
    assert!(!agent.path("kept-mine").exists());
}

#[test]
fn a_login_asks_without_echo() {
    let agent = Agent::start();
    let mut command = agent.hullctl("login r.io");
    let (mut child, mut person, program) = terminal_of(command.env("DOCKER_CONFIG", agent.path("docker")));
    expect(&mut person, "Username for r.io: ");
    person.write_all(b"u\n").unwrap();
    expect(&mut person, "Password: ");
    person.write_all(b"p\n").unwrap();
    let shown = expect(&mut person, "Login Succeeded");

    assert!(shown.starts_with("\r\n"), "the password was shown: {shown:?}");
    assert_eq!(wait(&mut child), 0);
    assert!(is_cooked(&program));
    let mut command = agent.hullctl("login -u u r.io");
    let (mut child, mut person, program) = terminal_of(command.env("DOCKER_CONFIG", agent.path("docker")));
    expect(&mut person, "Password: ");
    signal(&child, Signal::INT);
    assert_eq!(wait(&mut child), 130);
    assert!(is_cooked(&program), "the echo is back");
    let (code, _, err) = run(&mut agent.hullctl("login r.io"));
    assert!(code == 1 && err.contains("--password-stdin"), "{err}");
}

#[test]
fn run_and_create_pull_what_the_policy_says() {
    let agent = Agent::start();
    let pulls = || agent.told.lock().unwrap().images.pulled.len();
    let (code, out, err) = run(&mut agent.hullctl("run --rm missing/a exit 4"));
    assert_eq!((code, out.as_str(), pulls()), (4, "", 1), "{err}");
    assert_eq!(err, format!("missing/a: pulled {}, 2 layers, 2MB fetched\n", digest()));
    assert_eq!((run(&mut agent.hullctl("run --rm missing/a exit 4")), pulls()), ((4, "".into(), "".into()), 1));
    assert_eq!((run(&mut agent.hullctl("run -q --pull always missing/a exit 4")).0, pulls()), (4, 2));
    assert_eq!((run(&mut agent.hullctl("run -d --pull always missing/a exit 4")).0, pulls()), (0, 3));
    let refused = "hullctl: no image missing/b; import it first\n".to_owned();
    assert_eq!(run(&mut agent.hullctl("run --pull never missing/b exit 4")), (125, "".into(), refused.clone()));
    assert_eq!(run(&mut agent.hullctl("create --pull=never missing/b")), (1, "".into(), refused));
    let (code, out, _) = run(&mut agent.hullctl("create -q missing/b"));
    assert_eq!((code, out, pulls()), (0, format!("{}\n", "a".repeat(64)), 4));
    let (code, _, err) = run(&mut agent.hullctl("run missing/absent exit 4"));
    let told = "hullctl: missing/absent is not on this node, and it cannot be pulled: missing/absent: the registry has no such image\n";
    assert_eq!((code, err.as_str()), (125, told));
}

#[test]
fn pushes_and_tags() {
    let agent = Agent::start();
    let line = format!("r.io/x: pushed {}\n", digest());
    assert_eq!(run(&mut agent.hullctl("push img r.io/x")), (0, line, String::new()));
    assert_eq!(run(&mut agent.hullctl("image push -q r.io/x")).1, format!("{}\n", digest()));
    assert_eq!(run(&mut agent.hullctl("push r.io/secret")).0, 1);
    let (mut child, mut person, _program) = on_terminal(&agent, "push img r.io/x");
    let shown = expect(&mut person, "pushed sha256");
    assert!(shown.contains("Pushed") && shown.contains("Already exists"), "{shown}");
    assert_eq!(wait(&mut child), 0);
    assert_eq!(run(&mut agent.hullctl("tag img other:1")), (0, String::new(), String::new()));
    let tagged = agent.told.lock().unwrap().images.tagged.clone().unwrap();
    assert_eq!((tagged.image.as_str(), tagged.name.as_str()), ("img", "other:1"));
}

#[test]
fn archives_go_to_a_file_or_a_pipe_as_a_whole() {
    let agent = Agent::start();
    let file = agent.path("a.tar");
    assert_eq!(run(agent.hullctl("save --format docker-archive a b -o").arg(&file)), (0, "".into(), "".into()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "archive;end");
    let told = agent.told.lock().unwrap().images.exported.clone().unwrap();
    assert_eq!((told.images, told.format), (vec!["a".into(), "b".into()], ArchiveFormat::Docker.into()));
    assert_eq!(run(&mut agent.hullctl("image save a")), (0, "archive;end".into(), "".into()));
    assert_eq!(run(&mut agent.hullctl("save -o /dev/stdout a")).1, "archive;end");
    let (code, _, err) = run(agent.hullctl("save broken -o").arg(&file));
    assert_eq!((code, err.as_str()), (1, "hullctl: reading a blob: EIO\n"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "archive;end", "the old file is as it was");
    let names: Vec<_> = fs::read_dir(agent.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".hullctl")), "{names:?}");
    let (mut child, mut person, _program) = on_terminal(&agent, "save a");
    expect(&mut person, "give -o FILE");
    assert_eq!(wait(&mut child), 1);
    assert_eq!(run(agent.hullctl("load -i").arg(&file)).1, "Loaded image: docker.io/library/img:latest\n");
    assert_eq!(agent.told.lock().unwrap().images.imported, b"archive;end");
    let output = agent.hullctl("load -q").stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert_eq!(parts(&output).1, format!("{}\n", digest()));
}

#[test]
fn histories() {
    let agent = Agent::start();
    let (_, out, _) = run(&mut agent.hullctl("history img"));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].contains("CMD [\"sh\"]") && lines[2].starts_with("111111111111"), "{out}");
    let (_, out, _) = run(&mut agent.hullctl("image history -o json img"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json[1]["createdBy"], "ADD root.tar /");
}

#[test]
fn a_prune_says_what_goes_and_why_not_the_rest() {
    let agent = Agent::start();
    let told = || agent.told.lock().unwrap().images.pruned.take();
    let (code, out, _) = run(&mut agent.hullctl("image prune --dry-run"));
    let lines = format!(
        "Would delete: sha256:{}\nKept: docker.io/library/img:latest: used by the container web (2kB)\nReclaimable space: 3kB\n",
        "e".repeat(64)
    );
    assert_eq!((code, out), (0, lines));
    assert!(told().is_some_and(|told| told.dry_run && !told.all));
    let (code, _, err) = run(&mut agent.hullctl("image prune"));
    assert!(code == 1 && err.contains("--force") && told().is_none(), "{err}");
    let (_, out, _) = run(&mut agent.hullctl("image prune -af"));
    assert!(out.starts_with("Deleted: ") && out.ends_with("Total reclaimed space: 3kB\n"), "{out}");
    assert!(told().is_some_and(|told| told.all && !told.dry_run));
    let (_, out, _) = run(&mut agent.hullctl("image prune -f -o json"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["freedBytes"], &json["kept"][0]["bytes"]), (&3000.into(), &2000.into()));
    for (answer, asked) in [("n", false), ("y", true)] {
        told();
        let (mut child, mut person, _program) = on_terminal(&agent, "image prune");
        expect(&mut person, "[y/N] ");
        person.write_all(format!("{answer}\n").as_bytes()).unwrap();
        assert_eq!((wait(&mut child), told().is_some()), (0, asked), "{answer}");
    }
}

#[test]
fn a_verification_fails_while_there_is_damage() {
    let agent = Agent::start();
    let digest = format!("sha256:{}", "1".repeat(64));
    let lines = format!("{digest}: its digest is another\n3 files verified, 1 damaged\n");
    assert_eq!(run(&mut agent.hullctl("image verify")), (1, lines, String::new()));
    let config = format!("{{\"auths\": {{\"r.io\": {{\"auth\": \"{AUTH}\"}}}}}}");
    let (code, out, _) = run(&mut with_config(&agent, "image verify --repair r.io/a r.io/b", &config));
    assert_eq!((code, out), (0, format!("{digest}: its digest is another; repaired\n3 files verified, 0 damaged\n")));
    assert_eq!(agent.told.lock().unwrap().images.verified.clone().unwrap().auth, Some(user()));
    run(&mut with_config(&agent, "image verify --repair r.io/a other.io/b", &config));
    assert_eq!(agent.told.lock().unwrap().images.verified.clone().unwrap().auth, None);
    let (code, out, _) = run(&mut agent.hullctl("image verify -o json"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json[0]["kind"]), (1, &"IMAGE_FILE_KIND_LAYER".into()));
}

#[test]
fn a_container_becomes_an_image() {
    let agent = Agent::start();
    let mut command = agent.hullctl("commit -a me -m why --pause=false web demo/web:1");
    assert_eq!(run(command.args(["-c", "USER app"])), (0, format!("{}\n", digest()), String::new()));
    let told = agent.told.lock().unwrap().images.committed.clone().unwrap();
    assert_eq!((told.container.as_str(), told.name.as_str()), ("web", "demo/web:1"));
    assert_eq!((told.author.as_str(), told.comment.as_str(), told.without_pause), ("me", "why", true));
    assert_eq!(told.config.unwrap().user, "app");
    run(&mut agent.hullctl("commit web"));
    let told = agent.told.lock().unwrap().images.committed.clone().unwrap();
    assert!(!told.without_pause && told.config.is_none());
}

#[test]
fn changes_of_a_container() {
    let agent = Agent::start();
    assert_eq!(run(&mut agent.hullctl("diff web")), (0, "C /etc\nA /etc/a\\nb\nD /tmp\n".into(), String::new()));
    let (_, out, _) = run(&mut agent.hullctl("diff -o json web"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json[1]["path"], &json[1]["kind"]), (&"/etc/a\nb".into(), &"CHANGE_KIND_ADDED".into()));
    assert_eq!(run(&mut agent.hullctl("diff nobody")).0, 1);
}

#[test]
fn what_takes_the_disk() {
    let agent = Agent::start();
    let (code, out, _) = run(&mut agent.hullctl("df"));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines[1]), (0, "Images          2       1        4kB    1kB (25%)"));
    assert!(lines.last().is_some_and(|line| line.starts_with("File system: 5kB of 10kB free")), "{out}");
    assert!(run(&mut agent.hullctl("df -v")).1.contains("aaaaaaaaaaaa   web    -          -        not yet"));
    let (_, out, _) = run(&mut agent.hullctl("df -o json"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["images"]["reclaimableBytes"], &json["container"][0]["name"]), (&1000.into(), &"web".into()));
}
