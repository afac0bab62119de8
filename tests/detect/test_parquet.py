import json

import pandas as pd
import pytest

from sficonv.detect.options import ScanOptions
from sficonv.detect.parquet import scan_to_parquet
from sficonv.detect.scan import scan


def test_one_row_per_file(media, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    out, options = tmp_path / "scan.parquet", ScanOptions(every=1.0)
    summary = scan_to_parquet([media, tmp_path / "text.jpg"], out, options)
    rows = pd.read_parquet(out)
    expected = [r.to_dict() for r in scan([media, tmp_path / "text.jpg"], every=1.0)]
    assert list(rows["path"]) == [r["path"] for r in expected]
    assert list(rows["verdict"]) == [r["verdict"] for r in expected]
    assert json.loads(rows["faces"][0]) == expected[0]["faces"]
    assert rows["p_fake"].isna().sum() == 2
    assert summary.files == 4
    assert summary.verdicts["error"] == 1
    assert summary.verdicts["no_face"] == 1


@pytest.mark.parametrize(
    ("name", "options", "word"), [("a.csv", {}, "parquet"), ("a.parquet", {"engine": "spark"}, "engine")]
)
def test_what_makes_no_sense_is_refused(media, tmp_path, name, options, word):
    with pytest.raises(ValueError, match=word):
        scan_to_parquet(media, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_on_a_cluster_the_rows_are_the_same(media, tmp_path):
    ray = pytest.importorskip("ray")
    (tmp_path / "text.jpg").write_text("no image")
    paths = [media, tmp_path / "text.jpg"]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        scan_to_parquet(paths, tmp_path / "ray.parquet", ScanOptions(every=1.0), engine="ray")
    finally:
        ray.shutdown()
    scan_to_parquet(paths, tmp_path / "local.parquet", ScanOptions(every=1.0))
    found, expected = (
        pd.read_parquet(tmp_path / name).sort_values("path", ignore_index=True)
        for name in ("ray.parquet", "local.parquet")
    )
    assert list(found["path"]) == list(expected["path"])
    assert list(found["verdict"]) == list(expected["verdict"])
    assert found["p_fake"].to_numpy() == pytest.approx(expected["p_fake"].to_numpy(), abs=1e-3, nan_ok=True)
