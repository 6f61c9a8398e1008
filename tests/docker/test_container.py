"""The image, built on a minimal Debian base, and a pipeline with one container per stage.

The containers share only the S3 server. They join the network namespace of a container without network, whose loopback
interface reaches only the server's address (`containers.forwarded_port`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftjobs import __version__, artifacts
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.fakes.s3_server import BUCKET, S3Server, environment
from tests.helpers.containers import Engine, check_tools, forwarded_port, local_folders
from tests.helpers.interruptions import saved_steps
from tests.helpers.pipelines import job_fields, write_rows

pytestmark = pytest.mark.container

ROOT = Path(__file__).parents[2]
BASE, IMAGE, CONTEXT = "localhost/base:1", "localhost/ftjobs:test", "localhost/context:test"
LATER_STAGES = ("head", "adapted-head", "adapted-behavioural")
SIGTERM = 1 << 14  # in the mask of the signals that a process handles
PATIENCE = 120.0  # seconds

#: Print imported modules without byte code that matches their source.
NOT_COMPILED = """
import os, struct, sys
import datasets, torch, transformers, ftjobs.stages.adapt, ftjobs.stages.classify, ftjobs.stages.report
for name, module in sorted(sys.modules.items()):
    source, compiled = getattr(module, "__file__", None), getattr(module, "__cached__", None)
    if source and compiled and source.startswith("/opt/"):
        if not os.path.exists(compiled):
            print(name, "has no byte code")
        elif struct.unpack("<4xIII", open(compiled, "rb").read(16))[:2] != (0, int(os.stat(source).st_mtime)):
            print(name, "has outdated byte code")
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """buildah and podman with the built image; removed at the end."""
    check_tools()
    engine = Engine(Path(tempfile.mkdtemp(prefix="ftjobs-")))  # socket paths have at most 107 characters
    try:
        index = engine.base(BASE)
        if (attempt := engine.run(BASE, "true", options=("--network=none",), check=False)).returncode:
            pytest.skip(f"podman cannot run containers here: {attempt.stderr.strip()[-500:]}")
        arguments = {"BASE_IMAGE": BASE, "VERSION": __version__, "REVISION": "abc", **index}
        engine.build(
            ROOT,
            IMAGE,
            f"--file={ROOT / 'docker/Dockerfile'}",
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--volume={folder}:{folder}:ro" for folder in local_folders(index)),
        )
        yield engine
    finally:
        engine.remove()


@pytest.fixture
def network(engine: Engine, s3: S3Server) -> Iterator[tuple[str, ...]]:
    """Options of containers that reach only the server, with its address and keys."""
    pid = engine.start("gate", IMAGE, "infinity", options=("--network=none", "--entrypoint=sleep"))
    assert engine.podman("exec", "gate", "ls", "/sys/class/net").stdout.split() == ["lo"]
    with forwarded_port(s3.url, pid):
        yield ("--network=container:gate", *(f"--env={name}={value}" for name, value in environment(s3.url).items()))
    engine.podman("rm", "--force", "--depend", "--time=0", "gate")


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"s3://{BUCKET}/{tmp_path.name}/store"


@pytest.fixture
def stage_options(network: tuple[str, ...], job: Path, store: str) -> tuple[str, ...]:
    """Options of containers that run stages of `/job/job.yaml`."""
    variables = {"FTJOBS_STORE": store, "OMP_NUM_THREADS": "1"}
    return (
        *network,
        *(f"--env={name}={value}" for name, value in variables.items()),
        f"--volume={job.parent}:/job:ro",
    )


@pytest.fixture
def job(s3: S3Server, tmp_path: Path) -> Path:
    """A job file with data on the server; `adapt` saves its training state at every step."""
    write_rows(tmp_path / "rows.csv")
    s3.client().upload_file(str(tmp_path / "rows.csv"), BUCKET, f"{tmp_path.name}/rows.csv")
    fields = job_fields(None, hypotheses=["adapted-behavioural > head"])
    fields["data"] = {**fields["data"], "source": f"s3://{BUCKET}/{tmp_path.name}/rows.csv"}
    fields["stages"]["adapt"] = {"kind": "adapt", "epochs": 4, "save_every": 1}
    path = tmp_path / "job/job.yaml"
    path.parent.mkdir()
    path.write_text(json.dumps(fields))
    return path


