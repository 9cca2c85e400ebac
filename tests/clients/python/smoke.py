"""hull as a client in another language sees it: generated from the .proto files, over the unix socket.

    smoke.py PROTO_DIR SCRATCH_DIR SOCKET IMAGE

Fails with an assertion; says nothing otherwise. Its container is gone at the end.
"""

import pathlib
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

DEADLINE = 60


def generate(proto_dir, scratch_dir):
    files = sorted(str(path.relative_to(proto_dir)) for path in pathlib.Path(proto_dir, "hull").rglob("*.proto"))
    include = str(pathlib.Path(protoc.__file__).parent / "_proto")
    arguments = ["protoc", f"-I{proto_dir}", f"-I{include}", f"--python_out={scratch_dir}", f"--grpc_python_out={scratch_dir}"]
    assert protoc.main(arguments + files) == 0, f"protoc refuses {files}"
    sys.path.insert(0, scratch_dir)


def connect(socket):
    # gRPC for Python percent-encodes a socket's path into the authority, which HTTP/2 servers may refuse.
    return grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")])


def error_of(call, *arguments):
    """The status code and the ErrorInfo of a call that must fail."""
    try:
        answer = call(*arguments, timeout=DEADLINE)
        answer = list(answer) if hasattr(answer, "__next__") else answer
    except grpc.RpcError as error:
        info = error_details_pb2.ErrorInfo()
        details = [any for any in rpc_status.from_call(error).details if any.Unpack(info)]
        assert len(details) == 1 and info.domain == "hull", details
        return error.code(), info
    raise AssertionError(f"the call must fail: {answer}")


def check_reflection(channel):
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    for name in ["ContainerService", "ImageService", "StatsService", "NodeService"]:
        assert f"hull.v1.{name}" in services, services


def check_exec(containers, pb, container):
    start = pb.ExecStart(container=container, argv=["/bin/sh", "-c", "read line; echo got $line; echo err >&2; exit 3"], stdin=True)
    requests = [
        pb.ExecRequest(start=start),
        pb.ExecRequest(stdin=b"hello\n"),
        pb.ExecRequest(stdin_close=pb.StdinClose()),
    ]
    answers = list(containers.Exec(iter(requests), timeout=DEADLINE))
    assert answers[0].WhichOneof("message") == "started" and answers[0].started.pid > 0, answers
    assert b"".join(answer.stdout for answer in answers) == b"got hello\n", answers
    assert b"".join(answer.stderr for answer in answers) == b"err\n", answers
    assert answers[-1].exit.code == 3, answers


def check_exec_sync(containers, pb, container):
    request = pb.ExecSyncRequest(container=container, argv=["/bin/sh", "-c", "echo out; echo err >&2; exit 4"], max_output_bytes=3)
    done = containers.ExecSync(request, timeout=DEADLINE)
    assert (done.exit.code, done.stdout, done.stdout_truncated) == (4, b"out", True), done
    assert (done.stderr, done.stderr_truncated, done.timed_out) == (b"err", True, False), done


def check_attach(containers, pb, config):
    made = containers.CreateContainer(pb.CreateContainerRequest(config=config), timeout=DEADLINE)
    start = pb.AttachStart(container=made.id, stdin=True, start_container=True)
    requests = [
        pb.AttachRequest(start=start),
        pb.AttachRequest(stdin=b"to and fro"),
        pb.AttachRequest(stdin_close=pb.StdinClose()),
    ]
    answers = list(containers.Attach(iter(requests), timeout=DEADLINE))
    assert answers[0].WhichOneof("message") == "started" and answers[0].started.pid > 0, answers
    assert b"".join(answer.stdout for answer in answers) == b"to and fro", answers
    assert answers[-1].exit.code == 0, answers
    containers.RemoveContainer(pb.RemoveContainerRequest(container=made.id), timeout=DEADLINE)


def check_logs(containers, pb, container):
    stream = containers.StreamLogs(pb.StreamLogsRequest(container=container, follow=True), timeout=DEADLINE)
    entries = []
    while len(entries) < 3:
        entries.extend(next(stream).entries)
    stream.cancel()
    assert [entry.line for entry in entries] == [b"line 0", b"line 1", "ümlaut".encode()], entries
    assert all(entry.time.seconds > 0 and entry.stream == pb.LOG_STREAM_STDOUT for entry in entries), entries


