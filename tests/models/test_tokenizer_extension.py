"""Words added to a tokenizer: single tokens as whole words, other texts unchanged, embeddings initialized."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from ftjobs.data.examples.tokenization import word_start_finder
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Vocabulary
from ftjobs.models import checkpoints, heads
from ftjobs.models.tokenizer_extension import Extension, extend
from ftjobs.models.whole_words import WholeWords
from tests.helpers.families import FAMILIES, TOKENIZERS, WORDS

NEW = ["paracetamol", "ibuprofen"]
CORPUS = [f"take {word} for a {other}, {word}!" for other in WORDS for word in NEW] + ["A Paracetamol day (nausea)"] * 9
HELD_OUT = ["paracetamol and ibuprofen help.", "a fever"]
UNCASED = ("bert", "distilbert", "electra", "mpnet", "albert")


def extended(folder: Path, **settings: Any) -> tuple[Any, Any, Any, Extension]:
    """Return model and tokenizer of a checkpoint with added words, the original tokenizer, and the result."""
    model, _ = heads.load_masked_lm(folder)
    tokenizer, added = extend(
        model, checkpoints.load_tokenizer(folder), CORPUS, HELD_OUT, Vocabulary(**settings), seed=5
    )
    return model, tokenizer, checkpoints.load_tokenizer(folder), added


def pieces(tokenizer: Any, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_added_word_is_one_token_as_a_whole_word(
    make_encoder: Callable[..., Path], family: str, tmp_path: Path
) -> None:
    """Other texts keep their tokens, also with the published tokenizer loaded by transformers."""
    folder = make_encoder(family, "mlm")
    model, tokenizer, old, _ = extended(folder, add=NEW)
    heads.save(model, tokenizer, tmp_path, {})
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path), checkpoints.load_tokenizer(tmp_path)):
        assert len(loaded) == len(old) + len(NEW) * (2 if TOKENIZERS[family] == "byte-level BPE" else 1)
        for text, number in [
            ("paracetamol", 1),
            ("take paracetamol", 1),
            ("paracetamol, please", 1),
            ("take paracetamol. Take ibuprofen", 2),
            ("paracetamol's", 1),
            ("paracetamol paracetamol\nparacetamol\tparacetamol", 4),
        ]:
            ids = loaded(text).input_ids
            assert sum(token >= len(old) for token in ids) == number, text
        for text in ("Paracetamol", "take PARACETAMOL."):
            assert any(token >= len(old) for token in loaded(text).input_ids) == (family in UNCASED)
        others = ["paracetamols", "xparacetamol", "paraceta mol", "hyperparacetamolism", "Does the fever help, doctor?"]
        others += [" two  spaces\n", f"a {loaded.mask_token} day{loaded.mask_token}", "é ü 12", ""]
        if (
            TOKENIZERS[family] != "byte-level BPE"
        ):  # which splits letters from digits and underscores, so these contain the word
            others += ["paracetamol1x", "paracetamol_x"]
        for text in others:
            assert pieces(loaded, text) == pieces(old, text), text
        pair = "take paracetamol", "a fever"
        assert loaded(*pair).keys() == old(*pair).keys()
        assert loaded.model_max_length == old.model_max_length
        assert set(loaded.all_special_ids) == set(old.all_special_ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_spaces_around_added_words_are_preserved(make_encoder: Callable[..., Path], family: str) -> None:
    """Tokens around a new word stay the same, and decoding restores the text."""
    _, tokenizer, old, _ = extended(make_encoder(family, "mlm"), add=NEW)
    for text in ("take paracetamol, my day", "paracetamol. A cold (paracetamol) fever", "a cold\nparacetamol 12"):
        known = pieces(tokenizer, text)
        shattered: list[str] = []
        for index, token in enumerate(tokenizer(text, add_special_tokens=False).input_ids):
            behind_space = known[index].startswith(("▁", "Ġ"))
            alone = " paracetamol" if behind_space and TOKENIZERS[family] == "byte-level BPE" else "paracetamol"
            shattered += pieces(old, alone) if token >= len(old) else [known[index]]
        assert shattered == pieces(old, text)
        decoded, before = (
            version.decode(version(text).input_ids, skip_special_tokens=True) for version in (tokenizer, old)
        )
        assert decoded == before


@pytest.mark.parametrize("family", FAMILIES)
def test_new_embeddings_are_the_mean_of_pieces(make_encoder: Callable[..., Path], family: str, tmp_path: Path) -> None:
    """In input embeddings, output layer and bias; other rows stay unchanged, and tied weights stay tied."""
    folder = tmp_path / "encoder"
    shutil.copytree(make_encoder(family, "mlm"), folder)
    weights = checkpoints.read_weights(folder)
    torch.manual_seed(2)
    checkpoints.write_weights(
        {name: torch.randn_like(w) if name.endswith("bias") else w for name, w in weights.items()}, folder
    )
    before, _ = heads.load_masked_lm(folder)
    model, tokenizer, old, _ = extended(folder, add=NEW)
    whole_words = WholeWords(tokenizer)
    new = {
        tokenizer(form, add_special_tokens=False).input_ids[0]: form for word in NEW for form in whole_words.forms(word)
    }
    assert sorted(new) == list(range(len(old), len(tokenizer)))
    for find in (
        lambda loaded: loaded.get_input_embeddings().weight,
        lambda loaded: loaded.get_output_embeddings().weight,
        lambda loaded: loaded.get_output_embeddings().bias,
    ):
        earlier, now = find(before).detach(), find(model).detach()
        assert len(now) == len(tokenizer) == model.config.vocab_size
        assert torch.equal(now[: len(old)], earlier[: len(old)])
        for token, form in new.items():
            expected = earlier[old(form, add_special_tokens=False).input_ids].mean(0)
            torch.testing.assert_close(now[token], expected, rtol=1e-6, atol=1e-7)
            assert now[token].abs().sum() > 0
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    heads.save(model, tokenizer, tmp_path / "saved", heads.extra_weights(before, folder))
    again, loading = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["mismatched_keys"]
    assert again.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "saved"))
    for name, parameter in model.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter), name
    classifier, _ = heads.load_classifier(tmp_path / "saved", ["no", "yes"])
    assert len(classifier.get_input_embeddings().weight) == len(tokenizer)


def test_selected_words_save_most_tokens(make_encoder: Callable[..., Path]) -> None:
    """Counted by hand; ties in alphabetical order; parts of words do not count."""
    folder = make_encoder("bert", "mlm")
    tokenizer = checkpoints.load_tokenizer(folder)
    texts = [
        "Zyx zyx. zyx",
        "abdomen abdomens, ABDOMEN",
        "aorta aorta",
        "liver liver",
        "fever " * 50,
        "2020 2020 a_spleen",
    ]
    counts = {"zyx": 3, "abdomen": 2, "abdomens": 1, "aorta": 2, "liver": 2}
    length = {word: len(tokenizer.tokenize(word)) for word in counts}
    assert length == {"zyx": 3, "abdomen": 7, "abdomens": 8, "aorta": 5, "liver": 5}
    saved = {word: counts[word] * (length[word] - 1) for word in counts}  # 6, 12, 7, 8, 8

    def chosen(**settings: Any) -> list[str]:
        model, _ = heads.load_masked_lm(folder)
        chosen_from = checkpoints.load_tokenizer(folder)
        _, added = extend(model, chosen_from, iter(texts), HELD_OUT, Vocabulary(**settings), seed=1)
        assert all(word.saved == saved[word.word] and word.count == counts[word.word] for word in added.words)
        return [word.word for word in added.words]

    assert chosen(add=9, min_count=1) == ["abdomen", "aorta", "liver", "abdomens", "zyx"]
    assert chosen(add=2, min_count=2) == ["abdomen", "aorta"]
    assert chosen(add=9, min_count=3) == ["zyx"]
    assert chosen(add=["Zyx", "liver", "fever"]) == ["zyx", "liver"]  # `fever` is a single token already
    assert chosen(add=["zyx", "liver"], min_count=3) == ["zyx"]
    with pytest.raises(UserError, match=r"^vocabulary: .* 5 times .*min_count"):
        chosen(add=9)
    with pytest.raises(UserError, match=r"^vocabulary: nothing to add: of 2 words, 1 .* and 1 .* 3 times"):
        chosen(add=["fever", "liver"], min_count=3)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("word", ["covid-19", "a.b", "...", "19", "in_vitro"])
def test_add_refuses_texts_that_are_not_single_words(make_encoder: Callable[..., Path], family: str, word: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"vocabulary.add: {word!r} is not a single word")):
        extended(make_encoder(family, "mlm"), add=["paracetamol", word])


def test_random_embeddings_have_initializer_range_and_depend_on_seed(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", "mlm")
    words = [f"{first}{second}qz" for first in "bcdfghjklm" for second in "aeiou"]
    rows = [extended(folder, add=words, init="random")[0].get_input_embeddings().weight[-50:] for _ in range(2)]
    assert torch.equal(rows[0], rows[1])
    assert float(rows[0].mean().detach()) == pytest.approx(0, abs=0.002)
    assert float(rows[0].std().detach()) == pytest.approx(0.02, rel=0.05)
    model, _, old, _ = extended(folder, add=NEW, init="random")
    assert torch.equal(model.get_output_embeddings().bias[len(old) :], torch.zeros(2))


def test_untied_output_layer_is_initialized_from_rows_of_that_layer(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", "mlm", tie_word_embeddings=False)
    before, _ = heads.load_masked_lm(folder)
    model, _, old, _ = extended(folder, add=NEW)
    for find in (
        lambda loaded: loaded.get_input_embeddings().weight,
        lambda loaded: loaded.get_output_embeddings().weight,
    ):
        for index, word in enumerate(NEW):
            expected = find(before)[old(word, add_special_tokens=False).input_ids].mean(0)
            torch.testing.assert_close(find(model)[len(old) + index], expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight)


@pytest.mark.parametrize("family", ["bert", "modernbert", "albert"])
def test_extended_encoder_can_be_extended_again(make_encoder: Callable[..., Path], family: str, tmp_path: Path) -> None:
    model, tokenizer, old, _ = extended(make_encoder(family, "mlm"), add=NEW[:1])
    heads.save(model, tokenizer, tmp_path, {})
    again, twice, once, _ = extended(tmp_path, add=NEW)  # the first is a single token by now
    assert len(twice) - len(once) == len(once) - len(old)
    text = "take ibuprofen, paracetamol; ibuprofens"
    assert sum(token >= len(old) for token in twice(text).input_ids) == 2
    kept = again.get_input_embeddings().weight[: len(once)]
    assert torch.equal(kept, model.get_input_embeddings().weight)
    starts = word_start_finder(twice)(twice.backend_tokenizer.encode("take ibuprofen help", add_special_tokens=False))
    begins = [token for token, first in zip(pieces(twice, "take ibuprofen help"), starts, strict=True) if first]
    assert [token.strip("Ġ▁")[:2] for token in begins][-2:] == ["ib", "he"]


def test_padding_of_a_checkpoint_does_not_count_as_tokens(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make_encoder("bert", "mlm"), tmp_path / "encoder"))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["padding"] = {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content))
    *_, added = extended(folder, add=9)
    assert {word.word: word.pieces for word in added.words} == {"paracetamol": 11, "ibuprofen": 9, "nausea": 6}


def test_metrics_of_held_out_texts(make_encoder: Callable[..., Path]) -> None:
    _, tokenizer, old, added = extended(make_encoder("bert", "mlm"), add=NEW)
    metrics = added.metrics({"loss": 2.0}, {"loss": 1.0})
    counted = [sum(len(version.tokenize(text)) for text in HELD_OUT) for version in (old, tokenizer)]
    assert metrics["held_out"] == {"characters": 31 + 7, "pieces": counted}
    assert metrics["pieces_per_word"] == [round(number / 6, 4) for number in counted]
    assert metrics["bits_per_character"][1] == pytest.approx(1.0 / math.log(2) * counted[1] / 38)
    assert metrics["bits_per_character"][0] == pytest.approx(2 * metrics["bits_per_character"][1])
    assert (metrics["words"], metrics["tokens"]) == (2, [len(old), len(old) + 2])


def test_unsupported_tokenizer_raises(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make_encoder("bert", "mlm"), tmp_path / "encoder"))
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "fever": 2, "[MASK]": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    with pytest.raises(UserError, match=r"^vocabulary: .*\(WordLevel"):
        extended(folder, add=NEW)


def test_tokenizer_with_gaps_in_ids_raises(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make_encoder("bert", "mlm"), tmp_path / "encoder"))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["##z"] += 1
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"^vocabulary: .*gaps: .* 100 tokens.* 100;"):
        extended(folder, add=NEW)
