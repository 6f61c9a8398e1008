"""A fake API server, a store in a folder, and a cluster that runs toys; time in hundredths of seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjobs.kubernetes import cluster, connection, controller
from ftjobs.storage import LocalStorage
from ftjobs.system.progress import LOG
from tests.fakes.kubernetes_api import ApiServer, api_server, kubeconfig
from tests.fakes.toy_cluster import ToyCluster, toy_stages


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a conductor in this process, so that nobody has to wait for them."""
    monkeypatch.setattr(controller, "POLL", 0.3)
    monkeypatch.setattr(controller, "GRACE", 0.4)
    monkeypatch.setattr(cluster, "AFTER_CHANGE", 0.01)
    monkeypatch.setattr(cluster, "AFTER_FAILURE", 0.05)
    monkeypatch.setattr(cluster, "TIMEOUTS", (1.0, 0.5))
    monkeypatch.setattr(connection, "SHORTEST_WAIT", 0.01)
    monkeypatch.setattr(connection, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(connection, "PATIENCE", 2.0)
    monkeypatch.setattr(connection, "REFUSED_PATIENCE", 0.3)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is logged, one message a line."""
    monkeypatch.setattr(LOG, "propagate", True)  # a command that ran before may have switched it off
    caplog.set_level(logging.INFO, "ftjobs")
    return caplog


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """An API server, and a kubeconfig that leads to it."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with api_server() as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(server, tmp_path / "kubeconfig")))
        yield server


@pytest.fixture
def toy(api: ApiServer, tmp_path: Path) -> ToyCluster:
    """A cluster to which the toy pipeline has been applied."""
    cluster = ToyCluster(api, toy_stages(tmp_path), LocalStorage(tmp_path / "store"), tmp_path / "outputs")
    cluster.apply()
    return cluster
