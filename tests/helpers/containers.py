"""Build images and run containers with buildah and podman, in their own storage and without a network."""

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
#: Set by .ci/run after it has installed the tools, so that a missing tool fails the tests instead of skipping them.
REQUIRED = "FTJOBS_CONTAINER_TESTS_REQUIRED"
SUITE = "bookworm"
_CLONE_NEWNET = 0x40000000

#: Stricter than the `restricted` profile of Kubernetes: only two folders are writable.
HARDENED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/scratch", "--tmpfs=/cache"),
    *("--cap-drop=all", "--security-opt=no-new-privileges"),
)
# The default limits may exceed those of the machine, and then no container starts.
_LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")


def check_tools() -> None:
    """Skip the test if images cannot be built; fail it if .ci/run requires the tools."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    problem = f"not installed: {', '.join(missing)}" if missing else "needs root" if os.geteuid() else None
    if problem and os.environ.get(REQUIRED):
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)


class Engine:
    """buildah and podman with storage in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Other images and containers of this machine are neither used nor changed.
        self._storage = (f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}")
        runtime = ["--runtime=runc"] if shutil.which("runc") else []  # older versions of crun fail on hybrid cgroups
        self._podman = ["podman", *self._storage, *runtime, "--cgroup-manager=cgroupfs", "--events-backend=none"]

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a podman command."""
        return _run([*self._podman, *arguments], check)

    def build(self, context: Path, tag: str, *options: str) -> None:
        """Build an image from a folder in a chroot, which also works in containers and virtual machines."""
        build = ["buildah", *self._storage, "bud", "--isolation=chroot", "--network=host", "--layers"]
        _run([*build, *options, f"--tag={tag}", str(context)])

    def run(
        self, image: str, *arguments: str, options: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a hardened container until it exits."""
        return self.podman("run", "--pull=never", *HARDENED, *_LIMITS, *options, image, *arguments, check=check)

    def start(self, name: str, image: str, *arguments: str, options: tuple[str, ...] = ()) -> int:
        """Start a hardened container in the background; return the host's process id of its first process."""
        self.run(image, *arguments, options=("--detach", f"--name={name}", "--log-driver=k8s-file", *options))
        return int(self.podman("inspect", "--format={{.State.Pid}}", name).stdout)

    def wait(self, name: str) -> tuple[int, str]:
        """Wait until a container exits; return its exit code and its output on stdout and stderr."""
        code = int(self.podman("wait", name).stdout)
        logs = self.podman("logs", name)
        return code, logs.stdout + logs.stderr

    def base(self, tag: str) -> dict[str, str]:
        """Import a minimal Debian as image; return the build arguments for the package index of this machine."""
        root, settings = self.folder / "base", _pip_settings()
        _run(["debootstrap", "--variant=minbase", SUITE, str(root)])
        if "cert" in settings:  # a mirror with a private certificate
            shutil.copy(settings["cert"], root / "etc/pip-cert.pem")
            (root / "etc/pip.conf").write_text("[global]\ncert = /etc/pip-cert.pem\n")
        archive = self.folder / "base.tar"
        excluded = ("--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*")
        _run(["tar", f"--directory={root}", "--create", f"--file={archive}", *excluded, "."])
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
    """Return the folders of this machine in values of pip settings."""
    words = [word for value in arguments.values() for word in value.split()]
    return [word for word in words if word.startswith("/") and Path(word).is_dir()]


@contextmanager
def forwarded_port(server: str, pid: int) -> Iterator[None]:
    """Forward a port of this machine into the network namespace of a container, under the same address.

    The namespace has only a loopback interface. A socket belongs to the namespace of the thread that created it, so a
    thread enters the namespace and listens there, and connections are forwarded from here.

    Args:
        server: URL with a port of 127.0.0.1.
        pid: a process in the namespace.
    """
    port = urlsplit(server).port
    assert port
    listeners: list[socket.socket] = []

    def listen() -> None:
        with open(f"/proc/{pid}/ns/net") as namespace:
            libc = ctypes.CDLL(None, use_errno=True)  # os.setns exists since Python 3.12
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        listeners.append(socket.create_server(("127.0.0.1", port)))

    thread = threading.Thread(target=listen)  # setns changes the namespace of the calling thread only
    thread.start()
    thread.join()
    listener = listeners[0]
    threading.Thread(target=_forward, args=(listener, port), daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _forward(listener: socket.socket, port: int) -> None:
    """Connect every client of `listener` to a port of this machine."""
    while True:
        try:
            inside, _ = listener.accept()
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
    except OSError:  # one side has closed the connection
        for connection in (source, sink):
            connection.close()


def _pip_settings() -> dict[str, str]:
    """Return the settings of pip on this machine; the environment overrides files. Indexes that are files are excluded,
    because their entries may be anywhere."""
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
