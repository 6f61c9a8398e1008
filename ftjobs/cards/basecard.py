"""The card that a base model came with: what its licence is."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import metadata_load

from ftjobs.models.checkpoints import CARD

_LONGEST = 200


def license_of(model: Path) -> dict[str, str]:
    """`license`, `license_name` and `license_link` of the card in a model folder, as far as it says.

    A card is written by people for people. One whose metadata is broken says nothing about the licence, and is no
    reason to refuse a model.
    """
    try:
        data = metadata_load(model / CARD) or {}
        found = {name: data.get(name) for name in ("license", "license_name", "license_link")}
    except Exception:  # any that a YAML reader has for what is no YAML, and those of metadata that is none
        return {}
    said = {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()
    }
    return said if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", said.get("license", "")) else {}