def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"condition not reached within {PATIENCE} s"
        time.sleep(0.01)


def handles_sigterm(pid: int) -> bool:
    """Return whether process 1 of a container is ftjobs and has a SIGTERM handler."""
    process = Path(f"/proc/{pid}")
    if b"/ftjobs\0" not in (process / "cmdline").read_bytes():
        return False
    mask = next(line for line in (process / "status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) & SIGTERM)


def test_build_context_has_only_sources_of_the_image(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    engine.build(ROOT, CONTEXT, f"--file={tmp_path / 'Dockerfile'}", f"--ignorefile={ROOT / '.dockerignore'}")
    engine.podman("image", "save", f"--output={tmp_path / 'image.tar'}", CONTEXT)
    sizes: dict[str, int] = {}
    with tarfile.open(tmp_path / "image.tar") as image:
        for layer in (member for member in image if member.name.endswith(".tar")):
            with tarfile.open(fileobj=image.extractfile(layer)) as files:
                sizes |= {file.name: file.size for file in files if file.isfile()}
    assert {name.split("/")[0] for name in sizes} == {
        "LICENSE",
        "README.md",
        "constraints.txt",
        "ftjobs",
        "pyproject.toml",
    }
    assert {Path(name).suffix for name in sizes if name.startswith("ftjobs/")} == {".py", ".typed", ".j2", ".css"}
    # Source files only, which are 1.1 MB: a data file or a model in the context would exceed the limit.
    assert sum(sizes.values()) < 1.25 * 2**20


def test_image_has_entrypoint_user_and_labels(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    (image,) = json.loads(engine.podman("image", "inspect", IMAGE).stdout)
    (base,) = json.loads(engine.podman("image", "inspect", BASE).stdout)
    config = image["Config"]
    assert config["Entrypoint"] == ["ftjobs"]
    assert config["User"] == "10001:10001"
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["title"] == "ftjobs"
    assert (labels["version"], labels["revision"], labels["base.name"]) == (__version__, "abc", BASE)
    with capsys.disabled():
        print(f"\nimage: {image['Size'] / 1e6:.0f} MB, of which {base['Size'] / 1e6:.0f} MB are its base")


def test_image_has_no_build_tools_or_tests(engine: Engine) -> None:
    def shell(script: str) -> str:
        return engine.run(IMAGE, "-c", script, options=("--rm", "--network=none", "--entrypoint=sh")).stdout

    assert shell("id -u; id -un; pwd").split() == ["10001", "ftjobs", "/scratch"]
    assert shell("for name in cc gcc c++ make pip pip3 curl; do command -v $name; done; true") == ""
    assert shell("find /opt -type d -name tests; find / -xdev -path '*pip/cache*' 2>/dev/null; ls /build; true") == ""
    writable = shell(
        "for folder in / /opt /tmp /var/tmp /cache /scratch; do touch $folder/x 2>&- && echo $folder; done"
    )
    assert writable.split() == ["/cache", "/scratch"]
    python = ("--rm", "--network=none", "--entrypoint=python")
    assert engine.run(IMAGE, "-c", NOT_COMPILED, options=python).stdout == ""


def test_other_user_can_write_to_work_and_cache(engine: Engine) -> None:
    """`docker run --user "$(id -u)"` with a writable root and without tmpfs."""
    script = "import getpass, tempfile, pathlib; pathlib.Path('/cache/x').touch(); print(getpass.getuser(), tempfile.gettempdir())"
    options = ("--rm", "--network=none", "--user=1234", "--cap-drop=all", "--entrypoint=python", "--pull=never")
    limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
    result = engine.podman("run", *options, *limits, IMAGE, "-c", script)
    assert result.stdout.split() == ["ftjobs", "/scratch"]


@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.8])
def test_sigterm_during_startup(engine: Engine, job: Path, seconds: float) -> None:
    """As process 1, for which the kernel drops SIGTERM until a handler is set; with an unreachable store."""
    name = f"stopped-{seconds}"
    unreachable = (f"--env={name}={value}" for name, value in environment("http://127.0.0.1:9").items())
    options = ("--network=none", f"--volume={job.parent}:/job:ro", *unreachable)
    pid = engine.start(name, IMAGE, "stage", "/job/job.yaml", "prepare", "--store=s3://bucket/prefix", options=options)
    until(lambda: handles_sigterm(pid))
    time.sleep(seconds)
    sent = time.monotonic()
    engine.podman("kill", "--signal=TERM", name)
    code, logs = engine.wait(name)
    assert code == 143, logs
    assert "stopped by SIGTERM" in logs
    assert time.monotonic() - sent < 10.0


def test_two_containers_run_one_stage(engine: Engine, stage_options: tuple[str, ...], job: Path, store: str) -> None:
    engine.run(IMAGE, "stage", "/job/job.yaml", "prepare", options=("--rm", *stage_options))
    together = ("--num-processes=2", "--num-machines=2", "--main-address=127.0.0.1")
    for rank in range(2):
        arguments = ("stage", "/job/job.yaml", "adapt", *together, f"--machine-rank={rank}")
        engine.start(f"machine-{rank}", IMAGE, *arguments, options=stage_options)
    for rank in range(2):
        code, logs = engine.wait(f"machine-{rank}")
        assert code == 0, logs
    storage = open_storage(store)
    manifest = artifacts.require_manifest(storage, select(plan(read(job)), "adapt", None))
    assert "on 2 processes" in artifacts.read_text(storage, manifest, "model/README.md")


def test_pipeline_with_one_container_per_stage(
    engine: Engine,
    stage_options: tuple[str, ...],
    job: Path,
    store: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One stage is interrupted; the published models equal those of a local run, byte by byte."""
    storage, runs = open_storage(store), plan(read(job))

    def stage(name: str) -> str:
        return engine.run(IMAGE, "stage", "/job/job.yaml", name, options=("--rm", *stage_options)).stderr

    early = engine.run(IMAGE, "stage", "/job/job.yaml", "adapt", options=("--rm", *stage_options), check=False)
    assert early.returncode == 75, early.stderr
    stage("prepare")

    started = time.monotonic()
    engine.start("adapt", IMAGE, "stage", "/job/job.yaml", "adapt", options=stage_options)
    until(lambda: saved_steps(storage, runs))
    seconds = time.monotonic() - started
    engine.podman("stop", "--time=30", "adapt")
    code, logs = engine.wait("adapt")
    assert code == 143, logs
    assert not artifacts.find_manifest(storage, select(runs, "adapt", None))
    (step,) = saved_steps(storage, runs).values()
    assert f"resuming after step {step} of" in stage("adapt")
    for name in LATER_STAGES:
        stage(name)
    log = engine.run(IMAGE, "run", "/job/job.yaml", "--parallel=2", options=("--rm", *stage_options)).stderr
    assert re.findall(r"\] (.+): running", log) == ["behavioural seed 1", "report"], log

    local_store = tmp_path / "local-store"
    command = [sys.executable, "-m", "ftjobs"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "run", str(job), "--store", str(local_store)], check=True, capture_output=True, env=settings
    )
    for run in runs:
        container_files, local_files = (
            {
                file.path: file.sha256
                for file in artifacts.require_manifest(source, run).files
                if file.path.startswith("model/") and file.path != "model/README.md"  # names the Python version
            }
            for source in (storage, open_storage(str(local_store)))
        )
        assert container_files == local_files, run.title

    accuracy = {
        run.stage: artifacts.require_manifest(storage, run).metrics["accuracy"]
        for run in runs
        if run.kind == "classify"
    }
    winner, pulled = max(accuracy, key=lambda name: accuracy[name]), tmp_path / "winner"
    subprocess.run([*command, "pull", str(job), winner, str(pulled), "--store", store], check=True, capture_output=True)
    from transformers import pipeline

    (prediction,) = pipeline("text-classification", str(pulled))(
        [{"text": "can i take it", "text_pair": "fever the a"}]
    )
    assert prediction["label"] in ("cold", "fever", "rash")
    with capsys.disabled():
        print(f"\nfrom the start of a container to the first training step, and its state saved: {seconds:.1f} s")
