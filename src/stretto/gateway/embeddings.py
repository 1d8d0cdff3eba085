"""Who may be asked for embeddings: one worker, by its name or through a policy that asks no other.

Vectors of different models cannot be compared, so a policy that chooses between models would spoil every index built with it.
"""

from collections.abc import Callable, Sequence

from stretto.errors import RequestError
from stretto.gateway.auth import may_use
from stretto.steps import Policy
from stretto.types import Card, Key, Request

__all__ = ["check_embeds"]


def check_embeds(
    models: Callable[[], Sequence[Card]], key: Key | None, request: Request, policy: Policy
) -> None:
    """Refuse (`RequestError`) a request for embeddings whose policy may ask several models, and name the workers that embed.

    A policy that always asks one worker says so with a true class attribute `EMBEDS`.
    """
    if request.want != "embedding" or getattr(policy, "EMBEDS", False):
        return
    able = [
        card.id
        for card in models()
        if "embedding" in card.abilities and card.labels.get("kind") != "policy" and may_use(key, card.id)
    ]
    raise RequestError(
        f"Embeddings of different models cannot be compared, so `model` has to name one worker, not {request.model!r}. "
        + (f"These embed: {', '.join(able)}." if able else "No worker here has the ability `embedding`."),
        param="model",
    )
