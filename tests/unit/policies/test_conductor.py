"""The conductor, driven by hand: what the planner is asked, how its workflow is carried out, and what is done without one."""

import pytest

from stretto.artifacts import Artifact
from stretto.policies.conductor import CONDUCTOR_SCHEMA, Conductor
from stretto.policies.forms import GIVEN
from stretto.policies.planning import PROMPTED
from stretto.policies.solo import Solo
from stretto.policies.workflow import Workflow, WorkflowStep, written
from stretto.steps import Ask, Fork, Note
from stretto.testing import by_hand, question, said
from stretto.types import Answer, Card, Failure, Left, Limits, Price, Reply

DATA = {
    "workers": ["words", "numbers", "lists"],
    "plan": "Models: {models}\nTask: {question}\nPlan?",
    "again": "Models: {models}\nTask: {question}\nGiven: {reply}\nPlan?",
    "forms": "given",
    "steps": 3,
    "tokens": 200,
    "planner": "planner",
}
NUMBERS = {"words": 0, "numbers": 1, "lists": 2}


def trained(**settings):
    return Conductor.trained(Artifact(CONDUCTOR_SCHEMA, {}, DATA), **settings)


def text(*steps):
    """What a planner writes for these steps."""
    return written(Workflow(tuple(WorkflowStep(*step) for step in steps)), NUMBERS)


def asking(prompt="sort cat, dog and spell the first", *workers, **fields):
    return question(prompt, *(workers or ("words", "numbers", "lists")), **fields)


def failed(kind="upstream_error", **fields):
    return Reply(error=Failure(kind, "said so"), **fields)


def drive(policy, request, **replies):
    """Steps and end of a plan; `replies`: what each worker says, in order, or a function of the ask."""
    stock = {worker: list(each) if isinstance(each, list) else each for worker, each in replies.items()}

    def answer(step):
        each = stock[step.worker]
        found = each(step) if callable(each) else each.pop(0)
        return found if isinstance(found, Reply) else said(found, step.worker)

    return by_hand(policy.plan(request), answer)


def choices(steps):
    return [s.choice for s in steps if isinstance(s, Note)]


def prompts(steps):
    """Who was asked what, forks opened."""
    asks = [a for s in steps for a in (s.plans if isinstance(s, Fork) else (s,)) if isinstance(a, Ask)]
    return [(ask.worker, ask.messages[-1].text) for ask in asks]


# --- a workflow is carried out ---


def test_a_trained_planner_reads_numbers_and_its_steps_read_trained_wordings():
    """The prompts are those of the training, to the letter; the last step is a tail ask that speaks."""
    plan = text(("lists", "sort cat, dog", ()), ("words", "spell the first one", "all"))

    steps, last = drive(trained(), asking(), planner=[plan], lists=["cat, dog"])

    assert prompts(steps) == [
        ("planner", "Models: 0 1 2\nTask: sort cat, dog and spell the first\nPlan?"),
        ("lists", "sort cat, dog"),
    ]
    assert isinstance(last, Ask)
    assert (last.worker, last.speaks) == ("words", True)
    assert last.messages[-1].text == "Given: cat, dog\nspell the first one"


def test_a_worker_that_may_not_be_used_loses_its_number_and_the_others_keep_theirs():
    """Masking leaves ordinals alone: the planner is told of 0 and 2, and a plan that names 1 is none."""
    plan = written(Workflow((WorkflowStep("numbers", "x", ()),)), NUMBERS)

    steps, last = drive(trained(repair=False), asking("q", "words", "lists"), planner=lambda a: plan)

    assert prompts(steps)[0][1].startswith("Models: 0 2\n")
    assert any("ineligible" in o.rejected for c in choices(steps) for o in c.options)
    assert last.worker in ("words", "lists")


def test_a_worker_that_training_never_saw_may_take_the_seat_of_one_that_is_gone():
    """It plays under that one's number; while the trained one may be used, it does not."""
    policy = trained(seats={"mine": "numbers"})
    plan = text(("numbers", "x", ()))

    _, without = drive(policy, asking("q", "words", "mine", "lists"), planner=[plan])
    _, with_it = drive(policy, asking("q", "words", "numbers", "mine"), planner=[plan])

    assert (without.worker, with_it.worker) == ("mine", "numbers")


