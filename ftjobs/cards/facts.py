"""`ftjobs.json`: what a program must know of a trained model beyond what transformers keeps in `config.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Fields

NAME = "ftjobs.json"


class ModelInfo(Fields):
    """Which stage the model is of, and what it takes and gives."""

    version: Literal[1] = 1
    pipeline: str
    stage: str
    kind: Literal["adapt", "classify"]
    seed: int
    identity: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    text_columns: Annotated[list[str], Field(min_length=1, max_length=2)]
    """Columns of the job's data that hold the texts, in the order the model takes them in."""
    label_column: str | None
    """The column of the labels; none where there are several, or the model was adapted without labels."""
    classes: list[str]
    """Names of the classes or labels in the order of their indices, or of the number; none if the model was adapted
    without labels."""
    max_length: Annotated[int, Field(ge=1)]
    """Longest input in tokens; in training, longer ones were cut."""
    label_columns: list[str] | None = None
    """The columns of the labels, where there are several."""
    label_separator: str | None = None
    """What stood between the names of a row's labels."""

    def write(self, folder: Path) -> None:
        """Write them into a model folder."""
        unused = {name for name in ("label_columns", "label_separator") if getattr(self, name) is None}
        (folder / NAME).write_text(self.model_dump_json(indent=1, exclude=unused) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Those of a model folder.

        Raises:
            UserError: there are none, or they make no sense.
        """
        path = folder / NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"{folder}: has no {NAME}; give a model that a stage of kind `classify` or `adapt` published"
            ) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the whole file"
            raise UserError(f"{path}: not readable ({place}: {first['msg']}); fetch the model again") from error
