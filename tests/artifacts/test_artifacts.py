import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock

import pytest

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.artifacts.manifest import read_manifest, sha256_of
from ftjobs.errors import CorruptArtifact, FtjobsError, InputsNotPublished, UserError
from ftjobs.jobfile.fields import Job
from ftjobs.plan import StageRun, plan, select
from ftjobs.storage import LocalStorage, Storage, open_storage
from tests.fakes.s3_server import BUCKET

FILES = {
    "metrics.json": b'{"accuracy": 0.5}',
    "model/config.json": b"{}",
    "model/model.safetensors": bytes(range(256)) * 40,
    "model/deep/er/x.txt": b"",
}
MODEL = {path.removeprefix("model/"): content for path, content in FILES.items() if path.startswith("model/")}


class RemoteStorage(LocalStorage):
    """A folder that is used as if it were far away: everything is copied."""

    def local_path(self, key: str) -> Path | None:
        return None


@pytest.fixture(params=["local", "remote", "s3"])
def storage(request, tmp_path) -> Storage:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    return {"local": LocalStorage, "remote": RemoteStorage}[request.param](tmp_path / "store")


@pytest.fixture
def runs() -> list[StageRun]:
    return plan(
        Job.model_validate(
            {
                "name": "small",
                "encoder": {"model": "me/encoder"},
                "data": {"source": "me/pairs", "text": "q", "label": "l"},
                "stages": {"adapt": {"kind": "adapt"}, "head": {"kind": "classify", "encoder": "adapt"}},
            }
        )
    )


@pytest.fixture
def head(runs) -> StageRun:
    return select(runs, "head")


@pytest.fixture
def output(tmp_path) -> Path:
    """What a stage has written."""
    return written(tmp_path / "output", FILES)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys(storage: Storage) -> list[str]:
    return [entry.key for entry in storage.list("")]


def store(storage: Storage, key: str, data: bytes, folder: Path) -> None:
    (folder / "to-store").write_bytes(data)
    storage.put(folder / "to-store", key)


def publish(storage: Storage, run: StageRun, output: Path) -> Manifest:
    return artifacts.publish(storage, run, output, {"accuracy": 0.5}, {"python": "3"})


class TestPublishing:
    def test_what_is_published_is_found(self, storage, head, output):
        manifest = publish(storage, head, output)
        assert artifacts.find(storage, head) == manifest == artifacts.require(storage, head)
        assert {file.path: file.size for file in manifest.files} == {path: len(data) for path, data in FILES.items()}
        assert manifest.size == sum(map(len, FILES.values()))

    def test_the_manifest_says_where_it_came_from(self, storage, head, output):
        manifest = publish(storage, head, output)
        assert (manifest.pipeline, manifest.stage, manifest.kind, manifest.seed) == ("small", "head", "classify", 42)
        assert manifest.identity == head.identity
        assert manifest.inputs == {role: read.identity for role, read in head.inputs.items()}
        assert manifest.settings == head.settings.model_dump()
        assert manifest.metrics == {"accuracy": 0.5}
        assert manifest.environment == {"python": "3"}

    def test_the_layout_in_storage(self, storage, head, output):
        manifest = publish(storage, head, output)
        assert manifest.key == head.key == f"small/head/seed-42/{head.identity[:12]}"
        assert keys(storage) == sorted(
            [f"{head.key}/manifest.json", *(f"{head.key}/attempts/{manifest.attempt}/{path}" for path in FILES)]
        )

    def test_what_is_not_finite_is_null(self, storage, head, output):
        manifest = artifacts.publish(storage, head, output, {"loss": float("nan"), "best": [float("inf")]}, {})
        assert manifest.metrics == {"loss": None, "best": [None]}

    def test_the_first_to_publish_counts(self, storage, head, output, tmp_path):
        first = publish(storage, head, output)
        second = publish(storage, head, written(tmp_path / "late", {"metrics.json": b"{}"}))
        assert second == first
        assert len(list(storage.list(""))) == len(FILES) + 1  # the late attempt is gone

    def test_of_eight_at_once_one_is_published_whole(self, storage, head, tmp_path):
        outputs = [written(tmp_path / str(n), FILES | {"metrics.json": str(n).encode()}) for n in range(8)]
        start = Barrier(8)

        def publish_at_once(folder: Path) -> Manifest:
            start.wait()
            return publish(storage, head, folder)

        with ThreadPoolExecutor(8) as pool:
            manifests = list(pool.map(publish_at_once, outputs))
        assert all(manifest == manifests[0] for manifest in manifests)
        assert [key for key in keys(storage) if key.endswith("manifest.json")] == [f"{head.key}/manifest.json"]
        fetched = content(artifacts.fetch(storage, manifests[0], tmp_path / "work"))
        assert fetched in [content(folder) for folder in outputs]
        assert len(list(storage.list(""))) == len(FILES) + 1

    @pytest.mark.parametrize("after", range(len(FILES) + 1))
    def test_an_interrupted_one_is_seen_by_nobody(self, storage, head, output, tmp_path, monkeypatch, after):
        put, done, lock = type(storage).put, 0, Lock()

        def put_some(self: Storage, path: Path, key: str, *rest: object) -> str:
            nonlocal done
            with lock:
                if done == after:
                    raise KeyboardInterrupt
                digest = put(self, path, key)
                done += 1
                return digest

        def no_more(self: Storage, data: bytes, key: str) -> bool:
            raise KeyboardInterrupt

        with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
            broken.setattr(type(storage), "put", put_some)
            broken.setattr(type(storage), "put_if_absent", no_more)
            publish(storage, head, output)
        assert len(keys(storage)) == after
        assert artifacts.find(storage, head) is None
        assert list(artifacts.listing(storage)) == []
        with pytest.raises(InputsNotPublished):
            artifacts.require(storage, head)
        manifest = publish(storage, head, output)
        assert content(artifacts.fetch(storage, manifest, tmp_path / "work")) == FILES

    def test_a_file_that_the_store_cut_is_not_published(self, storage, head, output, monkeypatch):
        put = type(storage).put

        def cut(self: Storage, path: Path, key: str, *rest: object) -> str:
            path.write_bytes(path.read_bytes()[:-1])
            return put(self, path, key)

        monkeypatch.setattr(type(storage), "put", cut)
        with pytest.raises(CorruptArtifact, match="not stored whole; run the stage again"):
            publish(storage, head, output)
        assert artifacts.find(storage, head) is None


