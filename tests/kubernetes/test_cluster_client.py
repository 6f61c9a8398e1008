"""Credentials and namespace: from kubeconfig, or in a pod from its service account."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path

import pytest
from kubernetes.config import incluster_config

from ftjobs.errors import UserError
from ftjobs.kubernetes import cluster_client
from ftjobs.kubernetes.api_objects import PipelineJobs
from ftjobs.kubernetes.cluster_client import ClusterClient
from tests.fakes.kubernetes_api import ApiServer


def test_current_context_sets_server_and_namespace(api: ApiServer) -> None:
    cluster = ClusterClient()
    assert (cluster.server, cluster.namespace) == (api.url, "team")


def test_context_and_namespace_can_be_overridden(api: ApiServer) -> None:
    cluster = ClusterClient("nowhere")
    assert (cluster.server, cluster.namespace) == ("http://127.0.0.1:9", "default")
    assert ClusterClient("here", "other").namespace == "other"


@pytest.mark.parametrize(
    ("content", "context", "problem"),
    [
        (None, None, "no kubeconfig at"),
        ("", None, "file is empty"),
        ("{", None, "expected"),
        ("[]", None, "no access"),
        ('{"contexts": [], "clusters": []}', None, "Expected key current-context"),
        (..., "other", "Expected object with name other in"),
    ],
)  # fmt: skip
def test_unusable_kubeconfig_is_one_user_error(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, context: str, problem: str
) -> None:
    if content is not ...:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        if content is not None:
            (tmp_path / "config").write_text(content)
    with pytest.raises(UserError, match=r".*set KUBECONFIG or --context") as failure:
        ClusterClient(context)
    assert problem in str(failure.value)
    assert len(failure.value.problems) == 1


def test_client_sends_no_request_until_used(api: ApiServer) -> None:
    ClusterClient()
    assert api.seen == []


class TestInAPod:
    @pytest.fixture
    def account(self, api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A service account folder, and a server with the certificate in it."""
        folder = tmp_path / "serviceaccount"
        folder.mkdir()
        names = "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", *names]
        files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(folder / "ca.crt")]
        subprocess.run(command + files, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "ca.crt", tmp_path / "key.pem")
        api.encrypt(context)
        (folder / "token").write_text("first")
        (folder / "namespace").write_text("team\n")
        api.token = "first"
        monkeypatch.delenv("KUBECONFIG")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", api.url.rpartition(":")[2])
        monkeypatch.setattr(cluster_client, "_SERVICE_ACCOUNT", folder)
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
        monkeypatch.setattr(cluster_client, "SHORTEST_WAIT", 0.01)
        return folder

    def test_service_account_sets_server_and_namespace(self, api: ApiServer, account: Path) -> None:
        cluster = ClusterClient()
        assert cluster.namespace == "team"
        assert cluster.server == api.url.replace("http:", "https:")
        assert PipelineJobs(cluster, "toy").list().jobs == {}

    def test_rotated_token_is_read_again_after_401(self, api: ApiServer, account: Path) -> None:
        jobs = PipelineJobs(ClusterClient(), "toy")
        jobs.list()
        api.token = "second"
        (account / "token").write_text("second")
        jobs.list()
        assert api.count("list") == 3

    def test_kubeconfig_variable_overrides_service_account(
        self, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        assert ClusterClient().server.startswith("http://")
        assert ClusterClient("nowhere").server == "http://127.0.0.1:9"

    def test_untrusted_certificate_is_a_user_error(
        self, api: ApiServer, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = json.loads((tmp_path / "kubeconfig").read_text())
        config["clusters"][0]["cluster"]["server"] = api.url.replace("http:", "https:")
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
            PipelineJobs(ClusterClient(), "toy").list()
        assert api.seen == []
