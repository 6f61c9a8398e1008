"""Model cards: what a published checkpoint says about itself, in the format of the Hugging Face hub.

Beside the weights lie `README.md`, the card, and `ftjobs.json`, what a program must know to use the model. Both are
made of the run's settings, inputs and metrics alone: the same job gives the same bytes.
"""

from ftjobs.cards.facts import ModelInfo
from ftjobs.cards.text import for_hub
from ftjobs.cards.writing import write

__all__ = ["ModelInfo", "for_hub", "write"]
