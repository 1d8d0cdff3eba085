"""The Conductor's planner as a model of 7B on GPUs: TRL's GRPO with vLLM, settings in `conductor_7b.toml`.

    python recipes/conductor_7b.py --check             # random weights, this machine: loading and one step of each code path
    python recipes/conductor_7b.py --train --out DIR   # needs GPUs, `pip install trl vllm`, the weights, workers and problems

`--check` makes a Qwen2 of the shape in `[check]` with random weights and a tokenizer of its own, writes both to a folder, loads
them as the 7B would be loaded, samples workflows, plays them over the sparring pool, takes one step by `stretto.learning`; where
TRL is installed, one by TRL's trainer, too. Nobody has run `--train` on this project's machines.
"""

import argparse
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import Request, urlopen

from stretto.learning.conductor.data import cases, mask, plan_text, tasks_of
from stretto.policies.forms import TAGGED, Seen
from stretto.policies.planning import PROMPTED
from stretto.policies.workflow import Allowed, Workflow, parse, step_prompt, waves

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main() -> None:
    """Check or train."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--config", type=Path, default=Path(__file__).with_suffix(".toml"))
    options.add_argument("--check", action="store_true")
    options.add_argument("--train", action="store_true")
    options.add_argument("--out", type=Path, default=Path("conductor-7b"))
    given = options.parse_args()
    told = tomllib.loads(given.config.read_text(encoding="utf-8"))
    if given.check:
        check(told)
    elif given.train:
        train(told, given.out)
    else:
        options.print_help()


# --- on this machine -----------------------------------------------------------------------------------------------


def check(told: dict[str, Any]) -> None:
    """Load a randomly initialised model of the architecture and take one optimisation step with it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from stretto.cli.local_pool import replies
    from stretto.learning.conductor.chat import ChatTongue
    from stretto.learning.conductor.model import Written, log_probabilities
    from stretto.learning.conductor.play import play, reward
    from stretto.learning.conductor.rounds import Group, Table, generator_for, grpo_round, roll
    from stretto.sparring import entries

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        _random(told["check"], made / "model")
        model = AutoModelForCausalLM.from_pretrained(made / "model", dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(made / "model")
        parameters = sum(p.numel() for p in model.parameters())
        print(f"loaded: {model.config.model_type}, {parameters} parameters, {len(tokenizer)} tokens")
        tongue = ChatTongue(tokenizer)
        workers = tuple(entry.id for entry in entries() if entry.role == "solver")
        group = told["check"]["rollouts"]
        [case] = cases("train", (1, 0, 0), 61, len(workers))
        with replies(made / "replies.jsonl", made) as book:
            table = Table(tongue, workers, book, 64)
            [rolled] = roll(model, table, [case], group=group, generator=generator_for(1))
            print(
                f"sampled {group} texts, {sum(p.valid for p in rolled.played)} of them workflows, as random weights write"
            )
            # random weights write no workflow, and a group of one mind moves nothing: two workflows are put beside them
            tasks = tasks_of(case.problem)
            texts = [plan_text([n], tasks) for n in (0, 1)]
            played = play([case] * 2, texts, book, workers)
            rows = [(tongue.reads(case.prompt), tongue.writes(text)) for text in texts]
            with torch.no_grad():
                chances = [log_probabilities(model, [row], tongue.end)[0].tolist() for row in rows]
            beside = [Written(row[1], chance) for row, chance in zip(rows, chances, strict=True)]
            whole = Group(
                rolled.prompt,
                [*rolled.written, *beside],
                [*rolled.played, *played],
                [*rolled.rewards, *(reward(one) for one in played)],
            )
            optimizer = _optimizer(told, model)
            before = sum(sum(chance) for chance in chances)
            [stepped] = grpo_round(model, optimizer, [whole], table, parts=1)
            with torch.no_grad():
                after = sum(float(log_probabilities(model, [row], tongue.end)[0].sum()) for row in rows)
        print(
            f"rewards {[round(r, 2) for r in whole.rewards]}; one step: loss {stepped.loss:.4f}, {stepped.samples} samples"
        )
        print(f"log-probability of the two workflows: {before:.2f} -> {after:.2f}")
        if after <= before:
            raise SystemExit("the step did not make what was rewarded likelier")
        _by_trl(told, made)


def _optimizer(told: dict[str, Any], model: Any) -> Any:
    import torch

    # a random model of this size needs a rate of its own to move visibly in one step
    return torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=tuple(told["grpo"]["betas"]), weight_decay=0.0
    )


