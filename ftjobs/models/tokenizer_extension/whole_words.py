"""Adding words to a tokenizer so that each is one token as a whole word, and no other text changes.

Plain `add_tokens` does not do that: its tokens match inside longer words, and with byte-level BPE and SentencePiece,
whose tokens hold the space before a word, the space is left over or invented. So each kind of tokenizer has its way:

- WordPiece gets added tokens that match single words of the normalised text.
- Byte-level BPE gets entries of its vocabulary, one for the word behind a space and one for the word without, which it
  takes where they are the whole of what its pre-tokenizer hands to it (`ignore_merges`).
- SentencePiece has its marks of word beginnings written by the normaliser and not by the pre-tokenizer. A text becomes
  the same pieces, and added tokens can hold the mark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ftjobs.errors import UserError

MARK = "▁"
"""What SentencePiece puts in the place of the space before a word."""


class WholeWords:
    """How whole words are added to one tokenizer.

    Raises:
        UserError: whole words cannot be added to a tokenizer of this kind.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        highest = max(tokenizer.get_vocab().values())
        if highest + 1 != len(tokenizer):  # new tokens would get ids of old ones
            raise UserError(
                f"vocabulary: the ids of this encoder's tokenizer have gaps: it has {len(tokenizer):,} tokens, and "
                f"{highest:,} is the highest; leave `vocabulary` out or choose another encoder"
            )
        self._spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        model, splits = self._spec["model"]["type"], set(_types(self._spec["pre_tokenizer"]))
        if model == "BPE" and "ByteLevel" in splits:
            self.kind = "byte-level"
        elif splits <= {"Metaspace", "WhitespaceSplit"} and (splits == {"WhitespaceSplit"}) == self._is_marked:
            self.kind = "sentencepiece"
        elif model == "WordPiece" and "BertPreTokenizer" in splits:
            self.kind = "wordpiece"
        else:
            raise UserError(
                f"vocabulary: whole words cannot be added to this encoder's tokenizer ({model}, split by "
                f"{', '.join(sorted(splits)) or 'nothing'}); leave `vocabulary` out or choose another encoder"
            )

    @property
    def _is_marked(self) -> bool:
        """Whether words were added to this SentencePiece tokenizer before."""
        return {"type": "Prepend", "prepend": MARK} in list(_parts(self._spec["normalizer"], "normalizers"))

    def normalised(self, text: str) -> str:
        """A text as the tokenizer's vocabulary is looked up in it, without marks."""
        normaliser = self.tokenizer.backend_tokenizer.normalizer
        return normaliser.normalize_str(text).replace(MARK, " ") if normaliser else text

    def encoded(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        rust = self.tokenizer.backend_tokenizer
        rust.no_truncation()
        rust.no_padding()  # that some checkpoints bring
        found = rust.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def forms(self, word: str) -> list[str]:
        """The texts whose tokens the word becomes one of: itself, and behind a space where that is another token."""
        return [f" {word}", word] if self.kind == "byte-level" else [word]

    def is_one_word(self, word: str) -> bool:
        """Whether the tokenizer takes the word whole before it looks it up: no part of it is split off."""
        splitter = self.tokenizer.backend_tokenizer.pre_tokenizer
        return len(splitter.pre_tokenize_str(word)) == 1

    def add(self, words: list[str]) -> PreTrainedTokenizerBase:
        """The tokenizer with the words in it, each form a new id, in this order. The old one is not to be used again.

        Args:
            words: normalised, and not in it yet.
        """
        if self.kind == "wordpiece":
            self.tokenizer.add_tokens([_single(word) for word in words])
            return self.tokenizer
        backend = self._with_entries(words) if self.kind == "byte-level" else self._with_marks(words)
        return _around(backend, self.tokenizer)

    def _with_entries(self, words: list[str]) -> Tokenizer:
        spec, as_bytes = self._spec, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        vocabulary: dict[str, int] = spec["model"]["vocab"]
        for token in spec["added_tokens"]:  # entries go behind these, and ids of entries are without gaps
            vocabulary.setdefault(token["content"], token["id"])
        start = len(vocabulary)
        entries = dict.fromkeys(as_bytes.pre_tokenize_str(form)[0][0] for word in words for form in self.forms(word))
        fresh = [entry for entry in entries if entry not in vocabulary]
        vocabulary |= {entry: start + index for index, entry in enumerate(fresh)}
        spec["model"]["ignore_merges"] = True
        return Tokenizer.from_str(json.dumps(spec))

    def _with_marks(self, words: list[str]) -> Tokenizer:
        backend: Tokenizer = self.tokenizer.backend_tokenizer
        if not self._is_marked:
            before = [backend.normalizer] if backend.normalizer else []
            marked = [
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(),
                normalizers.Replace(" ", f" {MARK}"),
                normalizers.Prepend(MARK),
                normalizers.Replace(MARK * 2, MARK),  # added tokens are normalised too, and bring theirs
            ]
            backend.normalizer = normalizers.Sequence([*before, *marked])
            backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        backend.add_tokens([_single(f"{MARK}{word}", lstrip=True) for word in words])
        return backend


def _single(content: str, lstrip: bool = False) -> AddedToken:
    return AddedToken(content, single_word=True, lstrip=lstrip, normalized=True, special=False)


def _around(backend: Tokenizer, old: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer that is what its `tokenizer.json` says: classes of families build theirs anew and lose changes."""
    tokens = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    specials = {name: tokens.get(str(token), token) for name, token in old.special_tokens_map.items()}
    kept = {
        name: getattr(old, name)
        for name in ("model_max_length", "padding_side", "truncation_side", "model_input_names")
        if hasattr(old, name)
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **kept, **specials)


def _parts(spec: dict[str, Any] | None, inside: str) -> Iterator[dict[str, Any]]:
    for part in [] if spec is None else spec.get(inside, [spec]):
        yield from _parts(part, inside) if inside in part else [part]


def _types(spec: dict[str, Any] | None) -> Iterator[str]:
    return (part["type"] for part in _parts(spec, "pretokenizers"))
