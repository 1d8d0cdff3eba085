"""What `stretto train conductor` does at its end: the planner is asked live, beside what its rollouts said."""

import asyncio
from pathlib import Path

from stretto.cli.train_conductor import live
from stretto.config import parse
from stretto.sparring.problems import FAMILIES, composites, problems


def test_the_trained_planner_is_asked_live(tmp_path: Path) -> None:
    """The shipped planner carries composites out, which no worker alone solves, and simple problems are planned as well."""
    folder = Path("src/stretto/sparring/artifacts").absolute()
    settings = parse(f'[server]\ndata = "{tmp_path}"\n[pool]\nsparring = true\n', file="x.toml", environ={})
    those = [*problems(FAMILIES, "calibration", 6, 62), *composites("calibration", 6, 62)]
    right = asyncio.run(live(those, settings, folder))
    assert len(right) == 12
    assert sum(right[:6]) >= 4
    assert sum(right[6:]) >= 3
