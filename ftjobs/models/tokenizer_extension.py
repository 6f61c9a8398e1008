"""Add words of the domain to an encoder: tokenizer, embeddings, output layer and its bias."""

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
from ftjobs.models.whole_words import WholeWords
from ftjobs.system.progress import LOG

#: Number of other words, the most frequent, whose tokenization is checked to be unchanged.
_CHECKED_WORDS = 20_000


@dataclass(frozen=True)
class Extension:
    """Result of an extension."""

    words: list[DomainWord]
    """Added words, in the order of their ids."""
    tokens: tuple[int, int]
    """Vocabulary size before and after. With byte-level BPE, a word has two tokens, with and without a space."""
    held_out: tuple[TextLengths, TextLengths]
    """Lengths of the held-out texts, before and after."""

    def metrics(self, before: dict[str, float], best: dict[str, float]) -> dict[str, Any]:
        """Return the metrics of the extension. Perplexity is per token and not comparable between vocabularies; bits
        per character are.

        Args:
            before: masked-LM metrics on the held-out texts before training, with the new words.
            best: masked-LM metrics of the best epoch.
        """
        old, new = self.held_out
        return {
            "words": len(self.words),
            "tokens": list(self.tokens),
            "tokens_saved_in_corpus": sum(word.saved for word in self.words),
            "pieces_per_word": [round(old.fertility, 4), round(new.fertility, 4)],
            "held_out": {"characters": new.characters, "pieces": [old.tokens, new.tokens]},
            "bits_per_character": [new.bits_per_character(before["loss"]), new.bits_per_character(best["loss"])],
        }

    def write(self, folder: Path) -> None:
        """Write `vocabulary.json`: every new word with its occurrences and its number of old tokens."""
        words = [{"word": word.word, "count": word.count, "pieces": word.pieces} for word in self.words]
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
    """Add words to a tokenizer, and embeddings for them to its model in place. Deterministic.

    Args:
        model: a model with a masked-LM head.
        tokenizer: of the model; do not use it afterwards.
        texts: the corpus in which words are counted.
        held_out: texts whose lengths are measured before and after; iterated twice.
        settings: selection of words, and initialization of their embeddings.
        seed: of random embeddings.

    Returns:
        The tokenizer with the words, and the result.

    Raises:
        UserError: there is no word to add, a word is not a single word for this tokenizer, or the tokenizer does not
            support whole words.
    """
    whole_words = WholeWords(tokenizer)
    counts = count_words(texts, whole_words.normalize, only_after_space=whole_words.kind == "sentencepiece")
    selected = _select_words(whole_words, counts, settings)
    words = [word.word for word in selected]
    forms = [form for word in words for form in whole_words.forms(word)]
    others = _unchanged_words(counts, words)
    pieces, others_before = whole_words.encode(forms), whole_words.encode(others)
    start, lengths = len(tokenizer), measure_lengths(tokenizer, held_out)

    tokenizer = whole_words.add(words)
    extended = WholeWords(tokenizer)
    ids = _check_tokens(extended, words, others, others_before)
    _resize(model, len(tokenizer), start, dict(zip(ids, pieces, strict=True)), settings, seed)
    extension = Extension(selected, (start, len(tokenizer)), (lengths, measure_lengths(tokenizer, held_out)))
    before, after = (measured.fertility for measured in extension.held_out)
    LOG.info(
        "vocabulary: added %d words, such as `%s`; tokens per held-out word: %.3f -> %.3f",
        len(words), words[0], before, after,
    )  # fmt: skip
    return tokenizer, extension


def _select_words(whole_words: WholeWords, counts: Counter[str], settings: Vocabulary) -> list[DomainWord]:
    """Return the words to add: those that save most tokens, or those of the settings that are not single tokens yet."""
    if isinstance(settings.add, int):
        shattered = rank_words(counts, lambda words: _pieces(whole_words, words), settings.required_count)
        candidates = (word for word in shattered if whole_words.is_single_word(word.word))
        if not (selected := list(islice(candidates, settings.add))):
            raise UserError(
                f"vocabulary: no word of the texts occurs {settings.required_count} times and has more than one token; "
                "lower min_count, or remove `vocabulary`"
            )
        return selected
    assert not isinstance(settings.add, str), "reading a job file replaces a word list by its words"
    words = dict.fromkeys(_normalize_word(whole_words, word) for word in settings.add)
    frequent = [word for word in words if counts[word] >= settings.required_count]
    unknown = whole_words.tokenizer.unk_token_id
    known = {
        word
        for word in frequent
        if all(len(ids) == 1 and ids != [unknown] for ids in whole_words.encode(whole_words.forms(word)))
    }
    if known:
        LOG.info("vocabulary: %d words are single tokens already, such as `%s`", len(known), min(known))
    remaining = [word for word in frequent if word not in known]
    if not remaining:
        raise UserError(
            f"vocabulary: nothing to add: of {len(words)} words, {len(known)} are single tokens already and "
            f"{len(words) - len(frequent)} occur less than {settings.required_count} times; list others, or "
            "remove `vocabulary`"
        )
    return [
        DomainWord(word, counts[word], pieces)
        for word, pieces in zip(remaining, _pieces(whole_words, remaining), strict=True)
    ]


