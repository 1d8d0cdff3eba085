"""Merging: tensors are mixed as the shares say, what cannot be averaged is refused, and a search that was killed goes on."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("cmaes")
pytest.importorskip("gguf")

import gguf
import numpy as np

from stretto.errors import ConfigError
from stretto.learning.merging import Model, Plan, Search, Space, evolve, read_model, space_of, write_model
from tests.tiny_gguf import tiny_gguf

QUERY = "blk.0.attn_q.weight"
HEAD = "output.weight"


def _models(folder: Path, count: int = 2) -> list[Model]:
    return [read_model(tiny_gguf(folder / f"m{k}.gguf", seed=k), f"m{k}") for k in range(count)]


def _space(folder: Path, *, based: bool = False) -> Space:
    first, second, third = _models(folder, 3)
    return space_of([first, second], third if based else None)


# --- the space ---------------------------------------------------------------------------------------------------


def test_equal_logits_are_the_mean(tmp_path: Path) -> None:
    """A genome of zeros is the plain mean of the parents, block by block."""
    space = _space(tmp_path)
    mixed, mean = space.mixed(np.zeros(space.size)), space.mean()
    assert space.blocks == ("token_embd", "output", "output_norm", "blk.0")
    assert all(np.allclose(mixed[name], mean[name], atol=1e-6) for name in mean)


def test_each_block_has_shares_of_its_own(tmp_path: Path) -> None:
    """A logit moves its block only, by softmax; the others stay at half and half."""
    space = _space(tmp_path)
    genome = np.zeros((4, 2))
    genome[3] = np.log([3, 1])  # blk.0: three quarters of the first
    mixed = space.mixed(genome.ravel())
    a, b = space.parents
    assert np.allclose(mixed[QUERY], 0.75 * a.tensors[QUERY] + 0.25 * b.tensors[QUERY], atol=1e-6)
    assert np.allclose(mixed[HEAD], 0.5 * a.tensors[HEAD] + 0.5 * b.tensors[HEAD], atol=1e-6)


def test_with_a_base_differences_are_added(tmp_path: Path) -> None:
    """Task arithmetic: base + sum of factor x (parent - base); factors may leave 0..1."""
    space = _space(tmp_path, based=True)
    assert space.base is not None
    genome = np.tile([1.5, -0.5], 4)
    a, b, base = (m.tensors[QUERY] for m in (*space.parents, space.base))
    assert np.allclose(space.mixed(genome)[QUERY], base + 1.5 * (a - base) - 0.5 * (b - base), atol=1e-5)


def test_the_starts_are_what_they_are_called(tmp_path: Path) -> None:
    """With a base, the start named after a parent is that parent, and `mean` the mean; without, 95 % of the parent."""
    space = _space(tmp_path, based=True)
    starts = space.starts()
    assert list(starts) == ["mean", "sum", "m0", "m1"]
    assert np.allclose(space.mixed(starts["m1"])[HEAD], space.parents[1].tensors[HEAD], atol=1e-5)
    assert np.allclose(space.mixed(starts["mean"])[HEAD], space.mean()[HEAD], atol=1e-5)
    plain = _space(tmp_path)
    assert plain.shares(plain.starts()["m0"])[0] == pytest.approx([0.9526, 0.0474], abs=1e-4)


def test_three_parents_share_to_one(tmp_path: Path) -> None:
    """Softmax over three parents: shares are positive and sum to one in every block."""
    space = space_of(_models(tmp_path, 3))
    shares = space.shares(np.random.default_rng(1).normal(size=space.size))
    assert shares.shape == (4, 3)
    assert np.allclose(shares.sum(1), 1)
    assert (shares > 0).all()


# --- files -------------------------------------------------------------------------------------------------------


def test_a_written_model_reads_back(tmp_path: Path) -> None:
    """Tensors, types and metadata survive; what the file says of itself is new, and tells where it comes from."""
    a, b = _models(tmp_path)
    space = space_of([a, b])
    notes = {
        "name": "both",
        "description": "m0 and m1.",
        "parents": [{"name": m.name, "sha256": m.sha256} for m in (a, b)],
        "seed": 3,
    }
    write_model(a, space.mean(), tmp_path / "deep" / "both.gguf", notes)
    found = read_model(tmp_path / "deep" / "both.gguf")
    assert all(np.array_equal(found.tensors[n], space.mean()[n].astype(np.float32)) for n in a.tensors)
    assert found.fields["general.name"][2] == "both"
    assert found.fields["general.base_model.1.name"][2] == "m1"
    assert json.loads(found.fields["stretto.merge"][2])["seed"] == 3
    kept = {key for key in a.fields if key.startswith(("llama.", "tokenizer."))}
    assert all(found.fields[key][2] == a.fields[key][2] for key in kept)


def test_equal_mixtures_are_equal_bytes(tmp_path: Path) -> None:
    """Writing twice gives the same file, so that its hash names the mixture."""
    space = _space(tmp_path)
    for name in ("x", "y"):
        write_model(space.parents[0], space.mean(), tmp_path / f"{name}.gguf")
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()


def test_half_precision_stays_half(tmp_path: Path) -> None:
    """A tensor that is F16 in the parents is F16 in the merged file."""
    a = read_model(tiny_gguf(tmp_path / "a.gguf"))
    half = Model(
        a.name, a.path, a.sha256, a.fields, a.tensors, {**a.types, QUERY: gguf.GGMLQuantizationType.F16}
    )
    write_model(half, a.tensors, tmp_path / "half.gguf")
    found = read_model(tmp_path / "half.gguf")
    assert found.types[QUERY] == gguf.GGMLQuantizationType.F16
    assert np.allclose(found.tensors[QUERY], a.tensors[QUERY], atol=1e-3)


# --- what is refused ---------------------------------------------------------------------------------------------


def _other(folder: Path, **fields: object) -> Model:
    return read_model(tiny_gguf(folder / "other.gguf", seed=9, fields=fields), "other")


def test_what_cannot_be_merged_is_said(tmp_path: Path) -> None:
    """One model, one model twice, another architecture, another vocabulary, other settings: each is named."""
    a, b = _models(tmp_path)
    with pytest.raises(ConfigError, match="two or three models, not 1"):
        space_of([a])
    with pytest.raises(ConfigError, match="different models"):
        space_of([a, a])
    with pytest.raises(ConfigError, match="m0 is a llama, other a qwen2"):
        space_of([a, _other(tmp_path, **{"general.architecture": "qwen2"})])
    tokens = list(a.fields["tokenizer.ggml.tokens"][2])
    tokens[300] = "else"
    with pytest.raises(ConfigError, match=r"vocabularies are not the same \(tokenizer.ggml.tokens\)"):
        space_of([a, _other(tmp_path, **{"tokenizer.ggml.tokens": tuple(tokens)})])
    with pytest.raises(ConfigError, match=r"differ in it \(llama.attention.head_count\)"):
        space_of([a, _other(tmp_path, **{"llama.attention.head_count": 4})])
    with pytest.raises(ConfigError, match="vocabularies"):
        space_of([a, b], _other(tmp_path, **{"tokenizer.ggml.tokens": tuple(tokens)}))


def test_another_shape_is_said(tmp_path: Path) -> None:
    """A tensor of another size, or one that only one of them has, is named with both shapes."""
    a, b = _models(tmp_path)
    b.tensors[QUERY].resize((16, 32), refcheck=False)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"attn_q.weight is 32 x 32 in m0 and 32 x 16 in m1"):
        space_of([a, b])
    del b.tensors[QUERY]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="missing in m1"):
        space_of([a, b])


def test_chat_templates_may_differ(tmp_path: Path) -> None:
    """The first parent's chat template is taken: it says how to ask, not how to reckon."""
    a, _ = _models(tmp_path)
    assert space_of([a, _other(tmp_path, **{"tokenizer.chat_template": "{{ messages }}"})]).size == 8


