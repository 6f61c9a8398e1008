"""Uploading a published checkpoint with its card to the Hugging Face hub."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, logging, validate_repo_id

from ftjobs import artifacts, cards
from ftjobs.artifacts import FileEntry, Manifest
from ftjobs.errors import FtjobsError, UserError
from ftjobs.models.checkpoints import CARD
from ftjobs.storage import Storage
from ftjobs.system.hub_errors import causes, is_temporary, reason
from ftjobs.system.progress import LOG

_MODEL = "model/"
_TOKEN = "HF_TOKEN"
_DEFAULT_BRANCH = "main"


@dataclass(frozen=True)
class Pushed:
    """What a push came to."""

    url: str
    """Of the commit that the branch is at now."""
    changed: bool
    """Whether that commit is new; False if the branch held the very same files before."""


def check_repo(repo: str) -> None:
    """See that `repo` can be the name of a repository, as `OWNER/NAME`.

    Raises:
        UserError: it cannot.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--repo {repo}: {' '.join(str(error).split())}") from None
    if "/" not in repo:
        raise UserError(f"--repo {repo}: says no owner; give OWNER/NAME, such as my-team/{repo}")


def checkpoint(manifest: Manifest) -> list[FileEntry]:
    """The files that a push would upload: those of the checkpoint, named as they lie in storage.

    Raises:
        UserError: the artifact holds no checkpoint.
    """
    files = [file for file in manifest.files if file.path.startswith(_MODEL)]
    if not files:
        raise UserError(f"stage `{manifest.stage}` publishes no model; push a stage that trains one, or `prepare`")
    return files


def push(
    storage: Storage, manifest: Manifest, repo: str, *, private: bool = False, revision: str = _DEFAULT_BRANCH
) -> Pushed:
    """Put the checkpoint of an artifact into a repository of the hub, in one commit.

    The repository and the branch are made if they are not there. Files that the branch has and the checkpoint has not
    are left alone. The token is taken from HF_TOKEN, the hub's address from HF_ENDPOINT.

    Raises:
        UserError: no token, one that may not write there, or a name that cannot be; a retry cannot help.
        FtjobsError: the hub does not answer.
    """
    check_repo(repo)
    checkpoint(manifest)
    token = os.environ.get(_TOKEN, "").strip()
    if not token:
        raise UserError(
            f"no token for the hub: set {_TOKEN} to one that may write to {repo} (hub: Settings, Access Tokens)"
        )
    logging.set_verbosity_error()  # what it logs of an empty commit, we say
    if not sys.stderr.isatty():
        disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
        model = Path(folder, "model")
        artifacts.pull(storage, manifest, model)
        if (model / CARD).exists():
            card = (model / CARD).read_text(encoding="utf-8", errors="surrogateescape")
            (model / CARD).write_text(cards.for_hub(card, repo), encoding="utf-8", errors="surrogateescape")
        api = HfApi(token=token, library_name="ftjobs", library_version=version("ftjobs"))
        try:
            return _commit(api, manifest, model, repo, private, revision)
        except Exception as error:
            raise _explained(repo, revision, error) from error


def _commit(api: HfApi, manifest: Manifest, model: Path, repo: str, private: bool, revision: str) -> Pushed:
    api.create_repo(repo, private=private or None, exist_ok=True)
    if revision != _DEFAULT_BRANCH:
        api.create_branch(repo, branch=revision, exist_ok=True)
    found = api.model_info(repo, revision=revision)
    if private and not found.private:
        raise UserError(f"{repo}: exists and is public, so --private cannot be kept; change that on the hub first")
    files = sorted(path for path in model.rglob("*") if path.is_file())
    additions = [CommitOperationAdd(path.relative_to(model).as_posix(), path) for path in files]
    seed = f" seed {manifest.seed}" if manifest.kind in ("adapt", "classify") else ""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        commit = api.create_commit(
            repo,
            additions,
            commit_message=f"{manifest.pipeline}: {manifest.stage}{seed}, identity {manifest.identity[:12]}",
            commit_description=f"Artifact of ftjobs with identity {manifest.identity}.",
            revision=revision,
            parent_commit=found.sha,  # refused if somebody else has committed meanwhile
        )
    for warning in (one for one in said if issubclass(one.category, UserWarning)):  # what the hub says of the card
        LOG.warning("%s", " ".join(str(warning.message).split()))
    return Pushed(commit.commit_url, commit.oid != found.sha)


def _explained(repo: str, revision: str, error: Exception) -> Exception:
    """What went wrong on the way to the hub, as an error of ours."""
    if isinstance(error, FtjobsError):
        return error
    chain = causes(error)
    status = next((one.response.status_code for one in chain if isinstance(one, HfHubHTTPError)), None)
    if any(isinstance(one, OfflineModeIsEnabled) for one in chain):
        return UserError(f"{repo}: HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
    if status == 401:
        return UserError(f"{repo}: the hub does not know the token in {_TOKEN}; set it to one that is valid")
    if status == 403 or any(isinstance(one, GatedRepoError) for one in chain):
        return UserError(f"{repo}: the token in {_TOKEN} may not write there; give it write access, or another --repo")
    if any(isinstance(one, RevisionNotFoundError) for one in chain):
        return UserError(f"{repo}: has no branch {revision!r}; give --revision a branch")
    if any(isinstance(one, RepositoryNotFoundError) for one in chain):
        return UserError(f"{repo}: the hub shows no such repository to the token in {_TOKEN}; correct one of the two")
    if status == 412:
        return FtjobsError(f"{repo}: somebody else has committed to {revision} meanwhile; push again")
    if "xet-write-token" in str(error) and "404" in str(error):
        return UserError(f"{repo}: this hub has no xet storage; set HF_HUB_DISABLE_XET=1 to upload in the older way")
    if any(is_temporary(one) for one in chain):
        return FtjobsError(f"{repo}: the hub cannot be reached ({reason(error)}); try again")
    if status is not None or isinstance(error, ValueError):
        return UserError(f"{repo}: the hub refuses it ({reason(error)})")
    return error
