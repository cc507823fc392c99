"""The fake engine, as strict with what it is asked as vLLM."""

import httpx
from pydantic import ValidationError

from serve.openapi_bodies import BODIES
from tests.fakes import FakeEngine


class StrictEngine(FakeEngine):
    """Refuses what vLLM refuses: bodies whose fields have the wrong types."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if (kinds := BODIES.get(request.url.path)) is not None:
            try:
                kinds[0].model_validate_json(request.content)
            except ValidationError as error:
                said = {"message": str(error), "type": "BadRequestError", "param": None, "code": 400}
                return httpx.Response(400, json={"error": said})
        return await super().handle_async_request(request)
