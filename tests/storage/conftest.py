"""Stores for the tests of this package."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjobs.storage import LocalStorage


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")