def test_steps_that_see_nothing_of_each_other_run_side_by_side():
    """Two blind steps are one fork; the third sees both, the latest last."""
    plan = text(("words", "one", ()), ("numbers", "two", ()), ("lists", "three", "all"))

    steps, last = drive(trained(), asking(), planner=[plan], words=["W"], numbers=["7 + 1 = 8"])

    fork = next(s for s in steps if isinstance(s, Fork))
    assert [a.worker for a in fork.plans] == ["words", "numbers"]
    assert last.messages[-1].text == "Given: W\nGiven: 8\nthree"


@pytest.mark.parametrize("limits", [Limits(fanout=1), Limits(depth=0)])
def test_where_no_fork_is_allowed_the_steps_run_one_after_the_other(limits):
    """Ceilings on fan-out and depth change the order of asking, not the workflow."""
    plan = text(("words", "one", ()), ("numbers", "two", ()), ("lists", "three", "all"))

    steps, last = drive(trained(), asking(limits=limits), planner=[plan], words=["W"], numbers=["8"])

    assert not any(isinstance(s, Fork) and len(s.plans) > 1 for s in steps)
    assert last.messages[-1].text == "Given: W\nGiven: 8\nthree"


def test_the_record_holds_the_whole_workflow_and_who_sees_whom():
    """One choice names every step, its worker and what it sees; the sub-tasks are texts, which are kept apart."""
    plan = text(("words", "one", ()), ("numbers", "unseen", ()), ("lists", "three", (0,)))

    steps, last = drive(trained(), asking(), planner=[plan], words=["W"])

    choice = choices(steps)[-1]
    assert choice.picked == "a workflow of 3 steps"
    assert [o.name for o in choice.options] == [
        "step 1: words",
        "step 2: numbers",
        "step 3: lists, sees step 1",
    ]
    assert [bool(o.rejected) for o in choice.options] == [False, True, False]
    assert choice.texts == {"step 1": "one", "step 2": "unseen", "step 3": "three"}
    assert "conductor " in choice.by
    assert last.reason == "step 3 of 3, sees step 1"
    assert [s["sees"] for s in last.more["workflow"]] == [[], [], [1]]


def test_only_the_last_step_holds_what_concerns_the_caller():
    """Tools, response format and the caller's cap belong to the step that speaks; others have a cap of their own."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))
    request = asking(max_tokens=5, tools=({"type": "function", "function": {"name": "f"}},))

    steps, last = drive(trained(), request, planner=[plan], words=["W"])

    inner = next(s for s in steps if isinstance(s, Ask) and s.worker == "words")
    assert (inner.speaks, inner.max_tokens) == (False, 4096)
    assert last.speaks


def test_a_trained_workflow_is_steady_unless_the_caller_wants_it_otherwise():
    """All steps of a trained conductor are asked at temperature 0, as in its training; a caller's own temperature counts."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))

    steps, last = drive(trained(), asking(), planner=[plan], words=["W"])
    _, warm = drive(trained(), asking(params={"temperature": 0.9}), planner=[plan], words=["W"])
    _, general = drive(Conductor("boss"), asking("q", "boss", "words"), boss=[text(("numbers", "x", ()))])

    assert [s.params["temperature"] for s in steps if isinstance(s, Ask) and s.role == "worker"] == [0.0]
    assert last.params == {"temperature": 0.0}
    assert warm.params == {}
    assert general.params == {}


# --- what goes wrong ---


def test_a_text_that_is_no_workflow_is_sent_back_once_with_its_fault():
    """A general planner is told what is wrong; the second text counts. Both are on record."""
    policy = Conductor("boss", planning=PROMPTED, forms=GIVEN)
    good = 'model_id = [0]\nsubtasks = ["do it"]\naccess_list = [[]]'
    request = asking("q", "boss", "words")

    steps, last = drive(policy, request, boss=["I think model 7", good])

    repair = [s for s in steps if isinstance(s, Ask)][1]
    assert "no complete workflow was found" in repair.messages[-1].text
    assert repair.messages[-2].text == "I think model 7"
    assert choices(steps)[0].options[1].rejected.startswith("missing")
    assert last.messages[-1].text == "do it"


def test_a_trained_planner_is_asked_the_same_at_a_higher_temperature():
    """It follows no words about faults, so it gets a second draw."""
    steps, _ = drive(trained(), asking(), planner=["?", text(("words", "x", ()))])

    first, second = [s for s in steps if isinstance(s, Ask)]
    assert first.messages == second.messages
    assert (first.params["temperature"], second.params["temperature"]) == (0.0, 0.7)


