"""`POST /v1/messages/count_tokens`: how many tokens a request would put in, before it is sent."""

from stretto.engine.run import Engine
from stretto.gateway.call import Call, Response, json_response
from stretto.gateway.inference import Inference

__all__ = ["Counting"]


class Counting:
    """The route that counts. `inference` is that of the format that its requests are in."""

    def __init__(self, inference: Inference, engine: Engine) -> None:
        self._inference = inference
        self._engine = engine

    async def __call__(self, call: Call) -> Response:
        """The tokens for the worker that would be asked first (with several the most); nothing is asked, charged or recorded.

        `stretto.estimated` says that no tokeniser has counted: then the figure errs on the high side.
        """
        _, request, _, policy = await self._inference.parse(call)
        count = await self._engine.count(policy, request, key=call.key)
        return json_response({"input_tokens": count.tokens, "stretto": {"estimated": not count.exact}})
