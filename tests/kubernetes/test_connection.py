"""How the API server is found: from a desk by kubeconfig, from a pod by its service account."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path

import pytest
from kubernetes.config import incluster_config

from ftjobs.errors import UserError
from ftjobs.kubernetes import connection
from ftjobs.kubernetes.cluster import Cluster
from ftjobs.kubernetes.connection import Connection
from tests.fakes.kubernetes_api import ApiServer


def test_the_current_context_and_its_namespace(api: ApiServer) -> None:
    found = Connection()
    assert (found.server, found.namespace) == (api.url, "team")


def test_another_context_and_namespace(api: ApiServer) -> None:
    found = Connection("nowhere")
    assert (found.server, found.namespace) == ("http://127.0.0.1:9", "default")
    assert Connection("here", "other").namespace == "other"


@pytest.mark.parametrize(
    ("content", "context", "problem"),
    [
        (None, None, "no kubeconfig at"),
        ("", None, "file is empty"),
        ("{", None, "expected"),
        ("[]", None, "no way"),
        ('{"contexts": [], "clusters": []}', None, "Expected key current-context"),
        (..., "other", "Expected object with name other in"),
    ],
)  # fmt: skip
def test_no_usable_kubeconfig(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, context: str, problem: str
) -> None:
    if content is not ...:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        if content is not None:
            (tmp_path / "config").write_text(content)
    with pytest.raises(UserError, match=r"no way to a Kubernetes cluster: .*set KUBECONFIG or --context") as failure:
        Connection(context)
    assert problem in str(failure.value)
    assert len(failure.value.problems) == 1


def test_a_connection_asks_for_nothing_until_it_is_used(api: ApiServer) -> None:
    Connection()
    assert api.seen == []


class TestInAPod:
    @pytest.fixture
    def account(self, api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A service account's folder, and a server with the certificate that it trusts."""
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
        monkeypatch.setattr(connection, "_SERVICE_ACCOUNT", folder)
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
        monkeypatch.setattr(connection, "SHORTEST_WAIT", 0.01)
        return folder

    def test_its_service_account_and_namespace(self, api: ApiServer, account: Path) -> None:
        found = Connection()
        assert found.namespace == "team"
        assert found.server == api.url.replace("http:", "https:")
        assert Cluster(found, "toy").jobs().jobs == {}

    def test_the_token_is_read_again_when_it_is_refused(self, api: ApiServer, account: Path) -> None:
        cluster = Cluster(Connection(), "toy")
        cluster.jobs()
        api.token = "second"
        (account / "token").write_text("second")
        cluster.jobs()
        assert api.count("list") == 3

    def test_a_kubeconfig_that_is_named_comes_first(
        self, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        assert Connection().server.startswith("http://")
        assert Connection("nowhere").server == "http://127.0.0.1:9"

    def test_a_certificate_that_is_not_trusted(
        self, api: ApiServer, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = json.loads((tmp_path / "kubeconfig").read_text())
        config["clusters"][0]["cluster"]["server"] = api.url.replace("http:", "https:")
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
            Cluster(Connection(), "toy").jobs()
        assert api.seen == []
