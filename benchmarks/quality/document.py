"""Write `docs/quality.md` from the rows: table, scenes, and pictures of the best, median and worst case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from benchmarks.quality import draws
from benchmarks.quality.cases import Case, all_cases
from benchmarks.quality.draws import Draws
from benchmarks.quality.experiments import findings
from benchmarks.quality.gains import Row, best_classical, by_family, decibel, gains
from benchmarks.quality.pictures import save_strip
from benchmarks.quality.runner import OURS, Settings
from benchmarks.quality.show import markdown

LIMITS = Path(__file__).with_name("limits.yaml")
HEADER = """# Restoration quality

Made by `INPAINT_DATA=... python -m benchmarks.quality --write`; edit the sentences in
[limits.yaml](../benchmarks/quality/limits.yaml), the rest is generated.

Test holes are cut into clean pixels of real images, written as ordinary files, and restored by the ordinary command
with its defaults. **Only hole pixels count**: PSNR in dB with the 1st to 99th percentile of the image as range, mean
over bands (of volumes: foreground voxels). A gain is over the classical fill that is best *on average over the family*:
nearest, harmonic, tension splines t = 0.1-1 (volumes: in mm and in voxels, linear and cubic between slices), all
computed in the same run on the same pixels. The interval is a cluster bootstrap over places or subjects (2000 draws,
95 %); with few places it is wide, and with one it is not known. *One place left out* is the range of the value without
each place in turn; where a floor holds only because of one place, the verdict says so. Scenes that the shipped weights
were trained on count only where fewer than three other places exist; notes say so.

This is no blind test. Training stopped where scenes of the list below that *choose the step* were restored best, and
the settings of the self-test and of the references were chosen with these holes in view
([references](decisions/references.md), [error bars](decisions/calibration.md)). No setting knows a file: each is one
number for all images.

What the method is and how it decides: [quality and self-test](quality-and-self-test.md).
"""
DRAWS = """
## Draws of hidden pixels