def _random(shape: dict[str, Any], folder: Path) -> None:
    """A Qwen2 with random weights and a tokenizer learned from the prompts, as `save_pretrained` writes them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape["vocabulary"],
        special_tokens=["<|im_end|>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator([PROMPTED.system, PROMPTED.lists, PROMPTED.plan], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=CHATML
    )
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=shape["width"],
            intermediate_size=shape["inner"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["kv_heads"],
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _by_trl(told: dict[str, Any], made: Path) -> None:
    """One step of TRL's trainer on the random model, on the CPU and without vLLM, if TRL is there."""
    try:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as error:
        print(f"TRL's own trainer was not exercised: {error.name} is not installed")
        return
    settings = GRPOConfig(
        output_dir=str(made / "trl"),
        max_steps=1,
        per_device_train_batch_size=told["check"]["rollouts"],
        num_generations=told["check"]["rollouts"],
        max_completion_length=16,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        **_common(told),
    )
    rows = [
        {"prompt": [{"role": "user", "content": f"Add {n} and 2."}], "answer": str(n + 2), "allowed": [0, 1]}
        for n in range(2)
    ]
    asked = rewarder(told, ("a", "b"), lambda worker, text: "3")
    trainer = GRPOTrainer(
        model=str(made / "model"), reward_funcs=asked, args=settings, train_dataset=Dataset.from_list(rows)
    )
    trainer.train()
    print(f"TRL: {trainer.state.global_step} step, loss {trainer.state.log_history[-1].get('train_loss')}")


# --- on GPUs -------------------------------------------------------------------------------------------------------


