"""Add words to a tokenizer as single tokens that match whole words only, without changing the tokens of other texts.

`add_tokens` alone is not sufficient: its tokens match inside longer words, and with byte-level BPE and SentencePiece,
whose tokens include the preceding space, spaces are lost or inserted. Each kind of tokenizer needs its own method:

- WordPiece: added tokens that match single words of the normalized text.
- Byte-level BPE: vocabulary entries for the word with and without a preceding space, which apply to complete
  pre-tokens (`ignore_merges`).
- SentencePiece: the normalizer instead of the pre-tokenizer inserts the marks of word beginnings. The tokens of texts
  stay the same, and added tokens can include the mark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ftjobs.errors import UserError

MARK = "▁"
"""SentencePiece's replacement of the space before a word."""


class WholeWords:
    """Whole words of one tokenizer.

    Raises:
        UserError: tokenizers of this kind do not support added whole words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        highest = max(tokenizer.get_vocab().values())
        if highest + 1 != len(tokenizer):  # new tokens would get ids of existing ones
            raise UserError(
                f"vocabulary: token ids of this encoder's tokenizer have gaps: it has {len(tokenizer):,} tokens, and "
                f"the highest id is {highest:,}; remove `vocabulary` or choose another encoder"
            )
        self._spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        model, splits = self._spec["model"]["type"], set(_types(self._spec["pre_tokenizer"]))
        if model == "BPE" and "ByteLevel" in splits:
            self.kind = "byte-level"
        elif splits <= {"Metaspace", "WhitespaceSplit"} and (splits == {"WhitespaceSplit"}) == self._is_extended:
            self.kind = "sentencepiece"
        elif model == "WordPiece" and "BertPreTokenizer" in splits:
            self.kind = "wordpiece"
        else:
            raise UserError(
                f"vocabulary: this encoder's tokenizer does not support whole words ({model}, pre-tokenizer "
                f"{', '.join(sorted(splits)) or 'none'}); remove `vocabulary` or choose another encoder"
            )

    @property
    def _is_extended(self) -> bool:
        """True for SentencePiece tokenizers that have been extended before."""
        return {"type": "Prepend", "prepend": MARK} in list(_parts(self._spec["normalizer"], "normalizers"))

    def normalize(self, text: str) -> str:
        """Return a text as the tokenizer normalizes it, without marks."""
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        return normalizer.normalize_str(text).replace(MARK, " ") if normalizer else text

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return token ids of texts, without special tokens."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()  # which some checkpoints enable
        encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def forms(self, word: str) -> list[str]:
        """Return the texts of the tokens of a word: the word, and with a preceding space if that is another token."""
        return [f" {word}", word] if self.kind == "byte-level" else [word]

    def is_single_word(self, word: str) -> bool:
        """Return whether the pre-tokenizer keeps a word whole."""
        pre_tokenizer = self.tokenizer.backend_tokenizer.pre_tokenizer
        return len(pre_tokenizer.pre_tokenize_str(word)) == 1

    def add(self, words: list[str]) -> PreTrainedTokenizerBase:
        """Return the tokenizer with added words. Forms get new ids in order; do not use the old tokenizer afterwards.

        Args:
            words: normalized words that are not single tokens yet.
        """
        if self.kind == "wordpiece":
            self.tokenizer.add_tokens([_single(word) for word in words])
            return self.tokenizer
        backend = self._with_vocabulary_entries(words) if self.kind == "byte-level" else self._with_marked_tokens(words)
        return _wrap(backend, self.tokenizer)

    def _with_vocabulary_entries(self, words: list[str]) -> Tokenizer:
        spec, as_bytes = self._spec, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        vocabulary: dict[str, int] = spec["model"]["vocab"]
        for token in spec["added_tokens"]:  # entries follow these, and ids of entries must have no gaps
            vocabulary.setdefault(token["content"], token["id"])
        start = len(vocabulary)
        entries = dict.fromkeys(as_bytes.pre_tokenize_str(form)[0][0] for word in words for form in self.forms(word))
        new_entries = [entry for entry in entries if entry not in vocabulary]
        vocabulary |= {entry: start + index for index, entry in enumerate(new_entries)}
        spec["model"]["ignore_merges"] = True
        return Tokenizer.from_str(json.dumps(spec))

    def _with_marked_tokens(self, words: list[str]) -> Tokenizer:
        backend: Tokenizer = self.tokenizer.backend_tokenizer
        if not self._is_extended:
            existing = [backend.normalizer] if backend.normalizer else []
            marking = [
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(),
                normalizers.Replace(" ", f" {MARK}"),
                normalizers.Prepend(MARK),
                normalizers.Replace(MARK * 2, MARK),  # added tokens are normalized too and contain a mark
            ]
            backend.normalizer = normalizers.Sequence([*existing, *marking])
            backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        backend.add_tokens([_single(f"{MARK}{word}", lstrip=True) for word in words])
        return backend


def _single(content: str, lstrip: bool = False) -> AddedToken:
    return AddedToken(content, single_word=True, lstrip=lstrip, normalized=True, special=False)


def _wrap(backend: Tokenizer, old: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a tokenizer that uses `tokenizer.json` as it is. Family classes rebuild their backend and lose changes."""
    tokens = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    specials = {name: tokens.get(str(token), token) for name, token in old.special_tokens_map.items()}
    options = {
        name: getattr(old, name)
        for name in ("model_max_length", "padding_side", "truncation_side", "model_input_names")
        if hasattr(old, name)
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **options, **specials)


def _parts(spec: dict[str, Any] | None, key: str) -> Iterator[dict[str, Any]]:
    for part in [] if spec is None else spec.get(key, [spec]):
        yield from _parts(part, key) if key in part else [part]


def _types(spec: dict[str, Any] | None) -> Iterator[str]:
    return (part["type"] for part in _parts(spec, "pretokenizers"))
