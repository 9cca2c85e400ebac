use super::*;

#[test]
fn names_are_cleaned_as_docker_does() {
    for (name, cleaned) in [
        ("a/b", "a/b"),
        ("/a//b/", "a/b"),
        ("./a/./b", "a/b"),
        ("a/../b", "b"),
        ("a/b/../../c", "c"),
        ("./", ""),
        ("/", ""),
        ("a/..", ""),
    ] {
        assert_eq!(clean(name.as_bytes()).unwrap(), cleaned.as_bytes(), "{name}");
    }
    for name in ["..", "../a", "a/../../b", "/..", "./../x"] {
        assert!(clean(name.as_bytes()).is_err(), "{name}");
    }
}

#[test]
fn paths_are_split_at_their_last_slash() {
    assert_eq!(split(b""), None);
    assert_eq!(split(b"a"), Some((&b""[..], &b"a"[..])));
    assert_eq!(split(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
}
