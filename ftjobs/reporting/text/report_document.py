"""Compose the report document from the findings; its last section is the provenance of the results."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.findings.provenance import Provenance
from ftjobs.reporting.text import (
    adaptation_section,
    hypotheses_section,
    opening,
    results_section,
)
from ftjobs.reporting.text.blocks import Block, Command, Document, Listing, Prose, Section, Table
from ftjobs.reporting.text.phrases import code, count, file_size, listed, quoted

_SECTIONS = (
    results_section.results,
    hypotheses_section.hypotheses,
    hypotheses_section.caveats,
    results_section.learning,
    adaptation_section.adaptation,
    adaptation_section.intermediate,
    results_section.errors,
    results_section.by_label,
    results_section.examples,
)


def report_document(findings: Findings, job_file: str) -> Document:
    """Return the report; sections without content are left out.

    Args:
        findings: results of the analyses, without control characters
        job_file: the resolved job as YAML
    """
    sections = [section for make in _SECTIONS if (section := make(findings)) is not None]
    return Document(
        title=findings.pipeline,
        headline=opening.headline(findings),
        lead=opening.lead(findings),
        ship=opening.ship(findings),
        sections=[*sections, provenance(findings, job_file)],
    )


JOB_FILE = "job.yaml"


def provenance(findings: Findings, job_file: str) -> Section:
    """Return the provenance section; `job_file` is the resolved job as YAML."""
    run = findings.what_was_run
    blocks = [*_commands(run), _inputs(run), _artifacts(run), *_versions(run), Listing(JOB_FILE, job_file)]
    return Section("Provenance", blocks)


def _commands(run: Provenance) -> list[Block]:
    options = "".join(f" --set {field}=PATH" for field in run.local_files)
    text = f"{code(JOB_FILE)} in the folder of this report is the job file with all defaults. To repeat the run"
    if run.local_files:
        files = listed([f"{code(field)} ({quoted(name)})" for field, name in run.local_files.items()])
        text += f", set the path of {files}"
    commands = [f"ftjobs run {JOB_FILE}{options}", f"ftjobs report {JOB_FILE}{options} --out report"]
    return [Prose(f"{text}:"), Command(commands)]


def _inputs(run: Provenance) -> Table:
    encoder = run.encoder
    if "scratch" in encoder:
        rows = [["encoder", "made from scratch", f"{encoder['vocabulary']:,} tokens in its vocabulary"]]
    elif "folder" in encoder:
        rows = [["encoder", quoted(encoder["folder"]), f"sha256 {code(encoder['sha256'])}"]]
    else:
        name = f"{quoted(encoder['model'])}, revision {quoted(encoder['revision'])}"
        rows = [["encoder", name, f"commit {code(encoder['commit'])}"]]
    rows += _sources("data", run.data)
    for stage, source in (run.own_data or {}).items():
        rows += _sources(code(stage), source)
    for stage, sources in (run.corpora or {}).items():
        for source in sources:
            rows += _sources(code(stage), source if "hub_id" in source else {"files": [{"split": "corpus", **source}]})
    return Table(["input", "source", "version"], rows)


def _sources(name: str, source: dict[str, Any]) -> list[list[str]]:
    """Return one row per file, or one row for a data set of the Hub."""
    if "files" in source:
        return [
            [
                f"{name} ({file['split']})",
                f"{quoted(file['name'])}, {file_size(file['bytes'])}",
                f"sha256 {code(file['sha256'])}",
            ]
            for file in source["files"]
        ]
    configuration = f", configuration {quoted(source['config'])}" if source.get("config") else ""
    data_set = f"{quoted(source['hub_id'])}{configuration}, revision {quoted(source['revision'])}"
    return [[name, data_set, f"commit {code(source['commit'])}"]]


def _artifacts(run: Provenance) -> Table:
    rows = [
        [
            code(artifact.stage),
            "-" if artifact.seed is None else str(artifact.seed),
            code(artifact.identity[:12]),
            code(artifact.weights_sha256[:16]) if artifact.weights_sha256 else "-",
            file_size(artifact.bytes),
            code(artifact.artifact),
        ]
        for artifact in run.artifacts
    ]
    header = ["stage", "seed", "identity", "sha256 of the weights", "size", "key in the store"]
    return Table(header, rows, fold=f"{count(len(rows), 'artifact')} with identities and digests")


def _versions(run: Provenance) -> list[Block]:
    blocks: list[Block] = []
    for version in run.versions:
        scope = "" if len(run.versions) == 1 else f" ({count(len(version.artifacts), 'artifact')})"
        libraries = ", ".join(f"{name} {number}" for name, number in version.libraries.items())
        blocks.append(Prose(f"Versions{scope}: {libraries}."))
    return blocks
