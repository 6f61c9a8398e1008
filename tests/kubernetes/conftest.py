"""Fixtures: a fake API server, a toy cluster with a local store, and controller waits of milliseconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjobs.kubernetes import api_objects, cluster_client, controller
from ftjobs.storage import LocalStorage
from ftjobs.system.progress import LOG
from tests.fakes.kubernetes_api import ApiServer, api_server, kubeconfig
from tests.fakes.toy_cluster import ToyCluster, toy_stages


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waits of a controller in this process."""
    monkeypatch.setattr(controller, "POLL", 0.3)
    monkeypatch.setattr(controller, "GRACE", 0.4)
    monkeypatch.setattr(api_objects, "AFTER_CHANGE", 0.01)
    monkeypatch.setattr(api_objects, "AFTER_FAILURE", 0.05)
    monkeypatch.setattr(api_objects, "TIMEOUTS", (1.0, 0.5))
    monkeypatch.setattr(cluster_client, "SHORTEST_WAIT", 0.01)
    monkeypatch.setattr(cluster_client, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(cluster_client, "PATIENCE", 2.0)
    monkeypatch.setattr(cluster_client, "FORBIDDEN_PATIENCE", 0.3)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Captured log messages at level INFO."""
    monkeypatch.setattr(LOG, "propagate", True)  # an earlier command may have disabled it
    caplog.set_level(logging.INFO, "ftjobs")
    return caplog


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """An API server, with KUBECONFIG set to reach it."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with api_server() as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(server, tmp_path / "kubeconfig")))
        yield server


@pytest.fixture
def toy(api: ApiServer, tmp_path: Path) -> ToyCluster:
    """A cluster with the applied Jobs of the toy pipeline."""
    cluster = ToyCluster(api, toy_stages(tmp_path), LocalStorage(tmp_path / "store"), tmp_path / "outputs")
    cluster.apply()
    return cluster