def test_files_of_one_artifact_go_and_come_several_at_a_time(head, tmp_path, monkeypatch):
    """Each waits until four are under way."""
    four = Barrier(4)
    output = written(tmp_path / "output", {f"model/{number}": b"x" for number in range(8)})
    far = RemoteStorage(tmp_path / "store")
    for verb in ("put", "get"):
        moved = getattr(LocalStorage, verb)
        with monkeypatch.context() as patched:
            patched.setattr(
                RemoteStorage,
                verb,
                lambda *given, moved=moved: (four.wait(timeout=20), moved(*given))[1],
                raising=False,
            )
            if verb == "put":
                manifest = publish(far, head, output)
            else:
                artifacts.pull(far, manifest, tmp_path / "pulled")
    assert len(content(tmp_path / "pulled")) == 8


class TestRequire:
    def test_says_what_is_missing_and_where(self, storage, head, runs):
        with pytest.raises(InputsNotPublished) as caught:
            artifacts.require(storage, head)
        assert str(caught.value) == f"head seed 42 is not published at {storage.uri(head.key)}; run it first"
        assert caught.value.exit_code == 75
        with pytest.raises(InputsNotPublished, match=r"^prepare is not published"):
            artifacts.require(storage, runs[0])

    def test_a_stage_of_another_identity_is_not_meant(self, storage, head, runs, output):
        publish(storage, head, output)
        assert [artifacts.find(storage, run) is not None for run in runs] == [False, False, True, False]


class TestListing:
    def test_by_pipeline(self, storage, runs, output):
        for run in runs[:3]:
            publish(storage, run, output)
        assert [manifest.stage for manifest in artifacts.listing(storage)] == ["adapt", "head", "prepare"]
        assert len(list(artifacts.listing(storage, "small"))) == 3
        assert list(artifacts.listing(storage, "sma")) == list(artifacts.listing(storage, "other")) == []

    def test_a_file_called_manifest_inside_an_artifact_is_none(self, storage, head, tmp_path):
        publish(storage, head, written(tmp_path / "out", {"manifest.json": b"x", "seed-1/abc/manifest.json": b"y"}))
        assert len(list(artifacts.listing(storage))) == 1


