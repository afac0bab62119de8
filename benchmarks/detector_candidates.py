"""The shipped detector beside the vanilla network by the same recipe, and beside a longer one on loose crops.

    python benchmarks/detector_candidates.py

Reads the scores that `publish_detector.py` measured (`measured/default_detector.csv`) and those of two more
trainings by `default_detector.py` (`measured/vanilla_detector.csv`, `measured/longer_training.csv`), and
writes the comparison into docs/results.md: validation rows, and test rows beside them. None of the three was
trained on any of these rows.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score

from document import write_between
from sficonv.evaluation import frame_to_video
from sficonv.evaluation.pooled import pooled
from sficonv.evaluation.score_table import table_in_memory
from sficonv.evaluation.scores import read_scores

MEASURED = Path(__file__).parent / "measured"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
MARKS = "<!-- candidates: written by benchmarks/detector_candidates.py -->", "<!-- end of candidates -->"
CANDIDATES = {
    "SFIC, 3,900 steps (shipped)": "default_detector.csv",
    "vanilla, 3,804 steps": "vanilla_detector.csv",
    "SFIC, 7,107 steps, zoom up to 1.38": "longer_training.csv",
}
CHOOSES = ["ffpp c23", "ffpp c40", "dfdc", "ffhq", "celeba", "utkface"]  # validation rows
BESIDE = ["celebdf", "ffpptest", "dfdc", "ffhq", "lfw"]  # test rows


def figures(rows: pd.DataFrame) -> dict[str, str]:
    """AUC of each source with both labels, and what one threshold for all catches."""
    out = {}
    for source, part in rows.groupby("source"):
        if part["label"].nunique() == 2:
            videos = frame_to_video(part)
            out[f"{source}, video AUC"] = f"{roc_auc_score(videos['label'], videos['p_fake']):.3f}"
    found = pooled(
        read_scores(table_in_memory(rows.assign(dataset=rows["source"]), "scores"))[0], level="frame"
    )
    out["pooled AUC, crops"] = f"{found.auc:.3f}"
    for source, share in found.caught.items():
        out[f"{source}, crops caught"] = f"{share:.0%}"
    return out


def main() -> None:
    columns: dict[str, dict[str, str]] = {}
    for name, file in CANDIDATES.items():
        rows = pd.read_csv(MEASURED / file, keep_default_na=False)
        val = rows[(rows["split"] == "val") & rows["source"].isin(CHOOSES)]
        test = rows[(rows["split"] == "test") & rows["source"].isin(BESIDE)]
        columns[name] = {f"validation: {k}": v for k, v in figures(val).items()}
        columns[name] |= {f"test: {k}": v for k, v in figures(test).items()}
    table = pd.DataFrame(columns)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(row) + " |"
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    write_between(PAGE, MARKS, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