def _normalize_word(whole_words: WholeWords, word: str) -> str:
    """Return a word of the settings as the tokenizer normalizes it."""
    normalized = whole_words.normalize(word).strip()
    counted = list(count_words([word], whole_words.normalize, only_after_space=False))
    if counted != [normalized] or not whole_words.is_single_word(normalized):
        raise UserError(
            f"vocabulary.add: {word!r} is not a single word for this encoder's tokenizer, which splits it or requires "
            "letters and digits; remove it"
        )
    return normalized


def _pieces(whole_words: WholeWords, words: list[str]) -> list[int]:
    """Return the number of tokens of each word, with a preceding space if that makes a difference."""
    return [len(ids) for ids in whole_words.encode([whole_words.forms(word)[0] for word in words])]


def _unchanged_words(counts: Counter[str], words: list[str]) -> list[str]:
    """Return words whose tokens must not change: the most frequent others, and longer ones that contain a new word."""
    new = set(words)
    common = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if word not in new]
    longer = [longer for word in words for longer in (f"{word}x", f"x{word}") if longer not in new]
    return [*common[:_CHECKED_WORDS], *longer]


def _check_tokens(whole_words: WholeWords, words: list[str], others: list[str], before: list[list[int]]) -> list[int]:
    """Return the ids of all forms of the new words, in order.

    Raises:
        UserError: a new word is not a single token in some context, or the tokenization of another word changed.
    """
    all_ids: list[int] = []
    inside = whole_words.encode([f"{word} {word}. {word}" for word in words])
    for word, context in zip(words, inside, strict=True):
        forms = whole_words.encode(whole_words.forms(word))
        ids = {token for form in forms for token in form}
        if any(len(form) != 1 for form in forms) or sum(token in ids for token in context) != 3:
            raise UserError(
                f"vocabulary: this encoder's tokenizer does not support {word!r} as a whole word; remove it from `add`"
            )
        all_ids += [form[0] for form in forms]
    for other, old, new in zip(others, before, whole_words.encode(others), strict=True):
        if old != new:
            raise UserError(
                f"vocabulary: this encoder's tokenizer does not support whole words: the tokens of {other!r} would "
                "change; remove `vocabulary`"
            )
    return all_ids


@torch.no_grad()
def _resize(
    model: PreTrainedModel, size: int, start: int, pieces: dict[int, list[int]], settings: Vocabulary, seed: int
) -> None:
    """Resize the model's input embeddings, output layer (possibly tied) and its bias, and initialize the new rows.

    Args:
        model: a model with a masked-LM head.
        size: new size of the vocabulary.
        start: first new token id.
        pieces: old token ids of each new token.
        settings: initialization of new rows.
        seed: of random rows.
    """
    old = {name: weight.clone() for name, weight in _by_token(model).items()}
    rows = len(next(iter(old.values())))
    resizing = signature(model.resize_token_embeddings).parameters  # new rows are initialized below
    options = {"mean_resizing": False} if "mean_resizing" in resizing else {}
    try:
        model.resize_token_embeddings(size, **options)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise _not_extended(model, str(error)) from error
    unchanged = [name for name, weight in model.named_parameters() if rows != size and weight.shape[:1] == (rows,)]
    if unchanged:
        raise _not_extended(model, f"{unchanged[0]} keeps its size")
    generator = torch.Generator().manual_seed(seed)
    deviation = float(getattr(model.config, "initializer_range", None) or 0.02)
    for name, weight in _by_token(model).items():
        for row in range(start, size):
            if settings.init == "mean-of-pieces":
                weight[row] = old[name][pieces[row]].mean(0)
            elif weight.ndim == 2:
                weight[row] = torch.randn(weight.shape[1], generator=generator) * deviation
            else:
                weight[row] = 0


def _by_token(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return every weight with a row per token: input embeddings, output layer if not tied, and its bias."""
    embeddings, output = model.get_input_embeddings().weight, model.get_output_embeddings()
    if output is None:
        raise _not_extended(model, "it has no output layer")
    weights = {"input": embeddings}
    if output.weight is not embeddings:
        weights["output"] = output.weight
    if output.bias is not None:
        weights["bias"] = output.bias
    return weights


def _not_extended(model: PreTrainedModel, reason: str) -> UserError:
    return UserError(
        f"vocabulary: transformers does not extend the vocabulary of encoders of type `{model.config.model_type}` "
        f"({next(iter(reason.splitlines()), 'no reason given')}); remove `vocabulary` or choose another encoder"
    )