Which observed pixels a self-test hides is drawn from the [seed](config.md) of a run, and what is hidden decides what is
chosen. Families that depend on it most are restored with {count} seeds. Where they count in the table above, its values
and the ends of its intervals are means over the draws; all else on this page is of the first one, with the default
seed. Settings were chosen with that one, and none with the others: where it is better than they are by more than two
standard errors (over cases), they would be tuned to it. Gains are over the best classical fill of the family.
"""
EXPERIMENTS = """Experiments with hindsight: one part of the method is replaced by one that knows the truth. Where even
that misses the goal, that part is not what is missing. What the results mean stands below the table, at each family and
in [decisions](decisions/README.md).
"""

PICTURES = """Each picture shows the best, the median and the worst case of a family by gain, of the images that may be
shown; how many those are is said below it. Errors are black at 0 and white at a quarter of the range, the stated error
is one standard error.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything the page is made from: the rows of the first draw, and of each other one if there are several."""

    rows: Sequence[Row]
    draws: Draws = ()
    cases: Mapping[str, Case]
    settings: Settings
    complete: bool


def write_document(report: Report, page: Path) -> None:
    """Write the page and its pictures in `images/quality/` beside it."""
    good = [row for row in report.rows if "error" not in row]
    every = [row for draw in (report.rows, *report.draws) for row in draw]
    numbers = markdown(draws.mean_table(good, report.draws))
    parts = [HEADER, "## Numbers\n", numbers, _failures(report.rows, every), _draws(report), _scenes(good)]
    if not report.complete:
        parts.insert(1, "**Only a part of the cases was run for this page.**\n")
    parts += ["\n## What keeps families from their goals\n", EXPERIMENTS, _experiments(good, report)]
    said = YAML(typ="safe").load(LIMITS.read_text())
    families = by_family(good)
    parts += [f"\n**{name}.** {text.strip()}" for name, text in said.items() if name not in _families()]
    parts += ["\n## Best, median and worst\n", PICTURES]
    parts += [_family(family, families[family], report, page.parent / "images/quality", said) for family in families]
    minutes = sum(row["seconds"] for row in every if "error" not in row) / 60
    parts.append(f"\nSoftware state `{report.settings.state}`; the runs took {minutes:.0f} minutes in all.\n")
    page.write_text("\n".join(part for part in parts if part))


def _failures(cases: Sequence[Row], rows: Sequence[Row]) -> str:
    failed = [row for row in rows if "error" in row]
    count = f"{len(cases)} cases" + (f", {len(rows)} with those of all draws" if len(rows) > len(cases) else "")
    if not failed:
        return f"\n{count}, none failed."
    lines = [f"- {row['case']}: {row['error'].splitlines()[0][:160]}" for row in failed]
    return "\n".join([f"\n{count}, **{len(failed)} failed**:", "", *lines])


def _draws(report: Report) -> str:
    found = draws.scatters(report.rows, report.draws)
    return f"{DRAWS.format(count=len(report.draws) + 1)}\n{draws.markdown(found)}" if found else ""


def _experiments(rows: Sequence[Row], report: Report) -> str:
    lines = findings(rows, report.cases, report.settings)
    return "\n".join(
        ["| goal | experiment | result |", "|---|---|---|", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def _scenes(rows: Sequence[Row]) -> str:
    head = [
        "\n## Scenes\n",
        "*Trained on*: `other part` = other pixels of the same file or folder are in the training set.\n",
        "| scene | place or subject | sensor or contrast | sensor in training | trained on | chooses the step | cases "
        "| mean gain, dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    gain = gains(rows)
    table: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        known = "never" if row["unseen"] else "yes"
        chooses = "yes" if row["validated"] else ""
        key = (row["scene"], row["place"], row["sensor"], known, row["trained"], chooses)
        table.setdefault(key, []).append(gain[row["case"]])
    lines = [f"| {' | '.join(key)} | {len(v)} | {np.mean(v):+.2f} |" for key, v in sorted(table.items())]
    return "\n".join([*head, *lines])


def _families() -> set[str]:
    return {case.family for case in all_cases()}


def _family(family: str, rows: Sequence[Row], report: Report, folder: Path, said: Mapping[str, str]) -> str:
    gain, best = gains(rows), best_classical(rows)
    ranked = sorted(rows, key=lambda row: -gain[row["case"]])
    shown = [row for row in ranked if report.cases[row["case"]].scene.credit]
    text = [f"\n### {family[0].upper()}{family[1:]}\n"]
    if shown:
        chosen = [shown[i] for i in dict.fromkeys((0, len(shown) // 2, len(shown) - 1))]
        name = re.sub(r"[^a-z0-9]+", "-", family.lower()).strip("-")
        save_strip(folder / f"{name}.png", [(report.cases[r["case"]], r) for r in chosen], best, report.settings)
        credit = "; ".join(dict.fromkeys(report.cases[r["case"]].scene.credit for r in chosen))
        few = f", of {len(shown)} that may be shown of {len(rows)}" if len(shown) < len(rows) else ""
        text += [f"![{family}](images/quality/{name}.png)\n", f"*{credit}.* From top to bottom{few}:\n"]
        text += [_caption(row, gain[row["case"]], best) for row in chosen]
    hidden = {row["case"]: row for row in (ranked[0], ranked[-1]) if row not in shown}
    if hidden:
        names = ", ".join(f"{r['scene']} ({gain[r['case']]:+.2f} dB)" for r in hidden.values())
        text.append(f"\nAt the ends but not shown (licence): {names}.")
    text.append(f"\n**What limits it.** {said[family].strip()}" if family in said else "")
    return "\n".join(text)


def _caption(row: Row, gain: float, best: str) -> str:
    recipe = row["recipe"]
    used = [recipe["fill"], f"network {recipe['network_weight']:.1f}"]
    if recipe.get("reference_weights"):
        used.append("helpers " + ", ".join(f"{w:.1f}" for w in recipe["reference_weights"]))
    oracle = max((decibel(row, m), m) for m in row["methods"] if not m.startswith("ours"))
    scores = f"{decibel(row, OURS):.2f} dB against {decibel(row, best):.2f} of {best}"
    alike = ""
    if "agreement" in row:
        explained, changed = row["agreement"]
        alike = f"; a linear map of the helper explains {100 * explained:.0f} %, {100 * changed:.0f} % changed"
    return (
        f"- {row['scene']}: **{gain:+.2f} dB** ({scores}; best of this file: {oracle[1]}, {oracle[0]:.2f}); "
        f"90 % interval holds {100 * row['coverage']:.0f} %; used {', '.join(used)}{alike}"
    )
