"""What a model is believed to be good for, by its name: shipped figures from recorded outcomes, in `repute.json`.

`recipes/profile_priors.py` makes the file. A model that was measured has its own figures; another member of a known family those
of its family at its price and age; of any other name only the price is known.
"""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stretto.artifacts import Artifact, read
from stretto.types import Believed, Price

__all__ = ["REPUTE_SCHEMA", "Repute", "family", "repute", "shipped", "size", "stem", "thinks", "version"]

REPUTE_SCHEMA: Final = "stretto.repute/1"

_FILE: Final = re.compile(r"-(?:gguf|ggml|awq|gptq|mlx|fp8|fp16|bf16|int[48]|i?q\d(?:-[a-z0-9]{1,3}){0,2})$")
_TAIL: Final = re.compile(
    r"-(?:latest|preview|exp|beta|free|versatile|hf|it|chat|inst|instruct|\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{2}-\d{2}-\d{2}"
    r"|\d{3,4}|v0\d|v0-\d|v\d-0|(?<=b-)v1|(?<=instruct-)turbo|(?<=b-)instant)$"
)
_WHERE: Final = re.compile(r"@.*|\(.*|\[.*")
_MAKER: Final = re.compile(
    r"^(?:(?:us|eu|apac|global)\.)?(?:(?:openai|anthropic|google|mistralai|x-ai|xai|deepseek-ai|microsoft|cohere)[._-]"
    r"|(?:meta-llama|meta|mistral|deepseek|qwen|amazon|nvidia|ai21)[._])(?=[a-z])"
)
_JOINED: Final = re.compile(r"^(llama|qwen|gemma|phi|yi)(?=\d)")
_CLAUDE: Final = re.compile(r"^claude-(opus|sonnet|haiku)-(\d(?:-\d)?)(?=$|-)")
_FAMILY: Final = re.compile(
    r"^(?:(?P<gpt>gpt|chatgpt)-|(?P<o>o\d)(?=$|-)|(?P<qwen>qwen|qwq)-|(?P<mistral>mistral|mixtral|ministral|open-mi[sx]tral)-"
    r"|(?P<other>claude|gemini|gemma|llama|deepseek|grok|phi|yi|command|reka|jamba|nova)-)"
)
_TUNED: Final = re.compile(r"distill|uncensored|abliterated|chatqa|nemotron|coder|math|code|vision|vl-")
_VERSION: Final = re.compile(r"(?:^|-)[a-z]{0,2}(\d{1,2})(?:-(\d))?(?=o?(?:-|$))")
_THINKS: Final = re.compile(
    r"^o\d(?=$|-)|(?:^|-)(?:r1|qwq|thinking|reasoner|reasoning)(?=$|-)|^gpt-[5-9]|^grok-(?:3-mini|4)|^magistral"
)


def stem(model: str) -> str:
    """A model's name without what does not make it another model: vendor, date, quantisation, host, `instruct`, case, dots."""
    name = _WHERE.sub("", model.strip().lower()).strip().rsplit("/", 1)[-1]
    name = re.sub(r"[ ._:]+", "-", _MAKER.sub("", name)).strip("-")
    name = re.sub(r"-v(\d)p(\d)(?=-)", r"-\1-\2", _JOINED.sub(r"\1-", name))
    name = re.sub(r"^(?:meta-(?=llama)|c4ai-|open-(?=mi[sx]tral))", "", name)
    name = _CLAUDE.sub(r"claude-\2-\1", name)
    while (shorter := _TAIL.sub("", _FILE.sub("", name))) != name:
        name = _ALIASES.get(name) or shorter
    return _ALIASES.get(name, name)


_ALIASES: Final[Mapping[str, str]] = {
    "gpt-4-1106-preview": "gpt-4-turbo",
    "gpt-4-1106": "gpt-4-turbo",
    "gpt-4-0125-preview": "gpt-4-turbo",
    "gpt-4-0125": "gpt-4-turbo",
    "chatgpt-4o": "gpt-4o",
    "deepseek-chat-v2": "deepseek-v2",
    "deepseek-v2-coder": "deepseek-coder-v2",
    "mistral-large-2": "mistral-large",
    "mistral-small": "mistral-small-3-1-24b",
    "phi-3-mini": "phi-3-mini-4k",
    "phi-3-mini-128k": "phi-3-mini-4k",
    "phi-3-5": "phi-3-5-mini",
    "mistral-nemo-12b": "mistral-nemo",
    "grok-3-mini-fast": "grok-3-mini",
}
"""Names of the same model that no rule would find."""


