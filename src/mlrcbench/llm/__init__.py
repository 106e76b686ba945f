"""Language models behind an OpenAI-compatible endpoint, for agents and judges.

One method, `complete(messages, tools)`: whatever has it can stand in for the endpoint. Messages
and tools are those of the chat-completions API, as plain dictionaries. What a call costs, and
what a budget still allows, is counted here, once; so is the log of all calls.

- `reply.py`: what comes back, read strictly, since a server can send anything.
- `stream.py`: the same from a stream of pieces.
- `failures.py`: whatever can go wrong, as one kind of error each, with what to do about it.
- `prices.py`: what tokens cost.
- `endpoint.py`: the client, with its retries, budgets and log.

The package `openai` carries the calls; it is imported at the first one.
"""

from mlrcbench.llm.endpoint import ChatModel, Endpoint
from mlrcbench.llm.prices import Price, read_prices
from mlrcbench.llm.reply import Reply, ToolCall, Usage, estimate_tokens

__all__ = ["ChatModel", "Endpoint", "Price", "Reply", "ToolCall", "Usage", "estimate_tokens", "read_prices"]
