"""Commands that talk to the Hugging Face hub."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ftjobs.cli.app import Seed, Set, Store, app, artifact_of
from ftjobs.cli.tables import aligned, print_table


@app.command()
def push(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB STAGE | ARTIFACT-URI",
            help="A stage of a job, or an address that `ls` prints.",
            show_default=False,
        ),
    ],
    repo: Annotated[str, typer.Option("--repo", metavar="OWNER/NAME", help="Made if it is not there.")],
    seed: Seed = None,
    private: Annotated[bool, typer.Option("--private", help="If the repository is made, make it private.")] = False,
    revision: Annotated[str, typer.Option("--revision", metavar="BRANCH", help="Made if it is not there.")] = "main",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be uploaded; asks no hub.")] = False,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Upload a stage's checkpoint with its model card to the Hugging Face hub; takes the token from HF_TOKEN."""
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    form = f"push {' '.join(what)}: give JOB STAGE, or ARTIFACT-URI"
    storage, manifest = artifact_of(what, form, seed, overrides, store)
    from ftjobs.cards import push

    if dry_run:
        push.check_repo(repo)
        files = push.checkpoint(manifest)
        print_table(aligned(["file", "bytes"], [[file.path.removeprefix("model/"), file.size] for file in files]))
        print(f"would go to {repo} at {revision}; nothing was uploaded", file=sys.stderr)
        return
    pushed = push.push(storage, manifest, repo, private=private, revision=revision)
    if not pushed.changed:
        print(f"{repo} holds identity {manifest.identity[:12]} already; nothing changed", file=sys.stderr)
    print(pushed.url)