def check_stats(stats, pb, container):
    selector = pb.StatsSelector(containers=[container])
    once = stats.GetStats(pb.GetStatsRequest(selector=selector), timeout=DEADLINE).stats
    assert [sample.id for sample in once] == [container] and once[0].memory.usage > 0, once
    request = pb.StreamStatsRequest(selector=selector)
    request.interval.FromMilliseconds(100)
    stream = stats.StreamStats(request, timeout=DEADLINE)
    first, second = next(stream).stats[0], next(stream).stats[0]
    stream.cancel()
    assert second.monotonic_nanos > first.monotonic_nanos, (first, second)
    assert second.cpu.usage_nanos >= first.cpu.usage_nanos and second.pids.current >= 1, second
    assert not first.HasField("since_monotonic_nanos"), first
    assert [interface.name for interface in first.network.interfaces] == ["lo"], first
    request.deltas = True
    request.groups.extend([pb.STATS_GROUP_MEMORY, pb.STATS_GROUP_NODE])
    stream = stats.StreamStats(request, timeout=DEADLINE)
    first, second = next(stream), next(stream)
    stream.cancel()
    assert second.stats[0].since_monotonic_nanos == first.stats[0].monotonic_nanos, (first, second)
    assert second.stats[0].memory.usage > 0 and not second.stats[0].HasField("cpu"), second
    assert not second.started and not second.stopped and second.node.memory.total > second.stats[0].memory.usage, second
    code, info = error_of(stats.GetStats, pb.GetStatsRequest(groups=[pb.STATS_GROUP_UNSPECIFIED]))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"), info


def check_errors(containers, pb, container):
    code, info = error_of(containers.GetContainer, pb.GetContainerRequest(container="nobody"))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "CONTAINER_NOT_FOUND"), info
    start = pb.ExecRequest(start=pb.ExecStart(container=container, argv=["/bin/nope"]))
    code, info = error_of(containers.Exec, iter([start]))
    assert info.reason == "EXEC_FAILED", info
    assert (info.metadata["step"], info.metadata["errno"]) == ("executing", "ENOENT"), info


def main(proto_dir, scratch_dir, socket, image):
    generate(proto_dir, scratch_dir)
    from hull.v1 import container_pb2 as containers_pb
    from hull.v1 import container_pb2_grpc, node_pb2, node_pb2_grpc, spec_pb2, stats_pb2, stats_pb2_grpc

    with connect(socket) as channel:
        check_reflection(channel)
        node = node_pb2_grpc.NodeServiceStub(channel).GetInfo(node_pb2.GetInfoRequest(), timeout=DEADLINE)
        assert node.api_version == "hull.v1" and node.version, node
        containers = container_pb2_grpc.ContainerServiceStub(channel)
        line = "echo line 0; echo line 1; echo ümlaut; exec sleep 1000"
        config = spec_pb2.ContainerConfig(image=image, args=["/bin/sh", "-c", line], labels={"from": "python"})
        request = containers_pb.CreateContainerRequest(config=config, start=True, request_id="python-smoke")
        made = containers.CreateContainer(request, timeout=DEADLINE)
        assert containers.CreateContainer(request, timeout=DEADLINE).id == made.id, "create is idempotent"
        check_logs(containers, containers_pb, made.id)
        check_exec(containers, containers_pb, made.id)
        check_exec_sync(containers, containers_pb, made.id)
        echo = spec_pb2.ContainerConfig(image=image, args=["cat"], stdin_open=True, stdin_once=True)
        check_attach(containers, containers_pb, echo)
        check_stats(stats_pb2_grpc.StatsServiceStub(channel), stats_pb2, made.id)
        check_errors(containers, containers_pb, made.id)
        remove = containers_pb.RemoveContainerRequest(container=made.id, force=True)
        containers.RemoveContainer(remove, timeout=DEADLINE)
        code, _ = error_of(containers.GetContainer, containers_pb.GetContainerRequest(container=made.id))
        assert code == grpc.StatusCode.NOT_FOUND, code


if __name__ == "__main__":
    main(*sys.argv[1:])
