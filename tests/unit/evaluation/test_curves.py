"""The picture of a training: every line, level and point is in it, and odd values do no harm."""

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stretto.evaluation.curves import learning_curve

_SVG = "{http://www.w3.org/2000/svg}"


def _drawn(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_text(encoding="utf-8"))


def test_lines_levels_and_points_are_drawn_and_named(tmp_path: Path) -> None:
    """Two lines are two polylines with all their points; levels and the last values stand beside their names."""
    path = tmp_path / "deep" / "curve.svg"
    lines = {"train <a>": [(0, 0.1), (10, 0.5), (20, 0.62)], "held out": [(0, 0.1), (20, 0.4)]}
    learning_curve(
        path, lines, title="A & B", across="steps", up="right", marks={"best": 0.9}, dots=[(5, 0.3)]
    )
    root = _drawn(path)
    assert [len(line.attrib["points"].split()) for line in root.iter(f"{_SVG}polyline")] == [3, 2]
    said = [text.text for text in root.iter(f"{_SVG}text")]
    assert {"A & B", "train <a> 0.62", "held out 0.4", "best 0.9", "steps", "right"} <= set(said)
    assert len([*root.iter(f"{_SVG}circle")]) == 1


def test_names_do_not_stand_on_one_another(tmp_path: Path) -> None:
    """Five lines that end at the same height have their names one below the other."""
    path = tmp_path / "curve.svg"
    learning_curve(
        path, {f"line-{i}": [(0, 0), (1, 0.5)] for i in range(5)}, title="", across="x", up="y", marks={}
    )
    ends = [float(t.attrib["y"]) for t in _drawn(path).iter(f"{_SVG}text") if "line-" in (t.text or "")]
    assert all(b - a >= 12 for a, b in zip(sorted(ends), sorted(ends)[1:], strict=False))
    assert len(ends) == 5


@pytest.mark.parametrize(
    "points", [[], [(0, math.nan)], [(3, 0.0)], [(0, 1.0), (5, 1.0)], [(0, math.inf), (1, 0.2), (2, 0.3)]]
)
def test_odd_values_give_a_picture_all_the_same(tmp_path: Path, points: list[tuple[float, float]]) -> None:
    """No point, one point, a flat line, values that are no numbers: a well-formed file without any `nan`."""
    path = tmp_path / "curve.svg"
    learning_curve(path, {"one": points}, title="t", across="x", up="y")
    assert "nan" not in path.read_text()
    assert "inf" not in path.read_text()
    assert _drawn(path).tag == f"{_SVG}svg"
