//! What the reasons of errors mean: the agent's stable codes, for `explain`.

/// A reason, as `google.rpc.ErrorInfo` has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reason {
    /// The code.
    pub(crate) code: &'static str,
    /// What it means, in a sentence.
    pub(crate) meaning: &'static str,
    /// What it mostly comes from.
    pub(crate) causes: &'static [&'static str],
    /// What to do.
    pub(crate) remedies: &'static [&'static str],
}

const fn reason(
    code: &'static str,
    meaning: &'static str,
    causes: &'static [&'static str],
    remedies: &'static [&'static str],
) -> Reason {
    Reason { code, meaning, causes, remedies }
}

/// All that an agent gives.
pub(crate) const REASONS: &[Reason] = &[
    reason(
        "AMBIGUOUS_REFERENCE",
        "A prefix of an id or digest fits several containers or images.",
        &["The prefix is too short."],
        &["Give more digits, or the name; `hullctl ps -a --no-trunc` and `hullctl images --no-trunc` show them whole."],
    ),
    reason(
        "BLOB_DAMAGED",
        "What a registry sent is not what its digest says. Nothing of it was kept.",
        &["A proxy or mirror changes or cuts what it hands on.", "The registry's own storage is damaged."],
        &[
            "Try again: parts that were whole are not fetched anew.",
            "If it stays so, leave the mirror out of hosts.toml, or tell who runs the registry.",
        ],
    ),
    reason(
        "CONTAINER_NOT_FOUND",
        "No container has this id, prefix or name.",
        &["It was removed, perhaps by itself: it ran with --rm.", "The command went to another agent than you think."],
        &["`hullctl ps -a` lists all; `hullctl context show` says which agent is asked."],
    ),
    reason(
        "DEADLINE_EXCEEDED",
        "The caller's deadline passed before the agent was done. It may finish the work all the same.",
        &["The deadline was too short for the work.", "The disk or the node is very busy."],
        &["Look at the state first: calls that change things can be repeated safely."],
    ),
    reason(
        "EVENTS_LOST",
        "Events that were asked for are not kept any more.",
        &["The reader was away for longer than the agent keeps events."],
        &["List containers and images to know the present state, and follow events from now on."],
    ),
    reason(
        "EXEC_FAILED",
        "A further process could not be started in a container. The container runs on.",
        &[
            "The program is not in the image (ENOENT), or not executable (EACCES).",
            "The user or the working directory is not there.",
            "The container's limit of processes is reached (EAGAIN).",
        ],
        &[
            "The line names step and errno: look there first.",
            "`hullctl exec NAME ls -l PATH` shows what is in the container.",
        ],
    ),
    reason(
        "IMAGE_DAMAGED",
        "A file of an image on this node is damaged or missing.",
        &["The disk lost or changed data.", "Somebody wrote to the data directory."],
        &[
            "`hullctl image verify --repair` makes anew what can be: layers from their blobs, blobs from their registry.",
            "Look at the kernel's log for errors of the disk.",
        ],
    ),
    reason(
        "IMAGE_IN_USE",
        "An image cannot be removed, because a container was made from it.",
        &["A container that does not run any more still needs its image."],
        &["`hullctl ps -a --filter ancestor=IMAGE` shows which; remove those first."],
    ),
    reason(
        "IMAGE_NOT_FOUND",
        "This node has no image of this name or digest.",
        &["It was never pulled, or has been pruned.", "The tag is another one: without a tag, :latest is meant."],
        &["`hullctl pull IMAGE`, or `hullctl image import`; `run` pulls by itself unless --pull never."],
    ),
    reason(
        "INTERNAL",
        "hull itself is wrong here: a defect.",
        &["A case that nobody thought of."],
        &["Please report it with the line and what the agent logged at that time (`journalctl -u hulld`)."],
    ),
    reason(
        "INVALID_ARCHIVE",
        "An archive is damaged, hostile, or of a kind that hull does not know.",
        &[
            "The file was cut off while it was copied.",
            "It is compressed in another way than gzip or zstd.",
            "It holds paths or links that lead out of it, or expands beyond all measure.",
        ],
        &["Check the file's digest at its source, and --format where it is not found out right."],
    ),
    reason(
        "INVALID_ARGUMENT",
        "A part of the request is wrong. Nothing was done.",
        &[
            "A value is out of its range, or two wishes exclude each other.",
            "hullctl is newer than the agent and asked for what that does not know.",
        ],
        &[
            "The line begins with the field; proto/hull/v1 documents each with unit and range.",
            "`hullctl version` shows both versions.",
        ],
    ),
    reason(
        "INVALID_STATE",
        "The container is in a state in which this cannot be done.",
        &["It does not run, or it is paused, or it runs and must not.", "Somebody else changed it at the same time."],
        &["`hullctl inspect -f '{{.State.Status}}' NAME` shows its state; start, unpause or stop it first."],
    ),
    reason(
        "LIMIT_EXCEEDED",
        "A bound that protects the agent was reached.",
        &[
            "Too many things at once: streams, execs, watchers.",
            "Something is too large: labels, a manifest, a message.",
        ],
        &["The line names the bound; do less at once, or make it smaller."],
    ),
    reason(
        "NAME_IN_USE",
        "Another container has this name.",
        &["An earlier container with it was never removed."],
        &["`hullctl rm NAME`, another --name, or --rm for containers that come and go."],
    ),
    reason(
        "PATH_NOT_FOUND",
        "There is no such path in the container.",
        &[
            "The path is wrong, or a part of it is not a directory.",
            "It lies on a mount that is only there while the container runs.",
        ],
        &["`hullctl exec NAME ls -l DIR` shows what there is."],
    ),
    reason(
        "PERMISSION_DENIED",
        "The host does not let the agent do this.",
        &[
            "The agent does not run as root, or its unit takes privileges away.",
            "A security module (SELinux, AppArmor) forbids it.",
            "The file system is mounted read-only.",
        ],
        &["Look at the agent's unit and at the kernel's log; the line names step and errno."],
    ),
    reason(
        "READ_ONLY_PATH",
        "The path in the container cannot be written to.",
        &["The container's root is read-only (--read-only), or the mount at this path is."],
        &["Choose a path on a writable mount, or create the container without --read-only."],
    ),
    reason(
        "REGISTRY_CONFIG",
        "What this node is told about a registry is wrong.",
        &[
            "A hosts.toml has a mistake, or names a certificate that is not there.",
            "The node's credentials cannot be read.",
        ],
        &["The line names the file: correct it; the next pull reads it anew."],
    ),
    reason(
        "REGISTRY_DENIED",
        "The registry knows who asks and does not allow it.",
        &["The user may not read or write this repository.", "A token was made with too few rights."],
        &["Ask who runs the registry, or `hullctl login` as somebody else."],
    ),
    reason(
        "REGISTRY_ERROR",
        "The registry refused, or answered what makes no sense.",
        &["There is no such repository or tag.", "The address is a website's or a proxy's and no registry's."],
        &["Check the reference; the line has the registry's own words."],
    ),
    reason(
        "REGISTRY_UNAUTHENTICATED",
        "The registry does not know who asks, or does not take the credentials.",
        &[
            "There are no credentials for it, or they have expired.",
            "They are kept for another spelling of the registry's name.",
        ],
        &["`hullctl login REGISTRY`."],
    ),
    reason(
        "REGISTRY_UNAVAILABLE",
        "The registry cannot be reached, stands still or is overloaded. Several attempts failed.",
        &["The network, the name service or a proxy between.", "The registry limits how much is fetched (429)."],
        &[
            "Try again later: what has come is kept, and the pull goes on from there.",
            "A mirror in hosts.toml helps against limits.",
        ],
    ),
    reason(
        "REQUEST_ID_REUSED",
        "A request id came before, with another request.",
        &["A program made its ids by a rule that repeats itself."],
        &["Use an id for one request and its repetitions alone."],
    ),
    reason(
        "SHIM_LOST",
        "The small monitor of a container has gone or does not answer, and with it what was known of the container's end.",
        &["It was killed from outside: by hand, or by the kernel for want of memory.", "The node was started anew."],
        &["The container counts as exited with code 255: start it again.", "Look at the kernel's log for the reason."],
    ),
    reason(
        "SHUTTING_DOWN",
        "The agent is going down and takes nothing new.",
        &["It is stopped, restarted or updated."],
        &["Try again in a moment. Containers run on."],
    ),
    reason(
        "START_FAILED",
        "A container could not be set up or its program not executed.",
        &[
            "The program is not in the image (ENOENT), or not executable (EACCES).",
            "A mount's source is not there.",
            "The kernel or its configuration forbids a step.",
        ],
        &[
            "The line names step and errno: look there first.",
            "`hullctl inspect NAME` shows the runtime spec; `hullctl run --entrypoint sh IMAGE` lets you look into the image.",
        ],
    ),
    reason(
        "STORAGE_FULL",
        "The file system that images and containers are kept on is full.",
        &["Images, logs or writable layers have grown."],
        &["`hullctl df -v` shows what takes the room; `hullctl image prune -a` and `hullctl rm` give it back."],
    ),
    reason(
        "SYSTEM",
        "A system call of the agent itself failed.",
        &["The node is short of something: descriptors, memory, inodes, processes.", "The disk has errors."],
        &["The line names step and errno; the kernel's log says more."],
    ),
    reason(
        "UNSUPPORTED_FEATURE",
        "The kernel or the host lacks what this needs.",
        &["The kernel is too old, or built without it.", "The node's control groups are of the other version."],
        &["`hullctl info` lists what is missing and what follows from that."],
    ),
];

/// The reason of a code, however it is written.
pub(crate) fn find(code: &str) -> Option<&'static Reason> {
    let code = code.replace('-', "_");
    REASONS.iter().find(|reason| reason.code.eq_ignore_ascii_case(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sorted_and_say_what_to_do() {
        assert!(REASONS.is_sorted_by(|a, b| a.code < b.code));
        for reason in REASONS {
            assert!(!reason.causes.is_empty() && !reason.remedies.is_empty(), "{}", reason.code);
            for text in reason.causes.iter().chain(reason.remedies).chain([&reason.meaning]) {
                assert!(text.ends_with('.'), "{}: {text}", reason.code);
            }
        }
        assert_eq!(find("image-not_found").unwrap().code, "IMAGE_NOT_FOUND");
        assert!(find("NOPE").is_none());
    }
}
