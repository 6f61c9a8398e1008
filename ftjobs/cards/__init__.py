"""Model cards (`README.md`) and `ftjobs.json` of published checkpoints, and their upload to the Hugging Face hub.

Both files depend only on the settings, inputs and metrics of a run: the same job writes the same bytes.
"""

from ftjobs.cards.card import for_hub, write
from ftjobs.cards.metadata import MODEL_INFO, ModelInfo

__all__ = ["MODEL_INFO", "ModelInfo", "for_hub", "write"]
