"""Settings and texts of a toy encoder from scratch."""

from __future__ import annotations

from ftjobs.jobfile.fields import Scratch
from tests.helpers.families import WORDS

TEXTS = [f"{first} {second}s {third}, ÄRZTE?" for first in WORDS for second in WORDS[:9] for third in WORDS[3:9]]
SETTINGS = Scratch(vocab_size=200, hidden_size=32, num_hidden_layers=1, max_position_embeddings=40)
