from __future__ import annotations

import pytest

from ftjobs import artifacts
from ftjobs.errors import CorruptArtifact
from tests.fakes.s3_faults import (
    flip_bit,
)
from tests.helpers.artifacts import publish
from tests.helpers.storage import put_bytes


@pytest.mark.parametrize("path", ["model/model.safetensors", "model/config.json"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_bit, "has another sha256 than in its manifest"),
        (None, "is missing"),
        (lambda data: data[:-1], "bytes instead of"),
        (lambda data: data + b"x", "bytes instead of"),
        (lambda data: b"", "has 0 bytes instead of"),
    ],
    ids=["flipped", "missing", "cut", "longer", "empty"],
)
def test_damaged_file_is_refused_by_name(storage, head, output, tmp_path, path, damage, message):
    manifest = publish(storage, head, output)
    key = f"{manifest.folder}/{path}"
    damaged = damage and damage(storage.read(key))
    storage.delete(key)
    if damaged is not None:
        put_bytes(storage, key, damaged, tmp_path)
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
        assert "Delete its folder" in str(caught.value)
    assert list((tmp_path / "pulled").iterdir()) == []


class TestExtraFiles:
    def test_file_missing_from_the_manifest_is_refused(self, storage, head, output, tmp_path):
        manifest = publish(storage, head, output)
        put_bytes(storage, f"{manifest.folder}/model/extra.bin", b"x", tmp_path)
        uri = f"{storage.uri(manifest.folder)}/model/extra.bin is not in the manifest"
        assert artifacts.verify(storage, manifest.key) == [uri]
        for use in (
            lambda: artifacts.pull(storage, manifest, tmp_path / "new" / "pulled"),
            lambda: artifacts.fetch(storage, manifest, tmp_path / "work"),
        ):
            with pytest.raises(CorruptArtifact) as caught:
                use()
            assert str(caught.value).startswith(uri)
        assert list((tmp_path / "new").iterdir()) == []
