"""A receipt drawn as a tree: every attempt under the step that made it, with its money, its time and its reason."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stretto.cli.terminal import duration, money, short, tokens

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

__all__ = ["tree"]

Receipt = Mapping[str, Any]

_COLOURS = {
    "finished": "green",
    "answered": "green",
    "failed": "red",
    "unknown": "yellow",
    "cancelled": "yellow",
    "running": "cyan",
    "interrupted": "yellow",
}


def tree(receipt: Receipt) -> "Tree":
    """The receipt of a run (`ledger.read.receipt`), ready to print."""
    from rich.tree import Tree

    root = Tree(_head(receipt), guide_style="dim")
    if receipt["denied"]:
        root.add(
            _line(
                ("not eligible: ", "dim"),
                ", ".join(f"{d['worker']} ({d['reason']})" for d in receipt["denied"]),
            )
        )
    if (request := receipt.get("request")) is not None:
        asked = root.add(_line(("asked", "bold")))
        for message in request["messages"]:
            asked.add(_line((f"{message['role']}: ", "dim"), _content(message)))
    branches: dict[str, Tree] = {"": root}
    for place in _places(receipt):
        _draw(place, receipt, _under(place, branches), branches)
    _tail(receipt, root)
    return root


def _head(receipt: Receipt) -> "Text":
    time = receipt["time"]
    policy = receipt["policy"]
    name = receipt["model"] if receipt["model"] == policy else f"{receipt['model']} ({policy})"
    calls = receipt["calls"]
    return _line(
        (receipt["run_id"], "bold"),
        f"  {name}  ",
        (receipt["status"], _COLOURS.get(receipt["status"], "")),
        f"  {money(receipt['cost_pico'])}  {calls} call{'' if calls == 1 else 's'}"
        f"  {tokens(receipt['usage']['input'], receipt['usage']['output'])} tokens"
        f"  {duration(time['total_seconds'])}, of which {duration(time['gateway_seconds'])} the gateway's own",
    )


def _tail(receipt: Receipt, root: "Tree") -> None:
    if (error := receipt["error"]) is not None:
        root.add(_line(("no answer ", "red"), f"{error['kind']}: {error.get('message', '')}"))
    elif receipt["status"] == "finished":
        at = f" at {receipt['served_at']}" if receipt["served_at"] else ""
        why = f": {receipt['why']}" if receipt["why"] else ""
        last = root.add(_line(("answer ", "green"), f"of {receipt['served_by'] or 'the policy'}{at}{why}"))
        if (answer := receipt.get("answer")) is not None:
            last.add(_line(_content(answer)))
    for score in receipt["scores"]:
        by = f" by {score['by']}" if score["by"] else ""
        root.add(_line(("score ", "cyan"), f"{score['score']:g}{by}  {score['comment']}"))
    if not receipt["consistent"]:
        root.add(_line(("the attempts do not add up to what was settled", "bold red")))
    if not receipt["content_kept"]:
        root.add(_line(("texts were not kept, or are erased", "dim")))


def _places(receipt: Receipt) -> list[str]:
    """Every address at which something happened, in the order of the plan."""
    events = [*receipt["attempts"], *receipt["choices"], *receipt["refused"], *receipt["joined"]]
    return sorted({event["at"] for event in events}, key=_order)


def _order(at: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", at)]


def _under(place: str, branches: "dict[str, Tree]") -> "Tree":
    """The node that a place belongs under: the branch of the fork around it, made on first sight."""
    fork, _, _ = place.rpartition("/")
    if fork in branches:
        return branches[fork]
    step, _, branch = fork.rpartition(".")
    parent = branches.get(step)
    if parent is None:
        parent = branches[step] = _under(step, branches).add(
            _line((f"{step}  ", "dim"), ("side by side", "bold"))
        )
    branches[fork] = parent.add(_line((f"{fork}  ", "dim"), f"branch {int(branch) + 1}"))
    return branches[fork]


def _draw(place: str, receipt: Receipt, under: "Tree", branches: "dict[str, Tree]") -> None:
    for choice in receipt["choices"]:
        if choice["at"] == place:
            _choice(choice, under)
    for attempt in receipt["attempts"]:
        if attempt["at"] == place:
            _attempt(attempt, under)
    for refused in receipt["refused"]:
        if refused["at"] == place:
            error = refused["error"]
            what = f"{refused['role']} {refused['worker']}: {error['kind']}: {error.get('message', '')}"
            under.add(_line((f"{place}  ", "dim"), ("refused  ", "yellow"), what))
    for joined in receipt["joined"]:
        if joined["at"] == place and place not in branches:
            branches[place] = under.add(
                _line((f"{place}  ", "dim"), ("side by side", "bold"), _quorum(joined))
            )


def _quorum(joined: Mapping[str, Any]) -> str:
    if not joined["dropped"]:
        return ""
    return f"  {len(joined['arrived'])} answered, {len(joined['dropped'])} not waited for"


def _choice(choice: Mapping[str, Any], under: "Tree") -> None:
    chance = "" if choice["probability"] == 1 else f" with chance {choice['probability']:.2f}"
    by = f"  [{choice['by']}]" if choice["by"] else ""
    node = under.add(
        _line(
            (f"{choice['at']}  ", "dim"),
            ("chose ", "magenta"),
            f"{choice['picked']}{chance}",
            (f"  {choice['reason']}{by}", "dim"),
        )
    )
    for option in choice["options"]:
        if option["rejected"]:
            node.add(_line(("✗ ", "dim"), option["name"], (f"  {option['rejected']}", "dim")))
        elif option["name"] != choice["picked"]:
            node.add(_line(("· ", "dim"), option["name"]))
    for name, text in choice.get("texts", {}).items():
        node.add(_line((f"{name}: ", "dim"), short(text, 400)))


def _attempt(attempt: Mapping[str, Any], under: "Tree") -> None:
    again = f" (attempt {attempt['attempt']})" if attempt["attempt"] > 1 else ""
    usage = attempt["usage"]
    figures = (
        f"  {tokens(usage['input'], usage['output'])} tokens  {money(attempt['cost_pico'])}"
        f"  {duration(attempt['seconds'])}"
    )
    node = under.add(
        _line(
            (f"{attempt['at']}  ", "dim"),
            f"{attempt['role']} ",
            (attempt["worker"], "bold"),
            again,
            ("  " + attempt["outcome"], _COLOURS.get(attempt["outcome"], "")),
            figures,
            (f"  {attempt['reason']}" if attempt["reason"] else "", "dim"),
        )
    )
    if (error := attempt["error"]) is not None:
        node.add(_line((f"{error['kind']}: {error.get('message', '')}", "red")))
    if attempt["dropped"]:
        node.add(_line(("parameters it does not know: " + ", ".join(attempt["dropped"]), "yellow")))
    if (texts := attempt.get("texts")) is not None:
        for message in texts["asked"] or ():
            node.add(_line((f"{message['role']}: ", "dim"), _content(message)))
        if texts["answered"] is not None:
            node.add(_line(("said: ", "dim"), _content(texts["answered"])))


def _content(message: Mapping[str, Any]) -> str:
    content = message["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content or ())
    calls = ", ".join(f"{call['name']}({call['arguments']})" for call in message["tool_calls"])
    return short(text or (f"calls {calls}" if calls else "(nothing)"), 400)


def _line(*parts: "str | tuple[str, str]") -> "Text":
    """A line of styled parts. Control characters of model texts do not reach the terminal."""
    from rich.text import Text

    line = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append("".join(c if c.isprintable() else " " for c in text), style)
    return line
