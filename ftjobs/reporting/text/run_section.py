"""The last section: what was run, and how to run it again."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.text.blocks import Block, Command, Listing, Prose, Section, Table
from ftjobs.reporting.text.phrases import code, count, listed, quoted, size

JOB_FILE = "job.yaml"


def section(content: dict[str, Any], job_file: str) -> Section:
    """Commands, inputs with their digests, artifacts with their identities, versions, and the job as resolved."""
    run = content["what_was_run"]
    blocks: list[Block] = [*_commands(run), _inputs(run)]
    blocks += [_artifacts(run), *_versions(run), Listing(JOB_FILE, job_file)]
    return Section("What was run", blocks)


def _commands(run: dict[str, Any]) -> list[Block]:
    local = run["local_files"]
    sets = "".join(f" --set {field}=PATH" for field in local)
    text = f"{code(JOB_FILE)} beside this report is the job with every default filled in. To run it again"
    if local:
        text += f", with {listed([f'{code(field)} being {quoted(name)}' for field, name in local.items()])}"
    return [
        Prose(f"{text}:"),
        Command([f"ftjobs run {JOB_FILE}{sets}", f"ftjobs report {JOB_FILE}{sets} --out report"]),
    ]


def _inputs(run: dict[str, Any]) -> Table:
    rows = []
    encoder, data = run["encoder"], run["data"]
    if "scratch" in encoder:
        rows.append(["encoder", "made from scratch", f"{encoder['vocabulary']:,} tokens in its vocabulary"])
    elif "folder" in encoder:
        rows.append(["encoder", quoted(encoder["folder"]), f"sha256 {code(encoder['sha256'])}"])
    else:
        named = f"{quoted(encoder['model'])}, revision {quoted(encoder['revision'])}"
        rows.append(["encoder", named, f"commit {code(encoder['commit'])}"])
    rows += _sources("data", data)
    for stage, own in run.get("own_data", {}).items():
        rows += _sources(code(stage), own)
    for stage, sources in run.get("corpora", {}).items():
        for one in sources:
            rows += _sources(code(stage), one if "hub_id" in one else {"files": [{"split": "corpus", **one}]})
    return Table(["input", "what", "exactly"], rows)


def _sources(name: str, data: dict[str, Any]) -> list[list[str]]:
    if "files" in data:
        return [
            [
                f"{name} ({file['split']})",
                f"{quoted(file['name'])}, {size(file['bytes'])}",
                f"sha256 {code(file['sha256'])}",
            ]
            for file in data["files"]
        ]
    configuration = f", configuration {quoted(data['config'])}" if data.get("config") else ""
    named = f"{quoted(data['hub_id'])}{configuration}, revision {quoted(data['revision'])}"
    return [[name, named, f"commit {code(data['commit'])}"]]


def _artifacts(run: dict[str, Any]) -> Table:
    rows = [
        [
            code(one["stage"]),
            "-" if one["seed"] is None else str(one["seed"]),
            code(one["identity"][:12]),
            code(one["weights_sha256"][:16]) if one["weights_sha256"] else "-",
            size(one["bytes"]),
            code(one["artifact"]),
        ]
        for one in run["artifacts"]
    ]
    header = ["stage", "seed", "identity", "sha256 of the weights", "size", "in the store"]
    return Table(header, rows, fold=f"{count(len(rows), 'artifact')}, with identities and digests")


def _versions(run: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for known in run["versions"]:
        made = "" if len(run["versions"]) == 1 else f" ({count(len(known['artifacts']), 'artifact')})"
        libraries = ", ".join(f"{name} {version}" for name, version in known["libraries"].items())
        blocks.append(Prose(f"Made with{made} {libraries}."))
    return blocks
