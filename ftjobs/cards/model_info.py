"""`ftjobs.json`: properties of a trained model that the transformers configuration does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Fields

NAME = "ftjobs.json"


class ModelInfo(Fields):
    """The stage that trained a model, and the model's inputs and outputs."""

    version: Literal[1] = 1
    pipeline: str
    stage: str
    kind: Literal["adapt", "classify"]
    seed: int
    identity: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    text_columns: Annotated[list[str], Field(min_length=1, max_length=2)]
    """Text columns of the training data, in the order of the model's input."""
    label_column: str | None
    """The label column; None with several columns, or for an encoder adapted without labels."""
    classes: list[str]
    """Names of the outputs in order: classes, labels, or the label column; empty for an encoder adapted without
    labels."""
    max_length: Annotated[int, Field(ge=1)]
    """Longest input in tokens; longer training inputs were truncated."""
    label_columns: list[str] | None = None
    """The label columns, if there are several."""
    label_separator: str | None = None
    """Separator of the names in a label column of text."""

    def write(self, folder: Path) -> None:
        """Write `ftjobs.json` into a model folder."""
        unused = {name for name in ("label_columns", "label_separator") if getattr(self, name) is None}
        (folder / NAME).write_text(self.model_dump_json(indent=1, exclude=unused) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Read `ftjobs.json` of a model folder.

        Raises:
            UserError: the file is missing or invalid.
        """
        path = folder / NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"{folder}: {NAME} is missing; give a model that a stage of kind `classify` or `adapt` published"
            ) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the whole file"
            raise UserError(f"{path}: invalid ({field}: {first['msg']}); fetch the model again") from error
