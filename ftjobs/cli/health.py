"""The command that looks at this machine and at all that a job needs of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftjobs.cli.app import AsJson, Set, Store, app

if TYPE_CHECKING:
    from ftjobs.doctor import Finding

OneJob = Annotated[Path | None, typer.Argument(metavar="[JOB]", help="A job file to look at as well.")]


@app.command()
def doctor(job: OneJob = None, overrides: Set = None, store: Store = "runs", as_json: AsJson = False) -> None:
    """Look whether this machine, the store, the hub, tracking and a job file will do; exit code 1 if one will not."""
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
        raise typer.Exit(1)


def _findings(job: Path | None, overrides: list[str], store: str) -> Iterator[Finding]:
    """One after the other: some take seconds, and what was found so far is shown meanwhile."""
    from ftjobs.doctor import machine, services
    from ftjobs.doctor import store as stores

    yield from machine.check()
    yield from stores.check(store)
    yield from services.check()
    if job is not None:
        from ftjobs.doctor.job import check

        yield from check(job, overrides)
