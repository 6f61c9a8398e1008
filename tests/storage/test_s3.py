"""S3 under faults: servers that are down, overloaded or outdated; responses that are cut, corrupt or forbidden."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftjobs.errors import FtjobsError, UserError
from ftjobs.storage import Storage, multipart, open_storage, parallel_map, s3_client
from tests.fakes.fault_proxy import Request, Response, error_response, times
from tests.fakes.s3_faults import (
    Forward,
    corrupt_request,
    cut_response,
    flip_bit,
    hang_up,
    has_method,
    ignore_conditions,
    lose_response,
    respond,
    truncate_response,
)
from tests.fakes.s3_server import ACCESS_KEY, BUCKET, READER_ACCESS_KEY, READER_SECRET_KEY, SECRET_KEY
from tests.helpers.messages import mentions

MB = 1 << 20
LARGE = bytes(range(256)) * 4096 * 20  # 20 MB: three parts


@pytest.fixture
def storage(proxy, tmp_path) -> Storage:
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}")


def write(folder: Path, content: bytes, name: str = "to-put") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


HTML = {"Content-Type": "text/html"}
FAULTS = {
    "500": respond(500, "InternalError"),
    "503": respond(503, "SlowDown", {"Retry-After": "1"}),
    "502 from a proxy": lambda request, forward: Response(502, HTML, b"<html>Bad Gateway</html>"),
    "429": respond(429, "TooManyRequests"),
    "409": respond(409, "OperationAborted"),
    "hung up": hang_up,
    "lost response": lose_response,
}


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
class TestTransientFailures:
    def test_put_is_retried(self, storage, proxy, tmp_path, fault, content):
        proxy.fault = times(3, fault)
        assert storage.put(write(tmp_path, content), "a") == hashlib.sha256(content).hexdigest()
        assert storage.read("a") == content

    def test_get_is_retried(self, storage, proxy, tmp_path, fault, content):
        storage.put(write(tmp_path, content), "a")
        proxy.fault = times(3, fault)
        assert storage.get("a", tmp_path / "got") == hashlib.sha256(content).hexdigest()
        assert (tmp_path / "got").read_bytes() == content


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_small_requests_are_retried(storage, proxy, tmp_path, fault):
    for request in (storage.check_writable, lambda: storage.delete("b"), lambda: list(storage.list(""))):
        proxy.fault = times(2, fault)
        request()
    proxy.fault = times(2, fault)
    assert storage.put_if_absent(b"1", "m") is True
    proxy.fault = times(2, fault)
    assert storage.put_if_absent(b"2", "m") is False
    assert storage.read("m") == b"1"


class TestBodies:
    @pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("fault", [cut_response, truncate_response])
    def test_short_response_is_downloaded_again(self, storage, proxy, tmp_path, fault, content):
        storage.put(write(tmp_path, content), "a")
        proxy.fault = times(2, fault, has_method("GET"))
        assert storage.get("a", tmp_path / "got") == hashlib.sha256(content).hexdigest()
        proxy.fault = times(1, cut_response, has_method("GET"))
        assert storage.read("a") == content
        assert sorted(path.name for path in tmp_path.iterdir()) == ["got", "to-put"]

    @pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
    def test_request_damaged_in_transit_is_sent_again(self, storage, proxy, tmp_path, content):
        proxy.fault = times(2, corrupt_request, has_method("PUT"))
        assert storage.put(write(tmp_path, content), "a") == hashlib.sha256(content).hexdigest()
        assert storage.read("a") == content

    def test_short_listing_is_requested_again(self, storage, proxy, tmp_path):
        storage.put(write(tmp_path, b"1"), "a")
        for fault in (cut_response, truncate_response):
            proxy.fault = times(2, fault)
            assert [entry.key for entry in storage.list("")] == ["a"]


class TestLargeFiles:
    def test_failed_upload_is_aborted(self, storage, proxy, s3, tmp_path):
        proxy.fault = lambda request, forward: (
            error_response(403, "AccessDenied") if "partNumber=2" in request.path else forward(request)
        )
        with pytest.raises(UserError, match="not allowed"):
            storage.put(write(tmp_path, LARGE), "a")
        assert "Uploads" not in s3.client().list_multipart_uploads(Bucket=BUCKET, Prefix=f"{tmp_path.name}/")

    def test_object_replaced_during_a_download_is_not_mixed(self, storage, proxy, tmp_path):
        storage.put(write(tmp_path, LARGE), "a")
        other = write(tmp_path, flip_bit(LARGE), "other")

        def replace(request: Request, forward: Forward) -> Response:
            storage.put(other, "a")
            return forward(request)

        proxy.fault = times(1, replace, lambda request: "If-Match" in request.headers)
        try:  # the version depends on the server and the order of the parts
            storage.get("a", tmp_path / "got")
        except FtjobsError as caught:
            assert "412 PreconditionFailed" in str(caught)
            assert not (tmp_path / "got").exists()
        else:
            assert (tmp_path / "got").read_bytes() in (LARGE, flip_bit(LARGE))

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
    def test_transfers_need_little_memory(self, s3, tmp_path):
        with (tmp_path / "large").open("wb") as large:
            large.truncate(300 * MB)
        script = (
            "import re, sys; from pathlib import Path; from ftjobs.storage import open_storage\n"
            "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024\n"
            "storage = open_storage(sys.argv[1]); storage.check_writable()\n"
            "before = peak()\n"
            "storage.put(Path(sys.argv[2]), 'large'); storage.get('large', Path(sys.argv[2] + '-2'))\n"
            "print(peak() - before)"
        )
        command = [sys.executable, "-c", script, f"s3://{BUCKET}/{tmp_path.name}", str(tmp_path / "large")]
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        assert 0 < int(process.stdout) < 250


class TestPutIfAbsent:
    """Conditional puts."""

    def test_lost_response_may_be_a_success(self, storage, proxy):
        proxy.fault = times(1, lose_response, has_method("PUT"))
        assert storage.put_if_absent(b"1", "m") is True
        assert storage.read("m") == b"1"

    def test_store_that_rejects_the_header_gets_it_once(self, storage, proxy):
        def refuse(request: Request, forward: Forward) -> Response:
            return error_response(501, "NotImplemented") if "If-None-Match" in request.headers else forward(request)

        proxy.fault = refuse
        assert storage.put_if_absent(b"1", "m") is True
        assert storage.put_if_absent(b"2", "m") is False
        assert storage.put_if_absent(b"3", "n") is True
        assert storage.read("m") == b"1"
        assert sum("If-None-Match" in request.headers for request in proxy.requests) == 1

    def test_existing_object_is_kept_by_a_store_that_ignores_the_header(self, storage, proxy):
        proxy.fault = ignore_conditions
        assert storage.put_if_absent(b"1", "m") is True
        assert storage.put_if_absent(b"2", "m") is False
        assert storage.read("m") == b"1"

    def test_conflict_is_retried(self, storage, proxy):
        proxy.fault = times(2, respond(409, "ConditionalRequestConflict"), has_method("PUT"))
        assert storage.put_if_absent(b"1", "m") is True
        assert storage.read("m") == b"1"


class TestOutages:
    def test_requests_wait_for_a_server_that_is_down_and_log_it(self, storage, proxy, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr(s3_client, "MAX_BACKOFF", 0.2)
        content = write(tmp_path, LARGE)
        for request in (
            lambda: storage.put(content, "a"),
            lambda: storage.get("a", tmp_path / "got"),
            lambda: storage.put_if_absent(b"1", "m"),
        ):
            proxy.down()
            with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING):
                waiting = pool.submit(request)
                time.sleep(0.7)
                assert not waiting.done()
                proxy.up()
                waiting.result()
        assert (tmp_path / "got").read_bytes() == LARGE
        assert storage.read("m") == b"1"
        assert f"failed at {proxy.url} (EndpointConnectionError); retrying" in caplog.text

    def test_transfers_survive_an_outage_between_parts(self, storage, proxy, tmp_path, monkeypatch):
        monkeypatch.setattr(s3_client, "MAX_BACKOFF", 0.2)
        content = write(tmp_path, LARGE)
        for transfer in (lambda: storage.put(content, "a"), lambda: storage.get("a", tmp_path / "got")):

            def go_down(request: Request, forward: Forward) -> None:
                proxy.down()
                threading.Timer(0.5, proxy.up).start()

            between_parts = lambda request: "partNumber=2" in request.path or "Range" in request.headers  # noqa: E731
            proxy.fault = times(1, go_down, between_parts)
            transfer()
        assert (tmp_path / "got").read_bytes() == LARGE

    def test_retries_end_after_the_deadline(self, proxy, tmp_path, monkeypatch):
        monkeypatch.setattr(s3_client, "RETRY_SECONDS", 0.3)
        storage = open_storage(f"s3://{BUCKET}/x")
        proxy.fault = FAULTS["503"]
        with pytest.raises(
            FtjobsError, match=r"a: get_object returned 503 SlowDown; gave up after \d+ tries"
        ) as caught:
            storage.read("a")
        assert caught.value.exit_code == 1

    def test_stop_retrying_ends_all_delays(self, proxy, tmp_path):
        storage = open_storage(f"s3://{BUCKET}/x")
        proxy.fault = FAULTS["503"]
        threading.Timer(0.3, storage.stop_retrying).start()
        started = time.monotonic()
        with pytest.raises(FtjobsError, match="gave up"):
            parallel_map(storage, storage.read, "abcdefghij")
        assert time.monotonic() - started < 3


class TestUserErrors:
    """Wrong settings: exit code 2 and one line that names the setting."""

    def refused(self, store: str = f"s3://{BUCKET}/p") -> str:
        with pytest.raises(UserError) as caught:
            open_storage(store).check_writable()
        assert caught.value.exit_code == 2
        assert len(caught.value.problems) == 1
        assert SECRET_KEY not in str(caught.value)
        assert ACCESS_KEY not in str(caught.value)
        return str(caught.value)

    def test_missing_credentials_are_a_user_error(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert mentions(self.refused(), f"s3://{BUCKET} at {s3.url}: ", "no credentials", "set AWS_ACCESS_KEY_ID")

    def test_incomplete_credentials_are_a_user_error(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "missing: AWS_SECRET_ACCESS_KEY" in self.refused()

    def test_unknown_access_key(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
        assert "; set AWS_ACCESS_KEY_ID" in self.refused()

    def test_wrong_secret_key(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        assert "check AWS_SECRET_ACCESS_KEY" in self.refused()

    def test_no_such_bucket(self, s3):
        assert self.refused("s3://no-such-bucket/p").startswith(f"s3://no-such-bucket at {s3.url}: no such bucket")

    def test_missing_write_permission(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET_KEY)
        assert "need s3:PutObject" in self.refused()

    def test_missing_delete_permission(self, s3, proxy):
        proxy.fault = lambda request, forward: (
            error_response(403, "AccessDenied") if request.method == "DELETE" else forward(request)
        )
        assert "need s3:DeleteObject" in self.refused()

    def test_unknown_profile_is_a_user_error(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
        assert "no-such-profile" in self.refused()

    def test_unknown_addressing_style(self, s3, monkeypatch):
        monkeypatch.setenv("FTJOBS_S3_ADDRESSING_STYLE", "round")
        assert self.refused().startswith("FTJOBS_S3_ADDRESSING_STYLE=round: ")
        assert mentions(self.refused(), "auto", "path", "virtual")

    @pytest.mark.parametrize(
        "store", ["s3://", "s3:///p", "s3://a/p", "s3://bucket/../p", "s3://bucket/a//b", "s3://b ucket"]
    )
    def test_malformed_address_is_a_user_error(self, store):
        assert mentions(self.refused(store), f"--store {store}: ", "address", "use s3://bucket/prefix")

    def test_credentials_in_the_address_are_not_repeated(self):
        assert "hush" not in self.refused("s3://key:hush@bucket/p")

    def test_forbidden_is_not_absent(self, storage, proxy):
        proxy.fault = respond(403, "AccessDenied")
        with pytest.raises(UserError, match=r"need s3:GetObject \(and s3:ListBucket"):
            storage.read("a")
        with pytest.raises(UserError):
            storage.put_if_absent(b"1", "a")


class TestClient:
    def test_other_stores_get_no_checksums_and_the_bucket_in_the_path(self, storage, proxy, tmp_path):
        storage.put(write(tmp_path, LARGE), "a")
        storage.get("a", tmp_path / "got")
        assert not [name for request in proxy.requests for name in request.headers if "checksum" in name.lower()]
        assert all(request.path.startswith(f"/{BUCKET}") for request in proxy.requests)

    def test_aws_keeps_the_defaults_of_boto3(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
        settings = s3_client.S3Client("bucket")._client.meta.config
        assert settings.request_checksum_calculation == "when_supported"
        assert settings.s3["addressing_style"] == "auto"

    def test_addressing_style_is_settable(self, s3, monkeypatch):
        monkeypatch.setenv("FTJOBS_S3_ADDRESSING_STYLE", "virtual")
        assert s3_client.S3Client("bucket")._client.meta.config.s3["addressing_style"] == "virtual"

    def test_long_listings_are_paged(self, storage, proxy, tmp_path):
        for number in range(7):
            storage.put_if_absent(b"", f"folder/{number}")
        client = storage._client._client
        listing = client.list_objects_v2
        client.list_objects_v2 = lambda **arguments: listing(**arguments, MaxKeys=2)
        assert [entry.key for entry in storage.list("folder")] == [f"folder/{number}" for number in range(7)]
        assert proxy.count("GET", "list-type=2") == 4


def test_part_size_grows_with_the_file(storage, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(multipart, "_MAX_PARTS", 2)
    assert storage.put(write(tmp_path, LARGE), "a") == hashlib.sha256(LARGE).hexdigest()
    assert proxy.count("PUT", "partNumber") == 2
    assert storage.read("a") == LARGE
