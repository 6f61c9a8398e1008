"""Extending an encoder's vocabulary by words of the domain: tokenizer, embeddings, output layer and its bias."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftjobs.data.examples.fertility import DomainWord, TextLengths, count_words, measure_lengths, rank_words
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Vocabulary
from ftjobs.models.tokenizer_extension.whole_words import WholeWords
from ftjobs.system.progress import LOG

#: Other words of the corpus, the commonest, that have to be tokenized as before.
_CHECKED = 20_000


@dataclass(frozen=True)
class Extension:
    """What an extension did."""

    words: list[DomainWord]
    """Those that were added, in the order of their ids."""
    tokens: tuple[int, int]
    """Size of the vocabulary before and after; with byte-level BPE a word is two tokens, behind a space and without."""
    held_out: tuple[TextLengths, TextLengths]
    """Of the held-out texts, before and after."""

    def metrics(self, before: dict[str, float], best: dict[str, float]) -> dict[str, Any]:
        """What a stage publishes of it. Perplexities of different vocabularies are not comparable, since they are per
        token; bits per character are.

        Args:
            before: masked-LM metrics on the held-out texts before training, with the new words in.
            best: those of the best epoch.
        """
        old, new = self.held_out
        return {
            "words": len(self.words),
            "tokens": list(self.tokens),
            "tokens_saved_in_corpus": sum(one.saved for one in self.words),
            "pieces_per_word": [round(old.fertility, 4), round(new.fertility, 4)],
            "held_out": {"characters": new.characters, "pieces": [old.tokens, new.tokens]},
            "bits_per_character": [new.bits_per_character(before["loss"]), new.bits_per_character(best["loss"])],
        }

    def write(self, folder: Path) -> None:
        """Write `vocabulary.json`: every new word with its occurrences and the pieces that it was."""
        words = [{"word": one.word, "count": one.count, "pieces": one.pieces} for one in self.words]
        (folder / "vocabulary.json").write_text(
            json.dumps(words, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def extend(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    held_out: Iterable[str],
    settings: Vocabulary,
    seed: int,
) -> tuple[PreTrainedTokenizerBase, Extension]:
    """Add words to a tokenizer and embeddings for them to its model, in place; a function of the arguments alone.

    Args:
        model: with a masked-LM head.
        tokenizer: of the model; not to be used again.
        texts: the corpus that words are counted in.
        held_out: texts to say of how many pieces they are before and after; gone through twice.
        settings: which words, and where their embeddings start.
        seed: of random embeddings.

    Returns:
        The tokenizer with the words in it, and what was added.

    Raises:
        UserError: there is no word to add, a word is none for this tokenizer, or it cannot take whole words.
    """
    ways = WholeWords(tokenizer)
    counts = count_words(texts, ways.normalised, only_after_space=ways.kind == "sentencepiece")
    chosen = _chosen(ways, counts, settings)
    words = [one.word for one in chosen]
    forms = [form for word in words for form in ways.forms(word)]
    others = _others(counts, words)
    pieces, others_before = ways.encoded(forms), ways.encoded(others)
    start, lengths = len(tokenizer), measure_lengths(tokenizer, held_out)

    tokenizer = ways.add(words)
    now = WholeWords(tokenizer)
    ids = _checked(now, words, others, others_before)
    _resize(model, len(tokenizer), start, dict(zip(ids, pieces, strict=True)), settings, seed)
    extension = Extension(chosen, (start, len(tokenizer)), (lengths, measure_lengths(tokenizer, held_out)))
    before, after = (one.fertility for one in extension.held_out)
    LOG.info(
        "vocabulary: %d words added, such as `%s`; held-out words are of %.3f pieces now, and were of %.3f",
        len(words), words[0], after, before,
    )  # fmt: skip
    return tokenizer, extension


def _chosen(ways: WholeWords, counts: Counter[str], settings: Vocabulary) -> list[DomainWord]:
    """The words to add: those that save most, or those that are given and not one token already."""
    if isinstance(settings.add, int):
        shattered = rank_words(counts, lambda words: _pieces(ways, words), settings.fewest)
        found = list(islice((one for one in shattered if ways.is_one_word(one.word)), settings.add))
        if not found:
            raise UserError(
                f"vocabulary: no word of the texts occurs {settings.fewest} times and is more than one token; lower "
                "min_count, or leave `vocabulary` out"
            )
        return found
    assert not isinstance(settings.add, str), "the words of a file take its place when the job file is read"
    seen = dict.fromkeys(_as_seen(ways, word) for word in settings.add)
    often = [word for word in seen if counts[word] >= settings.fewest]
    unknown = ways.tokenizer.unk_token_id
    whole = {
        word for word in often if all(len(ids) == 1 and ids != [unknown] for ids in ways.encoded(ways.forms(word)))
    }
    if whole:
        LOG.info("vocabulary: %d of the words are one token already, such as `%s`", len(whole), min(whole))
    left = [word for word in often if word not in whole]
    if not left:
        raise UserError(
            f"vocabulary: nothing to add: of {len(seen)} words {len(whole)} are one token already and "
            f"{len(seen) - len(often)} occur less than {settings.fewest} times; give others, or leave `vocabulary` out"
        )
    return [DomainWord(word, counts[word], pieces) for word, pieces in zip(left, _pieces(ways, left), strict=True)]


def _as_seen(ways: WholeWords, word: str) -> str:
    """A given word as the tokenizer's normaliser leaves it."""
    seen = ways.normalised(word).strip()
    if list(count_words([word], ways.normalised, only_after_space=False)) != [seen] or not ways.is_one_word(seen):
        raise UserError(
            f"vocabulary.add: {word!r} is not one word for this encoder's tokenizer: it has other characters than "
            "letters and digits, or is parted before it is looked up; leave it out"
        )
    return seen


