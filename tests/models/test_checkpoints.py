"""Copying checkpoints: every format of weights, and one-line errors for invalid checkpoints."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from ftjobs.errors import FtjobsError, UserError
from ftjobs.models import checkpoints, heads
from tests.fakes.hub import Hub
from tests.helpers.families import FAMILIES, LONGEST, WITH_TOKEN_TYPES


@pytest.fixture
def folder(make_encoder: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a copy of a checkpoint that a test may modify."""
    return Path(shutil.copytree(make_encoder("bert", "pretraining"), tmp_path / "encoder"))


def test_copy_has_every_file_and_weight(folder: Path, tmp_path: Path) -> None:
    checkpoints.copy_checkpoint(folder, tmp_path / "copy")
    assert (tmp_path / "copy/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    text = "Does a fever help, doctor?"
    ids = [AutoTokenizer.from_pretrained(path)(text).input_ids for path in (folder, tmp_path / "copy")]
    assert ids[0] == ids[1]


def as_pytorch(weights: dict[str, torch.Tensor], folder: Path) -> None:
    torch.save(weights, folder / "pytorch_model.bin")


def as_old_names(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write weights like bert-base-cased: norms have gamma and beta."""
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in weights.items()
    }
    checkpoints.write_weights(renamed, folder)


def as_shards(weights: dict[str, torch.Tensor], folder: Path) -> None:
    names = sorted(weights)
    mapping = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        checkpoints.write_weights({name: weights[name] for name in part}, folder)
        file = f"model-{number:05}-of-00002.safetensors"
        (folder / "model.safetensors").rename(folder / file)
        mapping |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": mapping}))


@pytest.mark.parametrize("write", [as_pytorch, as_old_names, as_shards])
def test_every_weight_format_loads_the_same_models(folder: Path, tmp_path: Path, write: Callable) -> None:
    expected = [heads.load_masked_lm(folder)[0], AutoModel.from_pretrained(folder)]
    weights = checkpoints.read_weights(folder)
    (folder / "model.safetensors").unlink()
    write(weights, folder)
    checkpoints.copy_checkpoint(folder, tmp_path / "copy")
    model, new = heads.load_masked_lm(tmp_path / "copy")
    assert new == []
    for loaded, original in zip([model, AutoModel.from_pretrained(tmp_path / "copy")], expected, strict=True):
        for name, parameter in original.named_parameters():
            assert torch.equal(loaded.get_parameter(name), parameter), name
    beyond = heads.extra_weights(model, tmp_path / "copy")
    assert {name.rpartition(".")[0] for name in beyond} == {"bert.pooler.dense", "cls.seq_relationship"}


def spoil_remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def spoil_write(name: str, content: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return spoil


def spoil_truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def spoil_with_code(folder: Path) -> None:
    """Write a pickle that would run a command when loaded."""

    class Command:
        def __reduce__(self) -> tuple:
            return (Path.touch, (folder / "executed",))

    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"weight": Command()}, file)


def spoil_vocabulary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 20}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_remove("config.json"), "no config.json"),
        (spoil_write("config.json", b"{"), "no readable model configuration"),
        (spoil_write("config.json", b"[]"), "no readable model configuration"),
        (spoil_write("config.json", b'{"model_type": "no-such-thing"}'), "no readable model configuration"),
        (spoil_remove("model.safetensors"), "has no weights; fetch model.safetensors or pytorch_model.bin"),
        (spoil_truncate, "model.safetensors: no readable weights"),
        (spoil_write("model.safetensors", b""), "model.safetensors: no readable weights"),
        (spoil_with_code, "more than weights|no readable weights"),
        (spoil_remove("tokenizer.json"), "has no tokenizer files|no readable tokenizer"),
        (spoil_write("tokenizer.json", b"{}"), "no readable tokenizer"),
        (spoil_vocabulary, r"the tokenizer has \d+ tokens but the model embeds 20"),
    ],
)
def test_invalid_checkpoint_raises_one_line(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message) as raised:
        checkpoints.copy_checkpoint(folder, tmp_path / "copy")
    assert len(raised.value.problems) == 1
    assert "\n" not in raised.value.problems[0]
    assert str(folder) in raised.value.problems[0]
    assert not (folder / "executed").exists()


def test_missing_or_outside_shards_raise(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    for shard in ("absent.safetensors", "../../etc/passwd"):
        index = {"weight_map": {"bert.x": shard}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(UserError, match="is missing; fetch"):
            checkpoints.copy_checkpoint(folder, tmp_path / "copy")


def test_unreachable_hub_raises_retryable_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FtjobsError, match=r"google-bert/bert-tiny.*cannot be reached.*set encoder.model"):
        checkpoints.download("google-bert/bert-tiny", "main")


def test_invalid_hub_id_raises_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not found"):
        checkpoints.download("a/b/c/d", "main")


def test_saved_tokenizer_does_not_depend_on_hub_access(folder: Path, tmp_path: Path) -> None:
    """HF_HUB_OFFLINE does not change the saved tokenizer: same job, same bytes."""
    checkpoints.load_tokenizer(folder).save_pretrained(tmp_path / "saved")
    assert (
        not {"is_local", "local_files_only"} & json.loads((tmp_path / "saved/tokenizer_config.json").read_text()).keys()
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_max_input_length_is_limited_by_positions(make_encoder: Callable[..., Path], family: str) -> None:
    folder = make_encoder(family, "mlm")
    tokenizer = checkpoints.load_tokenizer(folder)
    tokenizer.model_max_length = 10**30  # transformers' value for an unknown maximum
    for model in (heads.load_masked_lm(folder)[0], heads.load_classifier(folder, ["a", "b"])[0]):
        assert checkpoints.max_input_length(model, tokenizer, 512) == LONGEST
        assert checkpoints.max_input_length(model, tokenizer, 20) == 20
        model(input_ids=torch.full((1, LONGEST), 7))
        if family not in ("deberta-v2", "modernbert"):  # whose positions are relative
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, LONGEST + 1), 7))


def test_sentencepiece_model_loads_as_tokenizer(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """Like DeBERTa-v3 on the hub: `spm.model` without `tokenizer.json`."""
    from sentencepiece import sentencepiece_model_pb2 as proto

    folder = Path(shutil.copytree(make_encoder("deberta-v2", "mlm"), tmp_path / "encoder"))
    expected = checkpoints.load_tokenizer(folder)
    entries = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    model = proto.ModelProto(trainer_spec=proto.TrainerSpec(model_type=1, unk_id=3))
    for index, (piece, score) in enumerate(entries):
        kinds = proto.ModelProto.SentencePiece
        kind = kinds.UNKNOWN if index == 3 else kinds.CONTROL if index < 3 else kinds.NORMAL
        model.pieces.add(piece=piece, score=score, type=kind)
    (folder / "spm.model").write_bytes(model.SerializeToString())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')  # as it has it
    checkpoints.copy_checkpoint(folder, tmp_path / "copy")
    copied = AutoTokenizer.from_pretrained(tmp_path / "copy")
    for text in ("Does the Fever help?", " two  spaces", "[MASK] pills"):
        assert copied(text, "my dose").input_ids == expected(text, "my dose").input_ids


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_returns_token_types_if_encoder_has_two(
    make_encoder: Callable[..., Path], family: str, tmp_path: Path
) -> None:
    """Independent of the tokenizer class's default, also for the published tokenizer loaded by transformers."""
    folder = Path(shutil.copytree(make_encoder(family), tmp_path / "encoder"))
    for names in (["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]):
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_input_names": names}))
        checkpoints.load_tokenizer(folder).save_pretrained(tmp_path / "saved")
        shutil.copy(folder / "config.json", tmp_path / "saved")
        encoding = AutoTokenizer.from_pretrained(tmp_path / "saved")("a dose", "my pill")
        assert ("token_type_ids" in encoding) == (family in WITH_TOKEN_TYPES)
        if family in WITH_TOKEN_TYPES:
            assert max(encoding["token_type_ids"]) == 1


def serve(hub: Hub, folder: Path, **more: bytes) -> None:
    """Upload a checkpoint with unneeded files to the fake hub as its newest commit."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    unneeded = {"tf_model.h5": b"x", "onnx/model.onnx": b"x", ".gitattributes": b"x"}
    hub.add("main", "d" * 40, {**files, **unneeded, **more})


def test_download_has_one_commit_and_one_weight_format(hub: Hub, folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    serve(hub, folder, **{"pytorch_model.bin": b"another copy of the weights"})
    downloaded, commit = checkpoints.download("me/bert", "main")
    assert commit == "d" * 40
    assert {path.name for path in downloaded.iterdir()} == {path.name for path in folder.iterdir()}
    assert not {"pytorch_model.bin", "tf_model.h5", "onnx/model.onnx"} & set(hub.served)
    checkpoints.copy_checkpoint(downloaded, tmp_path / "copy")
    for name in ("model.safetensors", "README.md"):  # the model's own card comes along
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_download_falls_back_to_pytorch_weights(hub: Hub, folder: Path, tmp_path: Path) -> None:
    weights = checkpoints.read_weights(folder)
    (folder / "model.safetensors").unlink()
    as_pytorch(weights, folder)
    serve(hub, folder)
    downloaded, _ = checkpoints.download("me/bert", "main")
    checkpoints.copy_checkpoint(downloaded, tmp_path / "copy")
    assert checkpoints.read_weights(tmp_path / "copy").keys() == weights.keys()


def test_hub_errors_are_one_line(hub: Hub, folder: Path) -> None:
    serve(hub, folder)
    with pytest.raises(
        UserError,
        match=r"`me/absent` .*`main`: not found .*/.*me/absent\)",
    ):
        checkpoints.download("me/absent", "main")
    with pytest.raises(UserError, match=r"`me/bert` .*`v9`: .*revision"):
        checkpoints.download("me/bert", "v9")
    hub.gated = True
    with pytest.raises(UserError, match=r"restricted.*https://huggingface\.co/me/bert .*set HF_TOKEN"):
        checkpoints.download("me/bert", "main")
    hub.failing = True
    with pytest.raises(FtjobsError, match="cannot be reached") as raised:
        checkpoints.download("me/bert", "main")
    assert raised.value.exit_code == 1
