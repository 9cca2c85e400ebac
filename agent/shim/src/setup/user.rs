//! Who a process is: names and ids, as the container's /etc/passwd and /etc/group have them.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use hull_wire::{Step, UserPlan};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid};

use super::root::{Root, file_type, is_null_device};
use crate::failure::{At, Result, failed, refused};

/// Most bytes of /etc/passwd or /etc/group.
const MAX_FILE: u64 = 1 << 20;
/// The largest id; the next one is (uid_t)-1, which means "none" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

/// Ids and home directory of a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
    /// From /etc/passwd, if it was read and knows the user.
    pub(crate) home: Option<String>,
}

/// Looks the user of a plan up inside the root. `home`: the home directory is wanted.
pub(crate) fn look_up(root: &Root, plan: &UserPlan, home: bool) -> Result<Identity> {
    let named = id(&plan.user).is_none();
    let passwd = if named || home || plan.group.is_none() { read(root, "/etc/passwd")? } else { String::new() };
    let wants_group =
        plan.group.is_none() || plan.group.iter().chain(&plan.additional_groups).any(|name| id(name).is_none());
    let group = if wants_group { read(root, "/etc/group")? } else { String::new() };
    resolve(plan, &passwd, &group).map_err(|problem| refused(Step::User, problem))
}

/// Reads a file of the container: a regular one, in the root, of bounded size. A missing one is empty.
fn read(root: &Root, path: &str) -> Result<String> {
    // Not blocking: it might be a fifo.
    let file = match root.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        opened => opened.at(Step::User, path)?,
    };
    if is_null_device(file.as_fd()) {
        // Masked.
        return Ok(String::new());
    }
    if file_type(&fstat(&file).at(Step::User, path)?) != SFlag::S_IFREG {
        return Err(refused(Step::User, format!("{path} in the container is not a regular file")));
    }
    let mut bytes = Vec::new();
    let read = File::from(file).take(MAX_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|error| super::userns::io(&error)).at(Step::User, path)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(Step::User, Errno::EFBIG, &format!("{path} in the container is larger than 1 MiB")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An id in decimal digits that is one: nothing wraps, nothing becomes 0 that is not.
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= MAX_ID)
}

/// Whether a text is meant as an id, valid or not.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// One line of /etc/passwd.
struct Account<'a> {
    name: &'a str,
    uid: Option<u32>,
    gid: Option<u32>,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (id(fields.next()?), id(fields.next()?));
        let home = fields.nth(1).unwrap_or_default();
        (!name.is_empty()).then_some(Account { name, uid, gid, home })
    })
}

