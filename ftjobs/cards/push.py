"""Upload a published checkpoint with its card to the Hugging Face hub."""

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
class PushResult:
    """Result of a push."""

    url: str
    """URL of the branch's latest commit."""
    changed: bool
    """True if the commit is new, False if the branch already had the same files."""


def check_repo(repo: str) -> None:
    """Check that `repo` is a valid repository id, `OWNER/NAME`.

    Raises:
        UserError: it is not.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--repo {repo}: {' '.join(str(error).split())}") from None
    if "/" not in repo:
        raise UserError(f"--repo {repo}: the owner is missing; give OWNER/NAME, such as my-team/{repo}")


def checkpoint_files(manifest: Manifest) -> list[FileEntry]:
    """Return the files that `push` uploads, with their paths in the artifact.

    Raises:
        UserError: the artifact has no checkpoint.
    """
    files = [file for file in manifest.files if file.path.startswith(_MODEL)]
    if not files:
        raise UserError(f"stage `{manifest.stage}` has no model; push a stage that trains one, or `prepare`")
    return files


def push(
    storage: Storage, manifest: Manifest, repo: str, *, private: bool = False, revision: str = _DEFAULT_BRANCH
) -> PushResult:
    """Upload the checkpoint of an artifact to a repository of the hub, in one commit.

    The repository and the branch are created if necessary. Other files of the branch stay. The token comes from
    HF_TOKEN, the address of the hub from HF_ENDPOINT.

    Args:
        storage: holds the artifact.
        manifest: of the artifact.
        repo: `OWNER/NAME`.
        private: create the repository as private, and refuse a public one.
        revision: the branch.

    Raises:
        UserError: the token is missing or may not write, or the repository is invalid.
        FtjobsError: the hub is unreachable, or someone else committed at the same time; retry.
    """
    check_repo(repo)
    checkpoint_files(manifest)
    token = os.environ.get(_TOKEN, "").strip()
    if not token:
        raise UserError(f"{_TOKEN}: not set; set it to a token that may write to {repo} (hub: Settings, Access Tokens)")
    logging.set_verbosity_error()  # the command reports an empty commit itself
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
            raise _translate(repo, revision, error) from error


def _commit(api: HfApi, manifest: Manifest, model: Path, repo: str, private: bool, revision: str) -> PushResult:
    api.create_repo(repo, private=private or None, exist_ok=True)
    if revision != _DEFAULT_BRANCH:
        api.create_branch(repo, branch=revision, exist_ok=True)
    current = api.model_info(repo, revision=revision)
    if private and not current.private:
        raise UserError(f"{repo}: the repository is public, contrary to --private; make it private on the hub first")
    files = sorted(path for path in model.rglob("*") if path.is_file())
    additions = [CommitOperationAdd(path.relative_to(model).as_posix(), path) for path in files]
    seed = f" seed {manifest.seed}" if manifest.kind in ("adapt", "classify") else ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        commit = api.create_commit(
            repo,
            additions,
            commit_message=f"{manifest.pipeline}: {manifest.stage}{seed}, identity {manifest.identity[:12]}",
            commit_description=f"Artifact of ftjobs with identity {manifest.identity}.",
            revision=revision,
            parent_commit=current.sha,  # refuses a concurrent commit
        )
    for warning in (entry for entry in caught if issubclass(entry.category, UserWarning)):  # on the card
        LOG.warning("%s", " ".join(str(warning.message).split()))
    return PushResult(commit.commit_url, commit.oid != current.sha)


def _translate(repo: str, revision: str, error: Exception) -> Exception:
    """Return an error of the hub as a `UserError` or `FtjobsError` with a remedy; other errors unchanged."""
    if isinstance(error, FtjobsError):
        return error
    chain = causes(error)
    status = next((cause.response.status_code for cause in chain if isinstance(cause, HfHubHTTPError)), None)
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in chain):
        return UserError(f"{repo}: HF_HUB_OFFLINE disables uploads; unset it")
    if status == 401:
        return UserError(f"{repo}: the hub rejects the token in {_TOKEN}; set it to a valid token")
    if status == 403 or any(isinstance(cause, GatedRepoError) for cause in chain):
        return UserError(f"{repo}: the token in {_TOKEN} has no write access; grant it, or choose another --repo")
    if any(isinstance(cause, RevisionNotFoundError) for cause in chain):
        return UserError(f"{repo}: branch {revision!r} does not exist; set --revision to a branch")
    if any(isinstance(cause, RepositoryNotFoundError) for cause in chain):
        return UserError(f"{repo}: no such repository is visible to the token in {_TOKEN}; correct --repo or the token")
    if status == 412:
        return FtjobsError(f"{repo}: {revision} has a new commit from someone else; push again")
    if "xet-write-token" in str(error) and "404" in str(error):
        return UserError(f"{repo}: this hub has no Xet storage; set HF_HUB_DISABLE_XET=1 to upload without it")
    if any(is_temporary(cause) for cause in chain):
        return FtjobsError(f"{repo}: the hub is unreachable ({reason(error)}); retry")
    if status is not None or isinstance(error, ValueError):
        return UserError(f"{repo}: the hub rejects the upload ({reason(error)})")
    return error
