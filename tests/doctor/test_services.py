import huggingface_hub.constants
import pytest

from ftjobs.doctor import services
from tests.fakes.hub import Hub
from tests.fakes.wandb_server import WandbServer


def test_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert services._hub().found == f"{hub.url}: answers; no token, so public models and data only"
    hub.failing = True
    assert services._hub().state == "warning"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert services._hub().state == "ok"


def test_tracking_with_a_key_without_one_and_with_a_wrong_one(
    wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert services._wandb().found == "Weights & Biases: offline, by WANDB_MODE"
    monkeypatch.delenv("WANDB_MODE")
    for name, value in wandb_server.environment().items():
        monkeypatch.setenv(name, value)
    assert services._wandb().found == "Weights & Biases: logged in"
    monkeypatch.setenv("WANDB_API_KEY", "short")
    wrong = services._wandb()
    assert wrong.state == "warning"
    assert "short" not in wrong.found
    monkeypatch.delenv("WANDB_API_KEY")
    assert "no key" in services._wandb().found
