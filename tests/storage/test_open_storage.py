from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ftjobs.errors import UserError
from ftjobs.storage import open_storage


def test_folder_is_relative_or_below_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_storage("runs").uri("a") == "runs/a"
    assert open_storage("~/runs").uri("a") == f"{tmp_path}/runs/a"


def test_s3_uri_contains_bucket_and_prefix(s3):
    assert open_storage("s3://bucket").uri("a/b") == "s3://bucket/a/b"
    assert open_storage("s3://bucket/x/y/").uri("a/b") == "s3://bucket/x/y/a/b"
    assert open_storage("s3://bucket/x").local_path("a") is None


@pytest.mark.parametrize("store", ["gs://bucket", "file:///x", "https://host/x", "", "a\0b", "~nobody-here/x"])
def test_unsupported_address_is_a_user_error_with_a_remedy(store):
    with pytest.raises(UserError, match=r"^--store .*; use .* \./runs$"):
        open_storage(store)


@pytest.mark.parametrize("below", ["", "/x", "/x/y"])
def test_file_in_the_path_is_a_user_error(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        open_storage(f"{tmp_path}/file{below}")
    assert str(caught.value).startswith(f"--store {tmp_path}/file{below}: {tmp_path}/file ")


def test_local_stores_import_no_boto3(tmp_path):
    script = (
        "import sys; from ftjobs import artifacts; from ftjobs.storage import open_storage\n"
        "assert list(artifacts.list_manifests(open_storage(sys.argv[1]))) == []\n"
        "assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=dict(os.environ))
