"""S3 as it is on bad days: servers that are down, tired or old, answers that are cut, damaged or forbidden."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftjobs.errors import FtjobsError, UserError
from ftjobs.storage import Storage, connection, in_parallel, multipart, open_storage
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Answer, Proxy, Request, error, times
from tests.fakes.s3_server import ACCESS_KEY, BUCKET, READER_ACCESS_KEY, READER_SECRET_KEY, SECRET_KEY, sign_again

Forward = Callable[[Request], Answer]
MB = 1 << 20
LARGE = bytes(range(256)) * 4096 * 20  # 20 MB: three parts


@pytest.fixture
def proxy(s3, monkeypatch) -> Iterator[Proxy]:
    """A proxy in front of the server, and the environment set to go through it. Waits are short."""
    monkeypatch.setattr(connection, "SHORTEST_WAIT", 0.01)
    monkeypatch.setattr(connection, "PATIENCE", 10.0)
    with fault_proxy.proxy(s3.url) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.url)
        yield running


@pytest.fixture
def storage(proxy, tmp_path) -> Storage:
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}")


def file(folder: Path, content: bytes, name: str = "to-put") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut_answer(request: Request, forward: Forward) -> Answer:
    """The connection ends in the middle of the body."""
    answer = forward(request)
    answer.cut = len(answer.body) // 2
    return answer


def truncated(request: Request, forward: Forward) -> Answer:
    """A body that ends before it should, and nothing in the head says so."""
    answer = forward(request)
    answer.body = answer.body[: len(answer.body) // 2]
    return answer


def damaged_on_the_way_there(request: Request, forward: Forward) -> Answer:
    request.body = flipped(request.body)
    return forward(request)


def lost_answer(request: Request, forward: Forward) -> None:
    """The server does what it is asked to, and nobody hears of it."""
    forward(request)


def ignoring_conditions(request: Request, forward: Forward) -> Answer:
    """What a store does that has never heard of If-None-Match."""
    if request.headers.pop("If-None-Match", None):
        sign_again(request)
    return forward(request)


FAULTS = {
    "500": lambda request, forward: error(500, "InternalError"),
    "503": lambda request, forward: error(503, "SlowDown", {"Retry-After": "1"}),
    "502 from a proxy": lambda request, forward: Answer(
        502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>"
    ),
    "429": lambda request, forward: error(429, "TooManyRequests"),
    "409": lambda request, forward: error(409, "OperationAborted"),
    "hung up": lambda request, forward: None,
    "lost answer": lost_answer,
}


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
class TestAServerThatFailsNowAndThen:
    def test_put(self, storage, proxy, tmp_path, fault, content):
        proxy.fault = times(3, fault)
        assert storage.put(file(tmp_path, content), "a") == hashlib.sha256(content).hexdigest()
        assert storage.read("a") == content

    def test_get(self, storage, proxy, tmp_path, fault, content):
        storage.put(file(tmp_path, content), "a")
        proxy.fault = times(3, fault)
        assert storage.get("a", tmp_path / "got") == hashlib.sha256(content).hexdigest()
        assert (tmp_path / "got").read_bytes() == content


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_small_verbs_on_a_server_that_fails_now_and_then(storage, proxy, tmp_path, fault):
    for verb in (storage.check_writable, lambda: storage.delete("b"), lambda: list(storage.list(""))):
        proxy.fault = times(2, fault)
        verb()
    proxy.fault = times(2, fault)
    assert storage.put_if_absent(b"1", "m") is True
    proxy.fault = times(2, fault)
    assert storage.put_if_absent(b"2", "m") is False
    assert storage.read("m") == b"1"


class TestBodies:
    @pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("fault", [cut_answer, truncated])
    def test_one_that_ends_early_is_fetched_again(self, storage, proxy, tmp_path, fault, content):
        storage.put(file(tmp_path, content), "a")
        getting = lambda request: request.method == "GET"  # noqa: E731
        proxy.fault = times(2, fault, getting)
        assert storage.get("a", tmp_path / "got") == hashlib.sha256(content).hexdigest()
        proxy.fault = times(1, cut_answer, getting)
        assert storage.read("a") == content
        assert sorted(path.name for path in tmp_path.iterdir()) == ["got", "to-put"]

    @pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
    def test_one_damaged_on_the_way_there_is_sent_again(self, storage, proxy, tmp_path, content):
        proxy.fault = times(2, damaged_on_the_way_there, lambda request: request.method == "PUT")
        assert storage.put(file(tmp_path, content), "a") == hashlib.sha256(content).hexdigest()
        assert storage.read("a") == content

    def test_a_listing_that_is_cut_is_asked_for_again(self, storage, proxy, tmp_path):
        storage.put(file(tmp_path, b"1"), "a")
        for fault in (cut_answer, truncated):
            proxy.fault = times(2, fault)
            assert [entry.key for entry in storage.list("")] == ["a"]


class TestLargeFiles:
    def test_the_parts_are_given_up_when_the_upload_fails(self, storage, proxy, s3, tmp_path):
        proxy.fault = lambda request, forward: (
            error(403, "AccessDenied") if "partNumber=2" in request.path else forward(request)
        )
        with pytest.raises(UserError, match="not allowed"):
            storage.put(file(tmp_path, LARGE), "a")
        assert "Uploads" not in s3.client().list_multipart_uploads(Bucket=BUCKET, Prefix=f"{tmp_path.name}/")

    def test_a_file_replaced_while_it_is_read_is_not_mixed(self, storage, proxy, tmp_path):
        storage.put(file(tmp_path, LARGE), "a")
        other = file(tmp_path, flipped(LARGE), "other")

        def replace(request: Request, forward: Forward) -> Answer:
            storage.put(other, "a")
            return forward(request)

        proxy.fault = times(1, replace, lambda request: "If-Match" in request.headers)
        try:  # which of the two it is lies with the server and the order of the parts
            storage.get("a", tmp_path / "got")
        except FtjobsError as caught:
            assert "412 PreconditionFailed" in str(caught)
            assert not (tmp_path / "got").exists()
        else:
            assert (tmp_path / "got").read_bytes() in (LARGE, flipped(LARGE))

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
    def test_not_much_of_it_is_in_memory(self, s3, tmp_path):
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
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert 0 < int(found.stdout) < 250


class TestConditions:
    """The many answers to `put if absent`."""

    def test_an_answer_that_is_lost_may_be_a_success(self, storage, proxy):
        proxy.fault = times(1, lost_answer, lambda request: request.method == "PUT")
        assert storage.put_if_absent(b"1", "m") is True
        assert storage.read("m") == b"1"

    @pytest.mark.parametrize("code", ["NotImplemented"])
    def test_a_store_that_refuses_the_header(self, storage, proxy, code):
        def refuse(request: Request, forward: Forward) -> Answer:
            return error(501, code) if "If-None-Match" in request.headers else forward(request)

        proxy.fault = refuse
        assert storage.put_if_absent(b"1", "m") is True
        assert storage.put_if_absent(b"2", "m") is False
        assert storage.put_if_absent(b"3", "n") is True
        assert storage.read("m") == b"1"
        assert sum("If-None-Match" in request.headers for request in proxy.seen) == 1

    def test_a_store_that_ignores_it_is_asked_first(self, storage, proxy):
        proxy.fault = ignoring_conditions
        assert storage.put_if_absent(b"1", "m") is True
        assert storage.put_if_absent(b"2", "m") is False
        assert storage.read("m") == b"1"

    def test_a_conflict_is_tried_again(self, storage, proxy):
        conflict = lambda request, forward: error(409, "ConditionalRequestConflict")  # noqa: E731
        proxy.fault = times(2, conflict, lambda request: request.method == "PUT")
        assert storage.put_if_absent(b"1", "m") is True
        assert storage.read("m") == b"1"


class TestAServerThatIsDown:
    def test_every_verb_waits_for_it_and_says_so(self, storage, proxy, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr(connection, "LONGEST_WAIT", 0.2)
        content = file(tmp_path, LARGE)
        for verb in (
            lambda: storage.put(content, "a"),
            lambda: storage.get("a", tmp_path / "got"),
            lambda: storage.put_if_absent(b"1", "m"),
        ):
            proxy.down()
            with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING):
                waiting = pool.submit(verb)
                time.sleep(0.7)
                assert not waiting.done()
                proxy.up()
                waiting.result()
        assert (tmp_path / "got").read_bytes() == LARGE
        assert storage.read("m") == b"1"
        assert f"failed at {proxy.url} (EndpointConnectionError); trying again, for up to" in caplog.text

    def test_going_down_in_the_middle(self, storage, proxy, tmp_path, monkeypatch):
        monkeypatch.setattr(connection, "LONGEST_WAIT", 0.2)
        content = file(tmp_path, LARGE)
        for verb in (lambda: storage.put(content, "a"), lambda: storage.get("a", tmp_path / "got")):

            def go_down(request: Request, forward: Forward) -> None:
                proxy.down()
                threading.Timer(0.5, proxy.up).start()

            middle = lambda request: "partNumber=2" in request.path or "Range" in request.headers  # noqa: E731
            proxy.fault = times(1, go_down, middle)
            verb()
        assert (tmp_path / "got").read_bytes() == LARGE

    def test_patience_ends(self, proxy, tmp_path, monkeypatch):
        monkeypatch.setattr(connection, "PATIENCE", 0.3)
        storage = open_storage(f"s3://{BUCKET}/x")
        proxy.fault = FAULTS["503"]
        with pytest.raises(
            FtjobsError, match=r"a: get_object was answered 503 SlowDown; gave up after \d+ tries"
        ) as caught:
            storage.read("a")
        assert caught.value.exit_code == 1

    def test_who_is_asked_to_end_does_not_wait(self, proxy, tmp_path):
        storage = open_storage(f"s3://{BUCKET}/x")
        proxy.fault = FAULTS["503"]
        threading.Timer(0.3, storage.hurry).start()
        started = time.monotonic()
        with pytest.raises(FtjobsError, match="gave up"):
            in_parallel(storage, storage.read, "abcdefghij")
        assert time.monotonic() - started < 3


class TestStartUp:
    """Wrong settings: exit 2, one line, which says what to set."""

    def refused(self, store: str = f"s3://{BUCKET}/p") -> str:
        with pytest.raises(UserError) as caught:
            open_storage(store).check_writable()
        assert caught.value.exit_code == 2
        assert len(caught.value.problems) == 1
        assert SECRET_KEY not in str(caught.value)
        assert ACCESS_KEY not in str(caught.value)
        return str(caught.value)

    def test_no_credentials(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert self.refused() == (
            f"s3://{BUCKET} at {s3.url}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or give the machine or pod a role"
        )

    def test_half_of_the_credentials(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY" in self.refused()

    def test_an_unknown_key(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
        assert "does not know the access key; set AWS_ACCESS_KEY_ID" in self.refused()

    def test_a_wrong_secret(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        assert "check AWS_SECRET_ACCESS_KEY" in self.refused()

    def test_no_such_bucket(self, s3):
        assert "there is no such bucket; create it" in self.refused("s3://no-such-bucket/p")

    def test_no_right_to_write(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET_KEY)
        assert "not allowed (403 AccessDenied: Access Denied.); these credentials need s3:PutObject" in self.refused()

    def test_no_right_to_delete(self, s3, proxy):
        proxy.fault = lambda request, forward: (
            error(403, "AccessDenied") if request.method == "DELETE" else forward(request)
        )
        assert "not allowed (403 AccessDenied: Injected); these credentials need s3:DeleteObject" in self.refused()

    def test_no_such_profile(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        assert "(nobody) could not be found; set the AWS_ variables or the profile right" in self.refused()

    def test_an_unknown_addressing_style(self, s3, monkeypatch):
        monkeypatch.setenv("FTJOBS_S3_ADDRESSING_STYLE", "round")
        assert self.refused() == (
            "FTJOBS_S3_ADDRESSING_STYLE=round: is no addressing style; set it to auto, path or virtual"
        )

    @pytest.mark.parametrize(
        "store", ["s3://", "s3:///p", "s3://a/p", "s3://bucket/../p", "s3://bucket/a//b", "s3://b ucket"]
    )
    def test_no_address(self, store):
        assert self.refused(store) == f"--store {store}: is no address of a store; give s3://bucket/prefix"

    def test_secrets_in_the_address_are_not_repeated(self):
        assert "hush" not in self.refused("s3://key:hush@bucket/p")

    def test_403_is_not_absence(self, storage, proxy):
        proxy.fault = lambda request, forward: error(403, "AccessDenied")
        with pytest.raises(UserError, match=r"these credentials need s3:GetObject \(and s3:ListBucket"):
            storage.read("a")
        with pytest.raises(UserError):
            storage.put_if_absent(b"1", "a")


class TestSettings:
    def test_stores_other_than_aws_get_no_checksums_and_the_bucket_in_the_path(self, storage, proxy, tmp_path):
        storage.put(file(tmp_path, LARGE), "a")
        storage.get("a", tmp_path / "got")
        assert not [name for request in proxy.seen for name in request.headers if "checksum" in name.lower()]
        assert all(request.path.startswith(f"/{BUCKET}") for request in proxy.seen)

    def test_aws_keeps_its_own(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
        settings = connection.Connection("bucket")._client.meta.config
        assert settings.request_checksum_calculation == "when_supported"
        assert settings.s3["addressing_style"] == "auto"

    def test_addressing_style(self, s3, monkeypatch):
        monkeypatch.setenv("FTJOBS_S3_ADDRESSING_STYLE", "virtual")
        assert connection.Connection("bucket")._client.meta.config.s3["addressing_style"] == "virtual"

    def test_uris(self, s3):
        assert open_storage("s3://bucket").uri("a/b") == "s3://bucket/a/b"
        assert open_storage("s3://bucket/x/y/").uri("a/b") == "s3://bucket/x/y/a/b"
        assert open_storage("s3://bucket/x").local_path("a") is None

    def test_long_listings_come_page_by_page(self, storage, proxy, tmp_path):
        def small_pages(request: Request, forward: Forward) -> Answer:
            return forward(request)

        for number in range(7):
            storage.put_if_absent(b"", f"folder/{number}")
        client = storage._connection._client
        listing = client.list_objects_v2
        client.list_objects_v2 = lambda **arguments: listing(**arguments, MaxKeys=2)
        assert [entry.key for entry in storage.list("folder")] == [f"folder/{number}" for number in range(7)]
        assert proxy.count("GET", "list-type=2") == 4

    def test_boto3_is_imported_for_s3_only(self, tmp_path):
        script = (
            "import sys; from ftjobs import artifacts; from ftjobs.storage import open_storage\n"
            "assert list(artifacts.listing(open_storage(sys.argv[1]))) == []\n"
            "assert not {'boto3', 'botocore'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=dict(os.environ))


def test_parts_are_as_large_as_the_number_of_parts_demands(storage, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(multipart, "_MOST_PARTS", 2)
    assert storage.put(file(tmp_path, LARGE), "a") == hashlib.sha256(LARGE).hexdigest()
    assert proxy.count("PUT", "partNumber") == 2
    assert storage.read("a") == LARGE
