"""Pictures of the sparring pool's figures, drawn by matplotlib (extra `eval`) as small SVG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stretto.evaluation.verification import Bin

__all__ = ["heat_map", "reliability_diagram"]


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "stretto", "font.size": 8}
    import matplotlib.pyplot as plt

    return plt.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    import matplotlib.pyplot as plt

    plt.close(figure)


def heat_map(
    path: Path,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Mapping[tuple[str, str], float],
    title: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    colours: str = "cividis",
    form: str = "{:.2f}",
) -> None:
    """One coloured cell for each value, with the figure in it; a missing one stays white."""
    figure, axes = _figure(1.9 + 0.62 * len(columns), 1.5 + 0.24 * len(rows))
    plot = axes[0][0]
    cells = [[values.get((row, column), float("nan")) for column in columns] for row in rows]
    image = plot.imshow(cells, cmap=colours, vmin=low, vmax=high, aspect="auto")
    plot.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
    plot.set_yticks(range(len(rows)), rows)
    plot.set_title(title, fontsize=9)
    for y, line in enumerate(cells):
        for x, value in enumerate(line):
            if value == value:  # not a number: no figure
                red, green, blue, _ = image.cmap(image.norm(value))
                ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
                plot.text(x, y, form.format(value).replace("0.", "."), ha="center", va="center", color=ink, fontsize=7)
    for spine in plot.spines.values():
        spine.set_visible(False)
    _save(figure, path)


def reliability_diagram(path: Path, panels: Mapping[str, Mapping[str, Sequence[Bin]]], labels: Sequence[str]) -> None:
    """Per panel and line: the share of right answers over how sure somebody was, with intervals; on the diagonal it is honest.

    `labels` name the horizontal axes.
    """
    figure, axes = _figure(3.6 * len(panels), 3.6, len(panels))
    for plot, label, (title, lines) in zip(axes[0], labels, panels.items(), strict=True):
        plot.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
        for name, bins in lines.items():
            share = [b.right.value for b in bins]
            errors = [[b.right.value - b.right.low for b in bins], [b.right.high - b.right.value for b in bins]]
            errors = [[max(0.0, e) for e in side] for side in errors]
            plot.errorbar([b.value for b in bins], share, errors, marker="o", markersize=3, linewidth=1, label=name)
        plot.set_xlim(0, 1)
        plot.set_ylim(0, 1)
        plot.set_xlabel(label)
        plot.set_ylabel("share that was right")
        plot.set_title(title, fontsize=9)
        plot.legend(fontsize=7, loc="upper left")
    _save(figure, path)