class TestPull:
    def test_the_models_files_at_the_top(self, storage, head, output, tmp_path):
        artifacts.pull(storage, publish(storage, head, output), tmp_path / "new" / "model")
        assert content(tmp_path / "new" / "model") == MODEL
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]

    def test_everything(self, storage, head, output, tmp_path):
        artifacts.pull(storage, publish(storage, head, output), tmp_path / "all", everything=True)
        assert content(tmp_path / "all") == FILES

    def test_everything_where_there_is_no_model(self, storage, runs, tmp_path):
        files = {"report.md": b"# small\n", "models/x": b""}
        artifacts.pull(storage, publish(storage, runs[-1], written(tmp_path / "out", files)), tmp_path / "report")
        assert content(tmp_path / "report") == files

    @pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
    def test_never_overwrites(self, storage, head, output, tmp_path, kind):
        manifest, there = publish(storage, head, output), tmp_path / "there"
        {"file": there.touch, "folder": there.mkdir, "dangling link": lambda: there.symlink_to("nowhere")}[kind]()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError, match="/there exists already; give a folder that does not"):
            artifacts.pull(storage, manifest, there)
        assert sorted(tmp_path.rglob("*")) == before

    def test_below_a_file(self, storage, head, output, tmp_path):
        manifest = publish(storage, head, output)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="/file is a file; give a folder"):
            artifacts.pull(storage, manifest, tmp_path / "file" / "model")


def flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("path", ["model/model.safetensors", "model/config.json"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, "has another sha256 than its manifest says"),
        (None, "is missing"),
        (lambda data: data[:-1], "bytes instead of"),
        (lambda data: data + b"x", "bytes instead of"),
        (lambda data: b"", "has 0 bytes instead of"),
    ],
    ids=["flipped", "missing", "cut", "longer", "empty"],
)
def test_a_damaged_file_is_refused_by_name(storage, head, output, tmp_path, path, damage, message):
    manifest = publish(storage, head, output)
    key = f"{manifest.folder}/{path}"
    damaged = damage and damage(storage.read(key))
    storage.delete(key)
    if damaged is not None:
        store(storage, key, damaged, tmp_path)
    assert [len(artifacts.verify(storage, manifest.key)), message in artifacts.verify(storage, manifest.key)[0]] == [
        1,
        True,
    ]
    for use in (
        lambda: artifacts.fetch(storage, manifest, tmp_path / "work"),
        lambda: artifacts.pull(storage, manifest, tmp_path / "pulled" / "model"),
        lambda: artifacts.pull(storage, manifest, tmp_path / "pulled" / "all", everything=True),
        lambda: artifacts.read_text(storage, manifest, path),
    ):
        with pytest.raises(CorruptArtifact) as caught:
            use()
        assert str(caught.value).startswith(f"{storage.uri(manifest.folder)}/{path} ")
        assert message in str(caught.value)
        assert "Delete its folder to have the stage run again" in str(caught.value)
    assert list((tmp_path / "pulled").iterdir()) == []


def test_one_text_of_an_artifact(storage, head, output):
    manifest = publish(storage, head, output)
    assert artifacts.read_text(storage, manifest, "metrics.json") == '{"accuracy": 0.5}'
    with pytest.raises(CorruptArtifact, match=r"/report\.md is not in the manifest"):
        artifacts.read_text(storage, manifest, "report.md")


class StoredManifest:
    """To read and change what is stored."""

    def __init__(self, storage: Storage, key: str, folder: Path) -> None:
        self.storage, self.key, self.folder = storage, key, folder

    def read(self) -> bytes:
        return self.storage.read(self.key)

    def write(self, data: bytes) -> None:
        store(self.storage, self.key, data, self.folder)

    def change(self, field: str, value: object) -> None:
        """As one who means it does, with the sha256 that belongs to it."""
        fields = json.loads(self.read()) | {field: value}
        self.write(json.dumps(fields | {"sha256": sha256_of(json.dumps(fields).encode())}).encode())


