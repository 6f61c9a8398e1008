"""Files of a rendered pod, written to a folder as the kubelet and its init container would."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

from ftjobs.kubernetes.pods import ARCHIVE_FILE


def write_pod_files(manifests: list[dict[str, Any]], pod: dict[str, Any], folder: Path) -> Path:
    """Write the job file to `job`, and unpack the data files to `files` by the init container's command.

    Returns:
        Path of the job file.
    """
    maps = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "ConfigMap"}
    volumes = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod["volumes"]}
    (folder / "job").mkdir(parents=True)
    (folder / "job/job.yaml").write_text(maps[volumes["job"]]["data"]["job.yaml"])
    for container in pod.get("initContainers", []):
        (folder / "packed").mkdir()
        (folder / "files").mkdir()
        archive = base64.b64decode(maps[volumes["packed"]]["binaryData"][ARCHIVE_FILE])
        (folder / "packed" / ARCHIVE_FILE).write_bytes(archive)
        command = [str(folder) + word if word.startswith("/") else word for word in container["command"]]
        subprocess.run([sys.executable, *command[1:]], check=True)
    return folder / "job/job.yaml"
