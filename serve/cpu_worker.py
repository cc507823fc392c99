"""vLLM's CPU worker, but for one fault: a request with a `seed` could end the whole engine.

Where a prompt is read in pieces, vLLM samples after each piece, throws the sample away and takes the request's random
numbers back, by an offset that only a GPU's generators have: on a CPU it raises, and the engine dies of it. Here such a
request's generator begins anew, which is the same, since nothing of its answer has been sampled yet.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from vllm.v1.worker.cpu_worker import CPUWorker


class Worker(CPUWorker):  # type: ignore[misc]
    """Named on the command line of every CPU engine: `--worker-cls serve.cpu_worker.Worker`."""

    def init_device(self) -> None:
        super().init_device()
        self.model_runner._bookkeeping_sync = rewinding(self.model_runner, self.model_runner._bookkeeping_sync)


def rewinding(runner: Any, bookkeeping: Callable[..., Any]) -> Callable[..., Any]:
    """vLLM's bookkeeping after a step, without the generators of the requests whose sample is thrown away."""

    def rewound(*args: Any, **kwargs: Any) -> Any:
        batch = runner.input_batch
        thrown_away = np.nonzero(runner.discard_request_mask.np[: batch.num_reqs])[0].tolist()
        generators = {row: batch.generators.pop(row) for row in thrown_away if row in batch.generators}
        for row, generator in generators.items():
            # One that was pushed out and is read again has said something already: it goes on with other numbers.
            if not runner.requests[batch.req_ids[row]].output_token_ids:
                generator.manual_seed(generator.initial_seed())
        try:
            return bookkeeping(*args, **kwargs)
        finally:
            batch.generators.update(generators)

    return rewound