/// Name, id and members of the lines of /etc/group.
fn groups(group: &str) -> impl Iterator<Item = (&str, Option<u32>, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = id(fields.next()?);
        (!name.is_empty()).then_some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// Docker's rules: a number needs no entry; a name does. Without a group, the user's own and those that list the user.
fn resolve(plan: &UserPlan, passwd: &str, group: &str) -> std::result::Result<Identity, String> {
    let number = id(&plan.user);
    if number.is_none() && is_number(&plan.user) {
        return Err(format!("{:?} is no valid user id: the largest is {MAX_ID}", plan.user));
    }
    let account = accounts(passwd).find(|account| match number {
        Some(uid) => account.uid == Some(uid),
        None => account.name == plan.user,
    });
    let uid = match (number, &account) {
        (Some(uid), _) => uid,
        (None, Some(account)) => {
            account.uid.ok_or_else(|| format!("malformed line of user {:?} in /etc/passwd", plan.user))?
        }
        (None, None) => return Err(format!("no user {:?} in /etc/passwd", plan.user)),
    };
    let mut supplementary = Vec::new();
    let gid = match (&plan.group, &account) {
        (Some(name), _) => group_id(name, group)?,
        (None, None) => 0,
        (None, Some(account)) => {
            let lists_user = |members: &str| members.split(',').any(|member| member == account.name);
            supplementary
                .extend(groups(group).filter(|(_, _, members)| lists_user(members)).filter_map(|(_, gid, _)| gid));
            account.gid.ok_or_else(|| format!("malformed line of user {:?} in /etc/passwd", account.name))?
        }
    };
    for name in &plan.additional_groups {
        supplementary.push(group_id(name, group)?);
    }
    // Without its own group among them, a process that changes its group gets rid of it (CVE-2022-36109).
    supplementary.push(gid);
    supplementary.sort_unstable();
    supplementary.dedup();
    Ok(Identity {
        uid: Uid::from_raw(uid),
        gid: Gid::from_raw(gid),
        groups: supplementary.into_iter().map(Gid::from_raw).collect(),
        home: account.map(|account| account.home.to_owned()).filter(|home| home.starts_with('/')),
    })
}

fn group_id(name: &str, group: &str) -> std::result::Result<u32, String> {
    if let Some(gid) = id(name) {
        return Ok(gid);
    }
    if is_number(name) {
        return Err(format!("{name:?} is no valid group id: the largest is {MAX_ID}"));
    }
    match groups(group).find(|(entry, _, _)| *entry == name) {
        Some((_, Some(gid), _)) => Ok(gid),
        Some((_, None, _)) => Err(format!("malformed line of group {name:?} in /etc/group")),
        None => Err(format!("no group {name:?} in /etc/group")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:,,,:/srv:/bin/false\nbad:x:4294967296:1::/:/bin/sh\n\
        neg:x:-1:1::/:/bin/sh\nempty:x::1::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:44:\nlog:x:7:web,other\nadm:x:9:other,web\nbad:x:99999999999:web\n";

    fn who(user: &str, group: Option<&str>, more: &[&str]) -> std::result::Result<(u32, u32, Vec<u32>), String> {
        let plan = UserPlan {
            user: user.to_owned(),
            group: group.map(str::to_owned),
            additional_groups: more.iter().map(|&name| name.to_owned()).collect(),
        };
        let identity = resolve(&plan, PASSWD, GROUP)?;
        let groups = identity.groups.iter().map(|gid| gid.as_raw()).collect();
        Ok((identity.uid.as_raw(), identity.gid.as_raw(), groups))
    }

    #[test]
    fn names_and_numbers_as_docker_has_them() {
        assert_eq!(who("web", None, &[]), Ok((33, 44, vec![7, 9, 44])));
        assert_eq!(who("33", None, &["root"]), Ok((33, 44, vec![0, 7, 9, 44])));
        assert_eq!(who("web", Some("log"), &[]), Ok((33, 7, vec![7])));
        assert_eq!(who("1234", None, &[]), Ok((1234, 0, vec![0])));
        assert_eq!(who("1234", Some("55"), &["66", "log"]), Ok((1234, 55, vec![7, 55, 66])));
        assert_eq!(who("4294967294", Some("1"), &[]), Ok((4_294_967_294, 1, vec![1])));
    }

    #[test]
    fn nothing_becomes_an_id_that_is_none() {
        assert_eq!(who("nobody", None, &[]), Err("no user \"nobody\" in /etc/passwd".to_owned()));
        assert_eq!(who("web", Some("nogroup"), &[]), Err("no group \"nogroup\" in /etc/group".to_owned()));
        for user in [
            "",
            "-1",
            "+0",
            " 0",
            "0 ",
            "0x0",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "bad",
            "neg",
            "empty",
        ] {
            assert!(who(user, None, &[]).is_err(), "{user:?}");
            assert!(who("0", Some(user), &[]).is_err(), "group {user:?}");
        }
    }

    #[test]
    fn never_root_unasked() {
        // Multiples of 2^32 and their neighbours, in which a careless parser finds small ids.
        for high in 1_u64..200 {
            for low in [0_u64, 1, 33] {
                let text = ((high << 32) + low).to_string();
                assert!(who(&text, None, &[]).is_err(), "{text}");
                let passwd = format!("x:x:{text}:{text}::/:\n");
                let plan = UserPlan { user: "x".to_owned(), group: None, additional_groups: vec![] };
                assert!(resolve(&plan, &passwd, "").is_err(), "{text}");
            }
        }
    }
}
