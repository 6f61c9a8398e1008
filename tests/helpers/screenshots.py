"""Make the pictures of the documentation: the data-flow diagram, and the first screen of the quickstart's report.

    python -m tests.helpers.screenshots jobs/images [--store STORE]

The screenshot needs Chromium (Debian package `chromium`). Stages that the store already holds are not run again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from html import escape
from pathlib import Path

import ftjobs

QUICKSTART = Path(__file__).parents[2] / "jobs" / "quickstart.yaml"
WIDTH, HEIGHT = 1000, 900
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

#: Boxes of the diagram: left, top, width, title, lines, color.
_BOXES = [
    (20, 40, 170, "job file", ["encoder, data,", "strategies, seeds"], "#eef2f7"),
    (20, 170, 170, "labeled texts", ["csv, jsonl, parquet,", "hub, s3://"], "#eef2f7"),
    (20, 300, 170, "encoder", ["hub, folder,", "or made on the spot"], "#eef2f7"),
    (260, 170, 150, "prepare", ["splits, digests,", "one copy of both"], "#dbe9f6"),
    (480, 40, 170, "adapt", ["masked LM on texts,", "no labels"], "#dcefdc"),
    (480, 170, 170, "classify", ["head only,", "on either encoder"], "#fdebd0"),
    (480, 300, 170, "classify", ["fine-tuned,", "on either encoder"], "#fdebd0"),
    (710, 170, 190, "report", ["what won, by how much,", "which model to ship"], "#e9dff0"),
]
_ARROWS = [
    ((190, 75), (290, 168)),
    ((190, 207), (258, 207)),
    ((190, 337), (290, 246)),
    ((410, 190), (478, 85)),
    ((410, 207), (478, 207)),
    ((410, 225), (478, 330)),
    ((565, 114), (565, 168)),
    ((650, 80), (770, 168)),
    ((650, 207), (708, 207)),
    ((650, 330), (770, 246)),
]
_STORE = (
    240,
    410,
    660,
    46,
    "storage: every stage publishes checkpoints, metrics and predictions for later stages",
)


def data_flow() -> str:
    """Return the diagram of a pipeline as SVG."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 476" font-family="Helvetica, Arial, sans-serif" '
        'role="img"><title>Data flow of a pipeline</title>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#4a5568"/></marker></defs>',
        '<rect width="920" height="476" rx="10" fill="#ffffff"/>',
    ]
    for (x1, y1), (x2, y2) in _ARROWS:
        parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#4a5568" stroke-width="1.6" marker-end="url(#tip)"/>'
        )
    for left, top, width, title, lines, color in _BOXES:
        parts.append(
            f'<rect x="{left}" y="{top}" width="{width}" height="74" rx="7" fill="{color}" stroke="#4a5568"/>'
            f'<text x="{left + width / 2}" y="{top + 24}" text-anchor="middle" font-size="16" font-weight="bold">'
            f"{escape(title)}</text>"
        )
        for number, line in enumerate(lines):
            parts.append(
                f'<text x="{left + width / 2}" y="{top + 44 + 17 * number}" text-anchor="middle" font-size="13">'
                f"{escape(line)}</text>"
            )
    left, top, width, height, text = _STORE
    parts.append(
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="7" fill="#f4f4f4" stroke="#4a5568" '
        f'stroke-dasharray="5 4"/><text x="{left + width / 2}" y="{top + 28}" text-anchor="middle" font-size="12">'
        f"{escape(text)}</text></svg>"
    )
    return "\n".join(parts) + "\n"


def screenshot(page: Path, picture: Path) -> None:
    """Write the first screen of an HTML page as PNG, with a palette of 128 colors.

    Raises:
        FileNotFoundError: no Chromium is installed.
    """
    from PIL import Image

    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise FileNotFoundError(f"none of {', '.join(_BROWSERS)} is installed; install the Debian package chromium")
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full.png"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={full}", page.absolute().as_uri()]
        subprocess.run(command, check=True, capture_output=True, env={"HOME": folder, "PATH": "/usr/bin:/bin"})
        Image.open(full).convert("RGB").quantize(128).save(picture, optimize=True)


def main() -> None:
    """Write `data-flow.svg` and `report.png` into the given folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", default=None)
    arguments = parser.parse_args()
    (arguments.folder / "data-flow.svg").write_text(data_flow(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as work:
        report = ftjobs.run(QUICKSTART, store=arguments.store or f"{work}/runs")
        stored = ftjobs.pull(QUICKSTART, f"{work}/report", stage="report", store=arguments.store or f"{work}/runs")
        screenshot(stored / "report.html", arguments.folder / "report.png")
    print(report.headline)


if __name__ == "__main__":
    main()
