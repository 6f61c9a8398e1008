"""Thousands of broken job files either plan or raise a UserError with one line per problem."""

import random
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from ftjobs.errors import UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import Job
from ftjobs.jobfile.read import read
from ftjobs.plan import plan

REFERENCE = (Path(__file__).parents[2] / "jobs" / "medical-questions.yaml").read_text()
FILES_PER_KIND = 300

ODD_VALUES = [
    *("", "~", "null", "true", "False", "yes", "0", "-1", "1", "3", "0.5", "-0.0", "1e999", "2e-5", ".inf", ".nan"),
    *("9" * 40, "9" * 5000, "1." + "3" * 5000, "0x1F", "1_000", "1:30", "2026-01-01", "٣", "8.0", '"8"', "'true'"),
    *("[]", "{}", "[1, a]", "{a: 1}", "[[[]]]", "{a: {b: {c: []}}}", "[null]", "{? [a] : b}", "{1: 2}", "{kind: adapt}"),
    *("[" * 30 + "]" * 30, "[" * 3000, "{a: " * 900 + "}" * 900, "- " * 2000),
    *("adapt", "head", "prepare", "report", "classify", "connected", "main", "adapted-head", "head > head", "a > b by 9"),
    *(".", "..", "./a.csv", "../x/*.csv", "~", "~nobody/x", "/", "/dev/zero", "*", "**", "[", "a[b", "s3://b/k", "x" * 5000),
    *('"\\0"', '"a\\nb"', '"\\ud800"', '"\\e[31m"', '"\\u2028"', "ä", "日本語", "🙂", "\ufeff", "\u202e", "'", '"', "`", "${HOME}"),
    *("*a", "&a", "&a b", "!!str a", "!!int a", "!!python/none", "!", "!x {}", "|", ">", "%", "@", "<<", "# x", "---", "..."),
    *("{train: a.csv}", "{train: 1, test: a}", "{scratch: {}}", "{scratch: {vocab_size: 1}}", "{kind: classify, kind: adapt}"),
]  # fmt: skip
KEYS = [
    *Job.model_fields,
    *("epochs", "encoder", "kind", "freeze_encoder", "learning_rate", "source", "split", "model"),
]
PATHS = [
    *("name", "seeds", "encoder", "encoder.model", "encoder.scratch.seed", "data.source", "data.source.train", "data.text"),
    *("data.split.test_fraction", "stages", "stages.head", "stages.head.epochs", "stages.head.encoder", "stages.new.kind"),
    *("defaults.adapt", "defaults.classify.encoder", "hypotheses", "tracking.wandb.project", "a", "", ".", "a..b", "0", "ä.\n"),
]  # fmt: skip

Mutation = Callable[[random.Random, str], str]


def lines(pick: random.Random, text: str) -> str:
    """Delete, repeat, swap or indent lines."""
    rows = text.split("\n")
    for _ in range(pick.randint(1, 3)):
        first, second = pick.randrange(len(rows)), pick.randrange(len(rows))
        match pick.randrange(4):
            case 0 if len(rows) > 1:
                del rows[first]
            case 1:
                rows.insert(second, rows[first])
            case 2:
                rows[first], rows[second] = rows[second], rows[first]
            case _:
                rows[first] = pick.choice([" ", "  ", "\t", "- ", "# "]) + rows[first]
    return "\n".join(rows)


def characters(pick: random.Random, text: str) -> str:
    """Delete, insert, swap or replace characters."""
    chars = list(text)
    for _ in range(pick.randint(1, 6)):
        first, second = pick.randrange(len(chars)), pick.randrange(len(chars))
        match pick.randrange(4):
            case 0:
                del chars[first]
            case 1:
                chars.insert(first, pick.choice("{}[]:,#&*!|>'\"%@` -\n\t\0\x07\x85\u2028\ufffeé0"))
            case 2:
                chars[first], chars[second] = chars[second], chars[first]
            case _:
                chars[first] = chr(pick.choice([pick.randrange(128), pick.randrange(0xD800), 0x1F642]))
    return "".join(chars)


def values(pick: random.Random, text: str) -> str:
    """Replace what follows one or two colons: in a flow mapping up to the comma, else up to the line's end."""
    for _ in range(pick.randint(1, 2)):
        colons = [at for at, char in enumerate(text) if text.startswith(": ", at) or text.startswith(":\n", at)]
        if not colons:
            break
        start = pick.choice(colons) + 1
        ends = [at for at in (text.find(end, start) for end in pick.choice([",}\n", "}\n", "\n"])) if at > 0]
        text = f"{text[:start]} {pick.choice(ODD_VALUES)}{text[min(ends, default=len(text)) :]}"
    return text