def train(told: dict[str, Any], out: Path) -> None:
    """GRPO by TRL, generation by vLLM; workflows are carried out by the endpoint's workers."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    endpoint = Endpoint(told["workers"])
    workers = tuple(told["workers"]["ids"]) or endpoint.listed()
    rows = [
        json.loads(line) for line in Path(told["data"]["problems"]).read_text(encoding="utf-8").splitlines()
    ]
    grpo, vllm = told["grpo"], told["vllm"]
    settings = GRPOConfig(
        output_dir=str(out),
        max_steps=grpo["iterations"],
        per_device_train_batch_size=grpo["rollouts"] // 16,
        generation_batch_size=grpo["questions"] * grpo["rollouts"],
        num_generations=grpo["rollouts"],
        max_completion_length=grpo["completion_tokens"],
        use_vllm=True,
        vllm_mode=vllm["mode"],
        vllm_gpu_memory_utilization=vllm["memory"],
        model_init_kwargs={"dtype": told["model"]["dtype"]},
        bf16=True,
        gradient_checkpointing=True,
        save_steps=20,
        logging_steps=1,
        log_completions=True,
        **_common(told),
    )
    trainer = GRPOTrainer(
        model=told["model"]["name"],
        reward_funcs=rewarder(told, workers, endpoint.ask),
        args=settings,
        train_dataset=Dataset.from_list([_row(told, row, workers, n) for n, row in enumerate(rows)]),
    )
    trainer.train(resume_from_checkpoint=any(out.glob("checkpoint-*")) or None)
    trainer.save_model(str(out / "planner"))


def _common(told: dict[str, Any]) -> dict[str, Any]:
    """What a check and a training have in common: the objective and its optimiser."""
    grpo = told["grpo"]
    return {
        "temperature": grpo["temperature"],
        "learning_rate": grpo["learning_rate"],
        "lr_scheduler_type": grpo["schedule"],
        "warmup_steps": max(1, round(grpo["warmup"] * grpo["iterations"])),
        "adam_beta1": grpo["betas"][0],
        "adam_beta2": grpo["betas"][1],
        "epsilon": grpo["clip"],
        "beta": grpo["kl"],
        "seed": grpo["seed"],
    }


def _row(told: dict[str, Any], row: dict[str, str], workers: Sequence[str], number: int) -> dict[str, Any]:
    """A problem as the trainer takes it, with a pool by lot and the prompt that names it."""
    lot = Random(f"pool/{told['grpo']['seed']}/{number}")
    pool = told["pool"]
    allowed = (
        mask(lot, range(len(workers)), pool["least"], pool["whole"])
        if pool["least"]
        else tuple(range(len(workers)))
    )
    models = "\n".join(f"Model {n}" for n in allowed)
    messages = replace(PROMPTED, cards=False).messages(row["prompt"], models, told["workers"]["steps"])
    return {
        "prompt": [{"role": m.role, "content": m.text} for m in messages],
        "question": row["prompt"],
        "answer": row["answer"],
        "allowed": list(allowed),
    }


def rewarder(
    told: dict[str, Any], workers: Sequence[str], ask: Callable[[str, str], str]
) -> Callable[..., list[float]]:
    """The reward function for TRL: read the workflow, carry it out, grade the answer. `ask(worker, text)` asks a worker."""
    worth = told["reward"]
    lanes = ThreadPoolExecutor(told["workers"]["together"])

    def one(text: str, question: str, answer: str, allowed: Sequence[int]) -> float:
        plan = parse(text, Allowed({n: workers[n] for n in allowed}, len(workers), told["workers"]["steps"]))
        if not isinstance(plan, Workflow):
            return float(worth["unparsable"])
        right = _same(carried_out(plan, question, ask), answer)
        return float(worth["right"] if right else worth["wrong"])

    def rewards(
        prompts: Any, completions: Any, answer: Any, allowed: Any, question: Any = None, **more: Any
    ) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        asked = question or [p if isinstance(p, str) else p[-1]["content"] for p in prompts]
        return list(lanes.map(one, texts, asked, answer, allowed))

    return rewards


def carried_out(plan: Workflow, question: str, ask: Callable[[str, str], str]) -> str:
    """The last step's reply; steps are worded as the policy words them."""
    replies: dict[int, str] = {}
    none: tuple[Seen, ...] = ()
    for wave in waves(plan):
        for place in wave:
            text = step_prompt(question, plan, place, replies, TAGGED, none)
            replies[place] = ask(plan.steps[place].worker, text)
    return replies[len(plan.steps) - 1]


def _same(said: str, answer: str) -> bool:
    """Whether an answer is the right one: the last boxed, bold or plain line, without spaces, quotes and a full stop."""
    found = (
        re.findall(r"\\boxed\{([^{}]*)\}", said)
        or [line for line in said.splitlines() if line.strip()]
        or [""]
    )

    def bare(text: str) -> str:
        return re.sub(r"[\s\"'`*$]|\.$", "", text.rpartition("=")[2].rpartition(":")[2]).casefold()

    return bare(found[-1]) == bare(answer)


class Endpoint:
    """The workers, behind one OpenAI-speaking address."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._url, self._told = told["url"].rstrip("/"), told
        self._key = os.environ.get(told["key_env"], "")

    def listed(self) -> tuple[str, ...]:
        """The models that it lists, seven at most."""
        return tuple(row["id"] for row in self._got("/models", None)["data"][:7])

    def ask(self, worker: str, text: str) -> str:
        """One worker's reply."""
        body = {
            "model": worker,
            "messages": [{"role": "user", "content": text}],
            "temperature": self._told["temperature"],
            "max_tokens": self._told["tokens"],
        }
        return self._got("/chat/completions", body)["choices"][0]["message"]["content"] or ""

    def _got(self, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"content-type": "application/json"} | (
            {"authorization": f"Bearer {self._key}"} if self._key else {}
        )
        asked = Request(self._url + path, json.dumps(body).encode() if body else None, headers)
        with urlopen(asked, timeout=600) as reply:
            return json.loads(reply.read())


if __name__ == "__main__":
    main()
