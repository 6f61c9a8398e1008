"""Images and containers for the tests: buildah and podman on a storage that goes with its folder, and no network but
one address of a server."""

from __future__ import annotations

import ast
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

TOOLS = ("buildah", "podman", "debootstrap")
#: Set by .ci/run where it has installed the tools: then a missing one is a failure, not a reason to skip.
REQUIRED = "FTJOBS_CONTAINER_TESTS_REQUIRED"
SUITE = "bookworm"
_CLONE_NEWNET = 0x40000000

#: As hard as the `restricted` profile of Kubernetes, and harder: nothing but the two folders may be written to.
HARDENED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/scratch", "--tmpfs=/cache"),
    *("--cap-drop=all", "--security-opt=no-new-privileges"),
)
# The usual limits may be higher than those of the machine, which then refuses to start any container.
_LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")


def check_tools() -> None:
    """Skip the test where images cannot be built; fail it where .ci/run was to see to that."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    problem = f"not installed: {', '.join(missing)}" if missing else "needs root" if os.geteuid() else None
    if problem and os.environ.get(REQUIRED):
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)


class Engine:
    """buildah and podman, with everything they keep in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Whatever else is on this machine, images and containers, is neither used nor touched.
        self._storage = (f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}")
        runtime = ["--runtime=runc"] if shutil.which("runc") else []  # older crun: not on hybrid cgroups
        self._podman = ["podman", *self._storage, *runtime, "--cgroup-manager=cgroupfs", "--events-backend=none"]

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a podman command."""
        return _run([*self._podman, *arguments], check)

    def build(self, context: Path, tag: str, *options: str) -> None:
        """Build an image from a folder, in a chroot: that works inside of containers and virtual machines too."""
        build = ["buildah", *self._storage, "bud", "--isolation=chroot", "--network=host", "--layers"]
        _run([*build, *options, f"--tag={tag}", str(context)])

    def run(
        self, image: str, *arguments: str, options: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a container, hardened, to its end."""
        return self.podman("run", "--pull=never", *HARDENED, *_LIMITS, *options, image, *arguments, check=check)

    def start(self, name: str, image: str, *arguments: str, options: tuple[str, ...] = ()) -> int:
        """Start a container, hardened, and leave it running; returns the number of its first process here."""
        self.run(image, *arguments, options=("--detach", f"--name={name}", "--log-driver=k8s-file", *options))
        return int(self.podman("inspect", "--format={{.State.Pid}}", name).stdout)

    def wait(self, name: str) -> tuple[int, str]:
        """Exit code of a container, and what it wrote to stdout and stderr, once it has ended."""
        code = int(self.podman("wait", name).stdout)
        logs = self.podman("logs", name)
        return code, logs.stdout + logs.stderr

    def base(self, tag: str) -> dict[str, str]:
        """An image of Debian's smallest installation; returns the build arguments that say where pip finds packages."""
        root, settings = self.folder / "base", _pip_settings()
        _run(["debootstrap", "--variant=minbase", SUITE, str(root)])
        if "cert" in settings:  # a mirror with a certificate of its own
            shutil.copy(settings["cert"], root / "etc/pip-cert.pem")
            (root / "etc/pip.conf").write_text("[global]\ncert = /etc/pip-cert.pem\n")
        archive = self.folder / "base.tar"
        left_out = ("--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*")
        _run(["tar", f"--directory={root}", "--create", f"--file={archive}", *left_out, "."])
        self.podman("import", str(archive), tag)
        shutil.rmtree(root)
        archive.unlink()
        index = {"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL", "find-links": "PIP_FIND_LINKS"}
        return {index[name]: value for name, value in settings.items() if name in index}

    def remove(self) -> None:
        """Remove every container and image, and the folder."""
        self.podman("rm", "--all", "--force", "--time=0", check=False)
        self.podman("rmi", "--all", "--force", check=False)
        subprocess.run(["umount", "--lazy", str(self.folder / "storage/overlay")], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def local_folders(arguments: dict[str, str]) -> list[str]:
    """Folders of this machine that values of pip settings name."""
    words = [word for value in arguments.values() for word in value.split()]
    return [word for word in words if word.startswith("/") and Path(word).is_dir()]


@contextmanager
def way_to(server: str, pid: int) -> Iterator[None]:
    """Let the processes of a container reach a server of this machine, at the address it has here, and nothing else.

    The container has a network namespace of its own with nothing but a loopback interface. A socket belongs to the
    namespace of the thread that made it, wherever it is used; so a thread enters the namespace and listens there, and
    what comes in is passed on from here.

    Args:
        server: URL with a port of 127.0.0.1.
        pid: a process in the namespace.
    """
    port = urlsplit(server).port
    assert port
    listening: list[socket.socket] = []

    def listen() -> None:
        with open(f"/proc/{pid}/ns/net") as namespace:
            libc = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 on
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        listening.append(socket.create_server(("127.0.0.1", port)))

    thread = threading.Thread(target=listen)  # a namespace is a thread's, and this one ends
    thread.start()
    thread.join()
    door = listening[0]
    threading.Thread(target=_pass_on, args=(door, port), daemon=True).start()
    try:
        yield
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()


def _pass_on(door: socket.socket, port: int) -> None:
    """Connect whoever comes in by `door` with a port of this machine."""
    while True:
        try:
            inside, _ = door.accept()
        except OSError:
            return
        outside = socket.create_connection(("127.0.0.1", port))
        for source, sink in ((inside, outside), (outside, inside)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # one of the two has gone
        for one in (source, sink):
            one.close()


def _pip_settings() -> dict[str, str]:
    """What pip is set to on this machine, by its files and the environment, which goes first. Indexes that are files
    are left out: what they name may lie anywhere."""
    listed = _run([sys.executable, "-m", "pip", "config", "list"]).stdout.splitlines()
    settings: dict[str, str] = {}
    for name, _, value in (line.partition("=") for line in listed):
        scope, _, key = name.rpartition(".")
        if key not in settings or scope == ":env:":
            words = str(ast.literal_eval(value)).split()
            settings[key] = " ".join(word for word in words if not word.startswith("file:"))
    return {key: value for key, value in settings.items() if value}


def _run(command: list[str], check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done
