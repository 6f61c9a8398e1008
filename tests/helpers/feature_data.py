"""Write the data files of `jobs/features/`: short synthetic texts from the quickstart's vocabulary.

python -m tests.helpers.feature_data jobs/features
"""

from __future__ import annotations

import csv
import io
import random
import sys
from pathlib import Path

from tests.helpers.quickstart_data import SUBJECTS, question

SEED = 7
ROWS = 240
TRAIN_ROWS = 180
PASSAGES = 150
#: Stars that a word adds to a review of three stars.
WORDS = {"splendid": 1.0, "sturdy": 0.5, "handy": 0.5, "plain": 0.0, "flimsy": -0.5, "noisy": -0.5, "useless": -1.0}
AUTHORS = [f"author-{number}" for number in range(1, 31)]


def ratings() -> list[tuple[str, str, str]]:
    """Reviews of tools: author, text and stars from 1 to 5."""
    rng = random.Random(SEED)
    rows = []
    for _ in range(ROWS):
        noun = rng.choice(SUBJECTS[rng.choice(list(SUBJECTS))]["noun"])
        words = rng.sample(list(WORDS), 3)
        stars = min(5.0, max(1.0, 3.0 + sum(WORDS[word] for word in words)))
        rows.append((rng.choice(AUTHORS), f"A {words[0]} {noun}, {words[1]} and {words[2]}.", f"{stars:g}"))
    return rows


def faults() -> list[tuple[str, str]]:
    """Reports of up to three faults: text and comma-separated subjects, an empty cell where nothing is broken."""
    rng = random.Random(SEED)
    rows = []
    for _ in range(ROWS):
        subjects = sorted(rng.sample(list(SUBJECTS), rng.randrange(4)))
        parts = [f"the {rng.choice(SUBJECTS[name]['noun'])} {rng.choice(SUBJECTS[name]['fault'])}" for name in subjects]
        rows.append(((" and ".join(parts) or "all is well today").capitalize() + ".", ",".join(subjects)))
    return rows


def subjects() -> list[tuple[str, str]]:
    """Questions with their subject, one of six; `garden` is three times as frequent as the others."""
    rng = random.Random(SEED)
    names = [*SUBJECTS, "garden", "garden"]
    chosen = [rng.choice(names) for _ in range(ROWS)]
    return [(question(rng, name), name) for name in chosen]


def passages() -> list[str]:
    """Paragraphs of three to six sentences on one subject."""
    rng = random.Random(SEED)
    return [
        " ".join(question(rng, name) for _ in range(rng.randint(3, 6)))
        for name in (rng.choice(list(SUBJECTS)) for _ in range(PASSAGES))
    ]


def files() -> dict[str, str]:
    """Name and content of every data file."""
    tables: dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]] = {
        "ratings.csv": (("author", "text", "stars"), [*ratings()]),
        "faults.csv": (("text", "subjects"), [*faults()]),
        "subjects.csv": (("text", "subject"), [*subjects()]),
    }
    contents = {}
    for name, (header, rows) in tables.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        contents[name] = text.getvalue()
    swapped = [f"{subject}\t{text}\n" for text, subject in subjects()]
    return {
        **contents,
        "passages.txt": "\n\n".join(passages()) + "\n",
        "splits/train.tsv": "".join(swapped[:TRAIN_ROWS]),
        "splits/test.tsv": "".join(swapped[TRAIN_ROWS:]),
    }


def main() -> None:
    """Write the files into the folder of the first argument."""
    for name, content in files().items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