def test_quantised_and_broken_files_are_refused(tmp_path: Path) -> None:
    """Rounded weights cannot be averaged; what is no GGUF file is named."""
    writer = gguf.GGUFWriter(tmp_path / "q.gguf", "llama")
    data = gguf.quants.quantize(np.zeros((4, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_q.weight", data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ConfigError, match=r"attn_q.weight is quantised \(Q8_0\)"):
        read_model(tmp_path / "q.gguf")
    (tmp_path / "no.gguf").write_bytes(b"nothing of the kind, but long enough to be read")
    with pytest.raises(ConfigError, match="cannot be read as a GGUF file"):
        read_model(tmp_path / "no.gguf")
    with pytest.raises(ConfigError, match="is not there"):
        read_model(tmp_path / "none.gguf")


# --- the search --------------------------------------------------------------------------------------------------


class _Target:
    """Scores a file by how near it is to a mixture that nobody told the search; can be made to fail after some scores."""

    def __init__(self, space: Space, genome: object, lasts: int = 10_000) -> None:
        self._wanted, self._lasts, self.asked = space.mixed(genome), lasts, 0

    async def __call__(self, path: Path) -> float:
        if self.asked >= self._lasts:
            raise KeyboardInterrupt  # as good as a kill: nothing is tidied up
        self.asked += 1
        found = read_model(path).tensors
        return -float(sum(np.square(found[n] - self._wanted[n]).mean() for n in found))


GOAL = (1.2, -1.2, -0.8, 0.8, 0.0, 0.0, 1.6, -1.6)


def _evolved(space: Space, folder: Path, plan: Plan, lasts: int = 10_000) -> tuple[Search, int]:
    judge = _Target(space, np.array(GOAL), lasts)
    return asyncio.run(evolve(space, judge, judge, plan, folder)), judge.asked


def test_the_search_finds_the_mixture(tmp_path: Path) -> None:
    """On a score with one optimum the chosen shares are those of the optimum, far better than every start."""
    space = _space(tmp_path)
    found, _ = _evolved(space, tmp_path / "work", Plan(300, 0.3, 1))
    assert found.chosen.score > 0.02 * max(found.starts.values())  # scores are negative: 50 times nearer
    wanted = space.shares(np.array(GOAL))
    assert np.abs(space.shares(found.chosen.genome) - wanted)[[0, 1, 3]].max() < 0.08
    assert not (tmp_path / "work" / "candidate.gguf").exists()


@pytest.mark.parametrize("lasts", [1, 2, 9, 30, 64])
def test_a_killed_search_ends_like_one_that_was_not(tmp_path: Path, lasts: int) -> None:
    """Stopped anywhere, with the last line cut off: the same genomes, scores and choice, and no score is paid for twice."""
    space, plan = _space(tmp_path), Plan(60, 0.3, 4)
    whole, asked = _evolved(space, tmp_path / "whole", plan)
    with pytest.raises(KeyboardInterrupt):
        _evolved(space, tmp_path / "cut", plan, lasts)
    log = tmp_path / "cut" / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"kind": "evaluation", "gen')
    again, rest = _evolved(space, tmp_path / "cut", plan)
    assert rest == asked - lasts
    assert [e.score for e in again.evaluations] == [e.score for e in whole.evaluations]
    assert np.array_equal(again.chosen.genome, whole.chosen.genome)
    assert log.read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


def test_a_finished_search_asks_nothing_again(tmp_path: Path) -> None:
    """The log knows it all; another search is not mistaken for it."""
    space = _space(tmp_path)
    _evolved(space, tmp_path / "work", Plan(20, 0.3, 1))
    assert _evolved(space, tmp_path / "work", Plan(20, 0.3, 1))[1] == 0
    for other in (Plan(20, 0.3, 2), Plan(20, 0.2, 1), Plan(20, 0.3, 1, problems="others")):
        with pytest.raises(ConfigError, match="another search"):
            _evolved(space, tmp_path / "work", other)
    _, more = _evolved(space, tmp_path / "work", Plan(40, 0.3, 1))
    assert more > 0  # more evaluations go on where fewer ended


def test_the_start_can_be_named(tmp_path: Path) -> None:
    """`best` begins where the score is best; a name begins there; an unknown one is refused."""
    space = _space(tmp_path)
    assert _evolved(space, tmp_path / "a", Plan(10, 0.1, 1))[0].began == "m0"
    assert _evolved(space, tmp_path / "b", Plan(10, 0.1, 1, "mean"))[0].began == "mean"
    with pytest.raises(ConfigError, match="there are best, mean, m0, m1"):
        _evolved(space, tmp_path / "c", Plan(10, 0.1, 1, "m7"))


def test_luck_is_told_from_skill_by_other_problems(tmp_path: Path) -> None:
    """The finalists are chosen by the second score: what was best by luck on the first does not win."""
    space = _space(tmp_path)
    lucky: Iterator[float] = iter([0.0, 0.0, 0.0, *[k / 100 for k in range(10)]])
    second = iter([0.1, 0.2, 0.9, 0.3, 0.2])

    async def first(path: Path) -> float:
        return next(lucky)

    async def confirm(path: Path) -> float:
        return next(second)

    found = asyncio.run(evolve(space, first, confirm, Plan(10, 0.3, 1), tmp_path / "work"))
    assert (found.chosen.score, found.confirmed) == (0.07, 0.9)
