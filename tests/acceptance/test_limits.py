"""Ceilings are promises: to a key across gateways, faults and kills, and to a single call."""

import asyncio
from pathlib import Path

from tests.acceptance.ceilings import pressure
from tests.acceptance.served import Caller, served
from tests.acceptance.upstream import Does, upstream


def test_a_ceiling_holds_for_200_callers_over_two_gateways_with_faults_and_a_kill(tmp_path: Path) -> None:
    """Settled and reserved money never pass the ceiling at any look; nothing is wrongly refused once reservations clear;
    in the end nothing is reserved, and the key has spent what the journals say to the last pico-dollar.
    """
    found = asyncio.run(pressure(tmp_path, callers=200, ceiling=0.5, kills=1, seed=20_261_120))
    print(found)
    assert found.violations == []
    assert found.kills == 1
    assert found.lost > 0
    assert found.answered > 200
    assert found.refused >= 3 * found.callers
    assert found.samples > 100
    assert 0.9 * found.ceiling < found.most <= found.ceiling
    assert found.left < found.smallest


def test_a_ceiling_holds_while_callers_hang_up(tmp_path: Path) -> None:
    """Callers who leave at any moment, waiting for money or in the middle of an answer, upset neither the sums nor each other."""
    found = asyncio.run(pressure(tmp_path, callers=100, ceiling=0.2, kills=0, seed=3, leaving=0.4))
    print(found)
    assert found.violations == []
    assert found.departed > 50
    assert set(found.failed) <= {"upstream_cut", "upstream_overloaded", "upstream_unavailable"}


JUDGED = """
[pool]
discover = false
sparring = false

[[worker]]
id = "one"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 1.0, output = 1.0 }}
abilities = ["text"]

[[worker]]
id = "two"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 1.0, output = 1.0 }}
abilities = ["text"]

[[worker]]
id = "judge"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 1000.0, output = 1000.0 }}
abilities = ["text"]

[policy.panel]
type = "fuse"
panel = ["one", "one", "two"]
judge = "judge"
"""


def test_a_panel_whose_judge_no_longer_fits_answers_by_vote_and_says_so(tmp_path: Path) -> None:
    """Under a money ceiling that pays the panel and not its judge, the answer is the panel's best one, with the reason."""

    async def run() -> None:
        texts = iter(("four", "five", "four", "four", "five", "four", "1"))
        async with upstream(lambda body: Does(text=next(texts)), keep=True) as up:
            with served(tmp_path, JUDGED.format(url=up.base_url)) as gateway:
                await gateway.started()
                caller = Caller(gateway.port)
                body = {
                    "model": "panel",
                    "messages": [{"role": "user", "content": "2 + 2?"}],
                    "max_tokens": 50,
                    "stretto": {"limits": {"usd": 0.001}},
                }
                answer = (await caller.call("POST", "/v1/chat/completions", body)).json
                assert answer["choices"][0]["message"]["content"] == "four"
                why = answer["stretto"]["why"]
                assert "judge" in why
                assert "limit" in why
                assert "2 of 3 agree" in why
                assert answer["stretto"]["calls"] == 3
                assert answer["stretto"]["cost_usd"] <= 0.001
                receipt = (await caller.call("GET", answer["stretto"]["receipt"])).json
                assert receipt["why"] == why
                (refused,) = receipt["refused"]
                assert (refused["role"], refused["worker"], refused["error"]["kind"]) == (
                    "judge",
                    "judge",
                    "limit",
                )
                assert len(up.bodies) == 3

                del body["stretto"]
                judged = (await caller.call("POST", "/v1/chat/completions", body)).json
                assert judged["stretto"]["calls"] == 4
                assert "picked by the judge" in judged["stretto"]["why"]
                caller.close()

    asyncio.run(run())
