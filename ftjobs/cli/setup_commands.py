"""Commands that help to set up a machine and write a job file: doctor, schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftjobs.cli.app import AsJson, Set, Store, command
from ftjobs.errors import ExitCode

if TYPE_CHECKING:
    from ftjobs.doctor import Finding


@command("ftjobs doctor job.yaml --store s3://bucket/runs")
def doctor(
    job: Annotated[
        Path | None, typer.Argument(metavar="[JOB]", help="Job file to check as well.", show_default=False)
    ] = None,
    overrides: Set = None,
    store: Store = "runs",
    as_json: AsJson = False,
) -> None:
    """Check this machine, the store, the Hub, tracking and a job file. Exit code 1 if there is a problem."""
    findings = []
    for finding in _findings(job, overrides or [], store):
        findings.append(finding)
        if not as_json:
            print(f"{finding.state:<8} {finding.about:<13} {finding.found}", flush=True)
            if finding.remedy:
                print(f"{'':22} -> {finding.remedy}", flush=True)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def _findings(job: Path | None, overrides: list[str], store: str) -> Iterator[Finding]:
    """Yield findings as they come: some checks take seconds."""
    from ftjobs.doctor import machine, services

    yield from machine.check()
    yield from services.check_store(store)
    yield from services.check_accounts()
    if job is not None:
        yield from services.check_job(job, overrides)


@command("ftjobs schema > job.schema.json")
def schema() -> None:
    """Print the JSON schema of job files. Editors use it for validation and completion."""
    from ftjobs.jobfile.fields import Job as JobFile

    print(json.dumps(JobFile.model_json_schema(), indent=1))