def _pieces(ways: WholeWords, words: list[str]) -> list[int]:
    """The number of tokens of each word, behind a space where that is another."""
    return [len(ids) for ids in ways.encoded([ways.forms(word)[0] for word in words])]


def _others(counts: Counter[str], words: list[str]) -> list[str]:
    """What has to be tokenized as before: the commonest other words, and longer ones that hold a new one."""
    new = set(words)
    common = [word for word, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0])) if word not in new]
    longer = [longer for word in words for longer in (f"{word}x", f"x{word}") if longer not in new]
    return [*common[:_CHECKED], *longer]


def _checked(ways: WholeWords, words: list[str], others: list[str], before: list[list[int]]) -> list[int]:
    """The ids of all forms of the new words, in order.

    Raises:
        UserError: a word is not one token wherever it stands, or another word is not what it was.
    """
    found: list[int] = []
    inside = ways.encoded([f"{word} {word}. {word}" for word in words])
    for word, context in zip(words, inside, strict=True):
        forms = ways.encoded(ways.forms(word))
        ids = {one for form in forms for one in form}
        if any(len(form) != 1 for form in forms) or sum(one in ids for one in context) != 3:
            raise UserError(f"vocabulary: this encoder's tokenizer does not take {word!r} whole; leave it out of `add`")
        found += [form[0] for form in forms]
    for other, old, new in zip(others, before, ways.encoded(others), strict=True):
        if old != new:
            raise UserError(
                f"vocabulary: whole words cannot be added to this encoder's tokenizer: {other!r} would be tokenized "
                "otherwise too; leave `vocabulary` out"
            )
    return found


@torch.no_grad()
def _resize(
    model: PreTrainedModel, size: int, start: int, pieces: dict[int, list[int]], settings: Vocabulary, seed: int
) -> None:
    """Give the model `size` embeddings, of which those from `start` on are new: in the input, in the output layer,
    which may be the same, and in its bias.

    Args:
        pieces: old token ids of each new one.
    """
    old = {name: weight.clone() for name, weight in _by_token(model).items()}
    rows = len(next(iter(old.values())))
    resizing = signature(model.resize_token_embeddings).parameters  # new rows are filled here, so not by transformers
    options = {"mean_resizing": False} if "mean_resizing" in resizing else {}
    try:
        model.resize_token_embeddings(size, **options)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise _not_extended(model, str(error)) from error
    left = [name for name, weight in model.named_parameters() if rows != size and weight.shape[:1] == (rows,)]
    if left:
        raise _not_extended(model, f"{left[0]} keeps its size")
    generator = torch.Generator().manual_seed(seed)
    spread = float(getattr(model.config, "initializer_range", None) or 0.02)
    for name, weight in _by_token(model).items():
        for row in range(start, size):
            if settings.init == "mean-of-pieces":
                weight[row] = old[name][pieces[row]].mean(0)
            elif weight.ndim == 2:
                weight[row] = torch.randn(weight.shape[1], generator=generator) * spread
            else:
                weight[row] = 0


def _by_token(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Every weight with a row for each token: input embeddings, output layer where it is another, its bias."""
    embeddings, output = model.get_input_embeddings().weight, model.get_output_embeddings()
    if output is None:
        raise _not_extended(model, "it has no output layer of tokens")
    found = {"input": embeddings}
    if output.weight is not embeddings:
        found["output"] = output.weight
    if output.bias is not None:
        found["bias"] = output.bias
    return found


def _not_extended(model: PreTrainedModel, reason: str) -> UserError:
    return UserError(
        f"vocabulary: transformers does not extend the vocabulary of encoders of type `{model.config.model_type}` "
        f"({next(iter(reason.splitlines()), 'no reason given')}); leave `vocabulary` out or choose another encoder"
    )