@pytest.mark.parametrize(
    "said_", [["?", "?"], [failed()], [failed("denied")]], ids=["no workflow", "down", "denied"]
)
def test_without_a_workflow_the_best_single_worker_answers(said_):
    """After one repair, or when the planner fails, the dearest worker gets the request as it is, and the record says why."""
    prices = {"lists": Price(5, 5)}

    steps, last = drive(trained(), asking(prices=prices), planner=said_)

    assert (last.worker, last.messages, last.speaks) == ("lists", None, True)
    assert choices(steps)[-1].options[0].name == "a workflow"
    assert choices(steps)[-1].options[0].rejected


def test_the_configured_policy_answers_where_there_is_no_workflow():
    """`otherwise` goes before the best single worker."""
    steps, last = drive(trained(repair=False, otherwise=Solo("words")), asking(), planner=["?"])

    assert last.worker == "words"
    assert choices(steps)[-1].picked == "solo"


def test_limits_that_leave_no_room_for_a_plan_leave_an_answer():
    """With one call allowed nobody is asked to plan: the one call goes to the best single worker."""
    steps, last = drive(trained(), asking(limits=Limits(calls=1)))

    assert prompts(steps) == []
    assert "2 calls" in choices(steps)[0].reason
    assert isinstance(last, Ask)


def test_money_that_cannot_pay_a_plan_is_left_for_an_answer():
    """After a refusal nobody could be asked any more, so a plan that may cost more than is allowed is not asked for."""
    pool, prices = ("words", "numbers", "lists", "planner"), {"planner": Price(10, 100)}
    for usd, plans in ((20_000, 0), (100_000, 1)):
        request = asking("sort cat, dog", *pool, prices=prices, limits=Limits(usd=usd))
        steps, last = drive(trained(), request, planner=[text(("words", "one", ()))])
        assert len(prompts(steps)) == plans
        assert ("may cost more money" in choices(steps)[0].reason) == (plans == 0)
        assert isinstance(last, Ask)


def test_who_answers_without_a_plan_can_be_asked_and_paid():
    """A planner that is down comes last, who cannot be paid after those who can; if the first brings nothing, the next one."""
    prices = {"words": Price(1000, 1000), "numbers": Price(10, 10), "lists": Price(1, 1)}
    planner = Conductor("words", workers=("words", "numbers", "lists"), planning=PROMPTED)
    down = asking("sort", prices=prices)
    _, last = drive(planner, down, words=[failed("overloaded")])
    assert (last.worker, last.otherwise.worker) == ("numbers", "lists")
    _, last = drive(planner, down, words=["no plan", "none"])
    assert (last.worker, last.otherwise.worker) == ("words", "numbers")
    _, last = drive(planner, asking("sort", prices=prices, limits=Limits(usd=1000)))
    assert (last.worker, last.otherwise.worker) == ("numbers", "lists")


def test_a_workflow_that_takes_more_calls_than_are_left_is_not_begun():
    """Half a workflow is no answer: with one call left the best single worker gets it."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))
    reply = said(plan, "planner", left=Left(calls=1))

    steps, last = drive(trained(), asking(limits=Limits(calls=2)), planner=[reply])

    assert len(prompts(steps)) == 1
    assert "takes 2 calls, 1 are left" in last.reason


def test_a_workflow_that_costs_more_than_is_left_is_not_begun():
    """What is left cannot even pay for short replies: the best single worker is asked, whom a limit may then refuse."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))
    prices = {"words": Price(1000, 1000), "lists": Price(1000, 1000)}
    reply = said(plan, "planner", left=Left(usd=1000))

    _, last = drive(trained(), asking(prices=prices), planner=[reply])

    assert "more money than is left" in last.reason


def test_a_step_may_write_as_much_as_its_part_of_the_money_pays_for():
    """What is set aside for one step is not there for the next: with little money the cap of each is lowered."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))
    prices = {"words": Price(10, 10), "lists": Price(10, 10)}
    for usd, cap in ((None, 4096), (10_000_000, 4096), (20_000, 997), (4_000, 197), (1_450, 69)):
        reply = said(plan, "planner", left=Left(usd=usd))
        steps, last = drive(trained(), asking(prices=prices), planner=[reply], words=["x"])
        (step,) = [s for s in steps if isinstance(s, Ask) and s.worker == "words"]
        assert step.max_tokens == cap
        assert last.max_tokens is None  # the engine lowers an open cap by itself


def test_a_second_reply_never_takes_the_call_of_a_step():
    """A doubted reply stands where the calls that are left are those of the steps to come."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))
    for calls, asked in ((2, ["words", "lists"]), (3, ["words", "numbers", "lists"])):
        reply = said(plan, "planner", left=Left(calls=calls))
        unsure = {w: [said("x", w, logprob=-2.0)] * 2 for w in ("words", "numbers", "lists")}
        steps, _ = drive(trained(doubt=0.9), asking(), planner=[reply], **unsure)
        assert [s.worker for s in steps if isinstance(s, Ask) and s.worker != "planner"][
            : len(asked)
        ] == asked


