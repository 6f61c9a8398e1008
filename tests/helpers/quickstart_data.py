"""Write the data set of the quickstart: pairs of short, synthetic questions to a neighborhood advice line.

    python -m tests.helpers.quickstart_data > jobs/quickstart.csv

Every question is about one of six subjects and uses five words of that subject's vocabulary. A pair is `similar` if both
questions are about the same subject, else `different`. The subject is not a column: a label carries one bit about a pair
and nothing about a single word, while the questions alone, without labels, show which words occur together. Adaptation to
a domain can learn that; labels hardly can.

Grammar and word lists were written for this project. Word frequencies follow Zipf's law (Zipf 1949). No question occurs
twice, and six labels in a hundred are wrong, as in manual labels, so that 94 % is the ceiling of accuracy.
"""

from __future__ import annotations

import csv
import random
import sys

SEED = 20240
PAIRS = 3000
WRONG_LABELS = 0.06

#: Vocabulary of each subject by position in the sentence, most frequent word first. Two words are ambiguous: "frame", "sticky".
SUBJECTS: dict[str, dict[str, list[str]]] = {
    "bicycle": {
        "noun": ["chain", "saddle", "brake", "tyre", "pedal", "spoke", "handlebar", "frame"],
        "fault": ["squeaks", "wobbles", "slips", "rattles"],
        "quality": ["rusty", "bent", "greasy", "worn"],
        "action": ["tighten", "oil", "straighten", "adjust"],
    },
    "heating": {
        "noun": ["boiler", "radiator", "valve", "thermostat", "pipe", "burner", "gauge", "flue"],
        "fault": ["leaks", "overheats", "gurgles", "hisses"],
        "quality": ["lukewarm", "noisy", "corroded", "insulated"],
        "action": ["bleed", "drain", "descale", "flush"],
    },
    "bees": {
        "noun": ["hive", "queen", "honeycomb", "swarm", "brood", "colony", "drone", "frame"],
        "fault": ["hums", "vanishes", "crawls", "stings"],
        "quality": ["crowded", "sticky", "golden", "waxy"],
        "action": ["smoke", "feed", "inspect", "harvest"],
    },
    "sewing": {
        "noun": ["thread", "needle", "seam", "zipper", "hem", "bobbin", "collar", "lining"],
        "fault": ["frays", "snags", "puckers", "unravels"],
        "quality": ["cotton", "loose", "silk", "pleated"],
        "action": ["sew", "iron", "stitch", "unpick"],
    },
    "baking": {
        "noun": ["dough", "loaf", "crust", "yeast", "pastry", "batter", "sourdough", "brioche"],
        "fault": ["sinks", "burns", "crumbles", "collapses"],
        "quality": ["stale", "crisp", "buttery", "sticky"],
        "action": ["knead", "bake", "glaze", "prove"],
    },
    "garden": {
        "noun": ["rose", "tomato", "hedge", "seedling", "lawn", "lettuce", "compost", "bulb"],
        "fault": ["wilts", "rots", "droops", "shrivels"],
        "quality": ["thirsty", "leafy", "shady", "potted"],
        "action": ["water", "prune", "plant", "mulch"],
    },
}

TEMPLATES = [
    "My {quality} {noun} {fault} when I {action} the {other}.",
    "Should I {action} the {noun} when the {quality} {other} {fault}?",
    "The {noun} {fault}, do I {action} the {quality} {other}?",
    "How do I {action} my {quality} {noun} if the {other} {fault}?",
    "Can I {action} the {quality} {noun} before the {other} {fault}?",
]


def _draw(rng: random.Random, words: list[str]) -> str:
    """Draw a word; the probability of the n-th is proportional to 1/n."""
    return rng.choices(words, [1 / rank for rank in range(1, len(words) + 1)])[0]


def question(rng: random.Random, subject: str) -> str:
    """Return a question about a subject, with two different nouns."""
    vocabulary = SUBJECTS[subject]
    words = {place: _draw(rng, vocabulary[place]) for place in vocabulary}
    other = _draw(rng, [noun for noun in vocabulary["noun"] if noun != words["noun"]])
    return rng.choice(TEMPLATES).format(other=other, **words)


def rows(seed: int = SEED, pairs: int = PAIRS) -> list[tuple[str, str, str]]:
    """Return the data set: `(question_1, question_2, label)`, half of them similar before label noise."""
    rng = random.Random(seed)
    seen: set[str] = set()

    def fresh(subject: str) -> str:
        while (text := question(rng, subject)) in seen:
            pass
        seen.add(text)
        return text

    pairs_with_labels = []
    for number in range(pairs):
        first, second = rng.sample(list(SUBJECTS), 2)
        similar = number % 2 == 0
        texts = fresh(first), fresh(first if similar else second)
        labeled_similar = similar != (rng.random() < WRONG_LABELS)
        pairs_with_labels.append((*texts, "similar" if labeled_similar else "different"))
    rng.shuffle(pairs_with_labels)
    return pairs_with_labels


def main() -> None:
    """Write the data set to standard output as CSV."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("question_1", "question_2", "label"))
    writer.writerows(rows())


if __name__ == "__main__":
    main()