def keys(pick: random.Random, text: str) -> str:
    """Replace a key, everywhere or once, or add one."""
    key = pick.choice(
        ["name", "encoder", "data", "source", "text", "label", "split", "seeds", "stages", "kind", "head"]
    )
    new = pick.choice([*KEYS, *ODD_VALUES])
    if pick.random() < 0.3:
        return f"{text}\n{new}: {pick.choice(ODD_VALUES)}\n"
    return text.replace(f"{key}:", f"{new}:", pick.choice([1, -1]))


def nesting(pick: random.Random, text: str) -> str:
    """Hang something deep or wide under a key."""
    depth = pick.choice([10, pick.randrange(1000), 2000])
    deep = pick.choice(
        [
            "[" * depth + "]" * depth,
            "{a: " * depth + "1" + "}" * depth,
            "".join("\n" + " " * level + "a:" for level in range(4, min(depth, 700))),
            "[" + ", ".join(["1"] * depth) + "]",
            "{" + ", ".join(f"k{index}: {{kind: adapt, encoder: k{index + 1}}}" for index in range(depth // 10)) + "}",
        ]
    )
    key = pick.choice(["name:", "stages:", "data:", "seeds:", "epochs:", "hypotheses:", "x:"])
    return text.replace(key, f"{key} {deep}\nrest:", 1) if key in text else f"{text}\n{key} {deep}\n"


def bytes_(pick: random.Random, text: str) -> str:
    """Random bytes, here as surrogates where they are no UTF-8."""
    data = bytearray(text.encode())
    for _ in range(pick.randint(1, 4)):
        data[pick.randrange(len(data))] = pick.randrange(256)
    return bytes(data).decode("utf-8", "surrogateescape")


def several(pick: random.Random, text: str) -> str:
    for mutation in pick.choices([lines, characters, values, keys], k=3):
        text = mutation(pick, text or "a: b")
    return text


def overrides(pick: random.Random) -> list[str]:
    def setting() -> str:
        odd = f"{pick.choice(PATHS)}={pick.choice(ODD_VALUES)}"
        return characters(pick, odd) if pick.random() < 0.2 else odd

    return [setting() for _ in range(pick.randint(1, 3))]


def outcome(path: Path, sets: list[str]) -> str:
    """`planned` or `refused`; anything else fails with what reproduces it."""
    try:
        runs = plan(read(path, sets))
    except UserError as error:
        assert error.exit_code == 2
        assert error.problems
        for problem in error.problems:
            assert problem.strip(), "an empty message"
            assert problem.isprintable(), f"more than a line: {problem!r}"
        return "refused"
    except Exception as error:
        repeat = " ".join(f"--set {shlex.quote(setting)}" for setting in sets)
        pytest.fail(f"{type(error).__name__}: {error}\nof the job file {path.read_bytes()!r} {repeat}")
    assert runs[0].stage == "prepare"
    assert runs[-1].stage == "report"
    return "planned"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder, and no mutated path makes us read files outside it."""
    expand = local_files.expand

    def expand_here(source: str, *field: str) -> list[Path]:
        inside = Path(source).resolve().is_relative_to(tmp_path) if "\0" not in source else True
        if not inside:
            raise UserError(f"data.source: {source!r} is outside")
        return expand(source, *field)

    monkeypatch.setattr(local_files, "expand", expand_here)
    monkeypatch.setattr("ftjobs.plan.encoder_content", lambda encoder: [])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mutation", [lines, characters, values, keys, nesting, bytes_, several])
def test_mutated_files_are_refused_or_planned(mutation: Mutation, here):
    pick = random.Random(f"{mutation.__name__} 1")
    path = here / "job.yaml"
    files = FILES_PER_KIND // 5 if mutation is nesting else FILES_PER_KIND  # what is deep is slow
    outcomes = []
    for _ in range(files):
        path.write_bytes(mutation(pick, REFERENCE).encode("utf-8", "surrogateescape"))
        outcomes.append(outcome(path, overrides(pick) if pick.random() < 0.1 else []))
    assert outcomes.count("refused") > files / 10  # the mutations do break something


def test_odd_overrides_are_refused_or_planned(here):
    pick = random.Random("overrides 1")
    path = here / "job.yaml"
    path.write_text(REFERENCE)
    outcomes = [outcome(path, overrides(pick)) for _ in range(FILES_PER_KIND)]
    assert outcomes.count("refused") > FILES_PER_KIND / 10
    assert outcomes.count("planned") > 0


def test_random_bytes_are_refused_or_planned(here):
    pick = random.Random("bytes 1")
    path = here / "job.yaml"
    for _ in range(FILES_PER_KIND):
        path.write_bytes(pick.randbytes(pick.randrange(200)))
        assert outcome(path, []) == "refused"