class TestManifests:
    """Whatever stands in a manifest, nothing outside the artifact is read or written."""

    @pytest.fixture
    def manifest(self, storage, head, output, tmp_path) -> "StoredManifest":
        publish(storage, head, output)
        return StoredManifest(storage, f"{head.key}/manifest.json", tmp_path)

    def refused(self, storage: Storage, head: StageRun, output: Path) -> str:
        messages = []
        for use in (
            lambda: artifacts.find(storage, head),
            lambda: artifacts.require(storage, head),
            lambda: list(artifacts.listing(storage)),
            lambda: publish(storage, head, output),
        ):
            with pytest.raises(CorruptArtifact) as caught:
                use()
            messages.append(str(caught.value))
        assert len(set(messages)) == 1
        assert messages[0].startswith(f"{storage.uri(head.key)}/manifest.json: ")
        assert artifacts.verify(storage, head.key) == messages[:1]
        return messages[0]

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"version": 1}'])
    def test_not_a_manifest(self, storage, head, manifest, output, text):
        manifest.write(text)
        assert "no valid manifest" in self.refused(storage, head, output)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("version", 2),
            ("version", "1"),
            ("identity", "0"),
            ("attempt", "../x"),
            ("attempt", ""),
            ("attempt", "a/b"),
            ("seed", "42"),
            ("later", True),
        ],
    )
    def test_a_later_version_or_odd_fields(self, storage, head, manifest, output, field, value):
        manifest.change(field, value)
        assert f"no valid manifest ({field}: " in self.refused(storage, head, output)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("pipeline", "../other"), ("stage", "../../x"), ("seed", 43), ("pipeline", "/etc"), ("identity", "0" * 64)],
    )
    def test_of_another_artifact(self, storage, head, manifest, output, field, value):
        manifest.change(field, value)
        assert "is the manifest of" in self.refused(storage, head, output)

    def test_a_flipped_bit_anywhere_in_it(self, storage, head, manifest, tmp_path):
        """Also in a figure or a setting, where what comes out is a manifest as good as any."""
        data, bits, key = manifest.read(), random.Random(3), f"{head.key}/manifest.json"
        here = tmp_path / "here"
        for place in range(len(data)):
            flipped = data[:place] + bytes([data[place] ^ 1 << bits.randrange(8)]) + data[place + 1 :]
            path = here / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(flipped)
            with pytest.raises(CorruptArtifact, match=r"/manifest\.json: (no valid|is the|has another sha256)"):
                read_manifest(LocalStorage(here), key)

    def test_one_that_does_not_say_its_sha256(self, storage, head, manifest, output):
        fields = json.loads(manifest.read())
        del fields["sha256"]
        manifest.write(json.dumps(fields).encode())
        assert "has another sha256 than it says of itself" in self.refused(storage, head, output)

    def test_of_another_identity_with_the_same_beginning(self, storage, head, manifest):
        other = head.identity[:12] + "0" * 52
        manifest.change("identity", other)
        with pytest.raises(CorruptArtifact, match=f"belongs to identity {other}, not {head.identity}"):
            artifacts.find(storage, head)

    @pytest.mark.parametrize(
        "path",
        [
            *("../x", "/etc/passwd", "model/../../x", "model/..", "..", ".", "", "./x", "model/./x"),
            *("model//etc/passwd", "//x", "model/", "a\\b", "a\0b"),
        ],
    )
    def test_paths_that_lead_out(self, storage, head, manifest, output, path):
        data = json.loads(manifest.read())
        data["files"][1]["path"] = path
        manifest.write(json.dumps(data).encode())
        assert "does not stay inside the artifact" in self.refused(storage, head, output)

    @pytest.mark.parametrize(("field", "value"), [("size", -1), ("size", "3"), ("sha256", "x"), ("sha256", None)])
    def test_odd_entries(self, storage, head, manifest, output, field, value):
        data = json.loads(manifest.read())
        data["files"][0][field] = value
        manifest.write(json.dumps(data).encode())
        assert f"no valid manifest (files.0.{field}: " in self.refused(storage, head, output)

    def test_a_store_may_be_moved_as_a_whole(self, storage, head, manifest, tmp_path):
        moved = LocalStorage(tmp_path / "moved")
        for key in keys(storage):
            storage.get(key, tmp_path / "moved" / key)
        found = artifacts.require(moved, head)
        assert content(artifacts.fetch(moved, found, tmp_path / "work")) == FILES


def test_what_went_wrong_is_for_a_retry_unless_the_user_can_mend_it():
    assert CorruptArtifact("x").exit_code == FtjobsError("x").exit_code == 1
    assert InputsNotPublished("x").exit_code == 75
    assert UserError("x").exit_code == 2