def family(name: str) -> str:
    """The family of a stem, or "": only where the name begins with it, and not of one that was tuned or cut for another job."""
    found = _FAMILY.match(name)
    if found is None or _TUNED.search(name):
        return ""
    kind = found.lastgroup or ""
    return found.group(kind) if kind == "other" else kind


def version(name: str) -> float | None:
    """The version in a stem: 3.5 of `claude-3-5-sonnet`, 4 of `gpt-4o`; `None` where there is none."""
    found = _VERSION.search(name)
    return None if found is None else int(found.group(1)) + (int(found.group(2) or 0)) / 10


def thinks(name: str) -> bool:
    """Whether a model of this stem reasons at length before it answers."""
    return _THINKS.search(name) is not None


def size(name: str) -> float | None:
    """The billions of parameters that a stem tells: 8 of `llama-3-1-8b`, 56 of `mixtral-8x7b`; `None` where it does not."""
    found = _SIZE.search(name)
    return None if found is None else float(found.group(1) or 1) * float(found.group(2).replace("-", "."))


_SIZE: Final = re.compile(r"(?:^|-)(?:(\d+)x)?(0-\d|1-5|\d+)b(?=$|-)")


@dataclass(frozen=True, slots=True)
class Repute:
    """What an artefact of schema `REPUTE_SCHEMA` says of models. Its data:

    `models` {stem: [log-odds, error]}, `families` {name: {`odds`, `years` {version or "": year}}}, `slopes` {level, price, year,
    thinks} [value, error], `centre` {price, year}, `left` (how far members of a family differ), `oldest`, `newest` (year),
    `prices` (log10: lowest, highest), `size` (log10 of the price by log10 of the billions of parameters: level, slope).
    """

    artifact: Artifact

    def of(self, model: str, price: Price | None = None) -> Believed | None:
        """What is believed of a model: `price` counts where it has no record of its own. `None`: it is of no known family."""
        data, name = self.artifact.data, stem(model)
        if (own := data["models"].get(name)) is not None:
            return Believed(own[0], own[1], name)
        if (kin := data["families"].get(family(name))) is None:
            return None
        centre, slopes = data["centre"], data["slopes"]
        away = {
            "level": 1.0,
            "price": self._price(name, price) - centre["price"],
            "year": _year(version(name), kin["years"], data["oldest"], data["newest"]) - centre["year"],
            "thinks": float(thinks(name)),
        }
        odds = kin["odds"][0] + sum(slopes[k][0] * by for k, by in away.items())
        left = (
            kin["odds"][1] ** 2 + data["left"] ** 2 + sum((slopes[k][1] * by) ** 2 for k, by in away.items())
        )
        return Believed(
            round(odds, 3), round(math.sqrt(left), 3), f"the family {family(name)}", measured=False
        )

    def _price(self, name: str, price: Price | None) -> float:
        """Log10 of USD per million tokens, of a free model by its size; not beyond what the fit has seen."""
        data, billions = self.artifact.data, size(name)
        usd = 0.0 if price is None else (0.75 * price.input + 0.25 * price.output) / 1e6
        if usd > 0:
            found = math.log10(usd)
        elif billions:
            found = data["size"][0] + data["size"][1] * math.log10(billions)
        else:
            return float(data["centre"]["price"])
        return float(min(data["prices"][1], max(data["prices"][0], found)))


def _year(told: float | None, years: Mapping[str, float], oldest: float, newest: float) -> float:
    """When a version came out: as the next older known one; a year sooner or later for each whole version that it is older or
    newer than all that are known; where none is told, in the middle of its family.
    """
    known = sorted((float(v), year) for v, year in years.items() if v)
    if told is None or not known:
        return sum(years.values()) / len(years)
    first, last = known[0], known[-1]
    if told < first[0]:
        return max(oldest, first[1] - (first[0] - told))
    if told > last[0]:
        return min(newest, last[1] + (told - last[0]))
    return max(pair for pair in known if pair[0] <= told)[1]


@functools.cache
def shipped() -> Repute:
    """What ships."""
    return Repute(read(Path(__file__).with_name("repute.json"), REPUTE_SCHEMA))


def repute(model: str, price: Price | None = None) -> Believed | None:
    """What is believed of a model of this name at this price, by what ships."""
    return shipped().of(model, price)