def test_a_step_that_fails_is_given_to_the_next_best_worker():
    """The substitute is told exactly what the first one was, and the change is on record."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))
    prices = {"numbers": Price(9, 9)}

    steps, last = drive(trained(), asking(prices=prices), planner=[plan], words=[failed()], numbers=["W"])

    assert prompts(steps)[1:] == [("words", "one"), ("numbers", "one")]
    assert choices(steps)[-1].picked == "numbers"
    assert last.messages[-1].text == "Given: W\ntwo"


def test_a_step_that_nobody_can_do_is_left_out_and_told():
    """Later steps go on without it, and the last reason names it."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))

    _, last = drive(
        trained(), asking(), planner=[plan], words=[failed()], numbers=[failed()], lists=[failed()]
    )

    assert last.messages[-1].text == "two"
    assert "step 1 gave no answer (upstream_error)" in last.reason


def test_the_last_step_gives_way_to_the_best_single_worker_and_then_to_what_was_said():
    """If it fails before anything was shown, another worker answers alone; after a limit the earlier reply stands."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))

    _, last = drive(trained(), asking(prices={"numbers": Price(9, 9)}), planner=[plan], words=["W"])

    assert last.otherwise.worker == "numbers"
    assert last.otherwise.messages is None
    assert last.otherwise.otherwise.text == "W"
    assert "an earlier step" in last.otherwise.otherwise.why


def test_a_refusal_by_a_limit_ends_the_workflow_with_what_there_is():
    """The best so far goes out, and says which step was refused; where a format was asked for, the refusal does."""
    plan = text(("words", "one", ()), ("numbers", "two", "all"), ("lists", "three", "all"))
    replies = {"words": ["W"], "numbers": [failed("limit")]}

    _, last = drive(trained(), asking(), planner=[plan], **replies)
    _, strict = drive(trained(), asking(response_format={"type": "json_object"}), planner=[plan], **replies)

    assert isinstance(last, Answer)
    assert last.text == "W"
    assert "before step 2" in last.why
    assert strict.error.kind == "limit"


# --- doubt ---


def test_a_worker_that_doubts_its_reply_is_not_alone():
    """Below the threshold the next best worker does the step too; the surer reply is handed on, and both are on record."""
    plan = text(("words", "one", ()), ("lists", "two", "all"))
    prices = {"numbers": Price(9, 9)}
    replies = {
        "words": [said("W", "words", logprob=-2.0)],
        "numbers": [said("N", "numbers", logprob=-0.1)],
        "lists": [said("L", "lists", logprob=-0.01)],
    }

    steps, last = drive(trained(doubt=0.5), asking(prices=prices), planner=[plan], **replies)

    assert prompts(steps)[1:] == [("words", "one"), ("numbers", "one"), ("lists", "Given: N\ntwo")]
    assert choices(steps)[-1].picked == "numbers"
    assert (last.text, last.worker) == ("L", "lists")
    assert last.more["workflow"]


def test_a_surer_first_reply_stands():
    """The second opinion is only taken where it is surer; the last step is checked like the others."""
    plan = text(("words", "one", ()))
    replies = {
        "words": [said("W", "words", logprob=-1.0)],
        "lists": [said("L", "lists", logprob=-2.0)],
    }

    steps, last = drive(trained(doubt=0.9), asking(prices={"lists": Price(5, 5)}), planner=[plan], **replies)

    assert last.text == "W"
    assert choices(steps)[-1].options[1].rejected == "less sure"


def test_workers_that_do_not_tell_how_sure_they_are_are_believed():
    """Without log-probabilities nothing can be doubted, and nobody else is asked."""
    steps, last = drive(trained(doubt=0.9), asking(), planner=[text(("words", "one", ()))], words=["W"])

    assert last.text == "W"
    assert len(prompts(steps)) == 2


# --- recursion ---


def test_the_planner_may_return_the_answer_as_it_is():
    """Three empty lists after it has seen the answer: the answer goes out, untouched."""
    empty = "model_id = []\nsubtasks = []\naccess_list = []"

    steps, last = drive(
        trained(depth=1), asking(), planner=[text(("words", "x", ())), empty], words=["7 = W"]
    )

    assert prompts(steps)[-1][1].endswith("Given: W\nPlan?")
    assert last.text == "7 = W"
    assert choices(steps)[-1].picked == "return the answer as it is"


def test_the_planner_may_write_another_workflow_that_sees_the_answer():
    """Steps with access to all see what the workflow before came to."""
    first, second = text(("words", "x", ())), text(("lists", "mend it", "all"))

    _, last = drive(trained(depth=1), asking(), planner=[first, second], words=["W"])

    assert last.messages[-1].text == "Given: W\nmend it"
    assert last.otherwise.text == "W"


def test_the_depth_is_bounded_by_the_requests():
    """A caller who allows no depth gets one workflow; its last step is unconditional."""
    _, last = drive(trained(depth=2), asking(limits=Limits(depth=0)), planner=[text(("words", "x", ()))])

    assert isinstance(last, Ask)


@pytest.mark.parametrize("second", [failed(), "?"], ids=["down", "no workflow"])
def test_a_second_plan_that_fails_costs_nothing(second):
    """The answer of the first workflow stands, and says why."""
    replies = [text(("words", "x", ())), second, second]

    _, last = drive(trained(depth=1), asking(), planner=replies, words=["W"])

    assert last.text == "W"
    assert "stands" in last.why


def test_the_planner_may_give_a_step_to_itself():
    """Such a step is a workflow of its own, one level down, whose planner sees the sub-task as its task."""
    policy = trained(depth=1, itself=True)
    empty = "model_id = []\nsubtasks = []\naccess_list = []"
    outer = 'model_id = [3, 0]\nsubtasks = ["hard part", "finish"]\naccess_list = [[], "all"]'
    inner = text(("numbers", "easy", ()))

    steps, last = drive(policy, asking(), planner=[outer, inner, empty], numbers=["5"], words=["done"])

    asked = prompts(steps)
    assert asked[0][1].startswith("Models: 0 1 2 3\n")
    assert asked[1] == ("planner", "Models: 0 1 2\nTask: hard part\nPlan?")
    assert ("words", "Given: 5\nfinish") in asked
    assert last.text == "done"


# --- whom an untrained planner may choose from ---


def test_an_untrained_planner_is_shown_four_of_many_by_their_cards():
    """Descriptions, abilities, room and price stand in the prompt; who was left out is on record."""
    prices = {f"w{n}": Price.per_million(n, n) for n in range(8)}
    request = question("hi", *prices, prices=prices)
    plan = 'model_id = [3]\nsubtasks = ["x"]\naccess_list = [[]]'

    steps, last = drive(Conductor("w7"), request, w7=[plan])

    assert choices(steps)[0].picked == "w7, w5, w2, w0"
    assert sum(bool(o.rejected) for o in choices(steps)[0].options) == 4
    assert "Model 3: w0" in prompts(steps)[0][1]
    assert last.worker == "w0"


def test_a_planner_that_can_be_held_to_a_schema_is():
    """A card with structured output brings a response format over the numbers that may be used, and the JSON form of examples."""
    card = Card("boss", abilities=frozenset({"text", "json"}), description="Knows everything.")
    request = asking("hi", "words")
    request = type(request)(messages=request.messages, pool=(card, *request.pool))
    plan = '{"reasoning": "", "steps": [{"model_id": 1, "subtask": "x", "access_list": []}]}'

    steps, last = drive(Conductor("boss"), request, boss=[plan])

    ask = next(s for s in steps if isinstance(s, Ask))
    schema = ask.response_format["json_schema"]["schema"]
    assert schema["properties"]["steps"]["items"]["properties"]["model_id"]["enum"] == [0, 1]
    assert '"steps": [{' in ask.messages[0].text
    assert "Knows everything" in ask.messages[1].text
    assert last.worker in ("boss", "words")


def test_an_artefact_of_another_schema_is_refused():
    """A file that is none of ours is a mistake that is told at the start."""
    with pytest.raises(ValueError, match="schema"):
        Conductor.trained(Artifact("other/1", {}, {}))
