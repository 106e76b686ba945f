"""Language models behind an OpenAI-compatible endpoint, for agents and judges.

An endpoint has one method, `complete(messages, tools)`, and any object with that method can take its
place. Messages and tools are those of the chat-completions API, as plain dictionaries. The endpoint
also counts what calls cost, keeps to budgets, and writes the log of all calls.

- Holds: the client of an endpoint, its replies, failures and prices.
- May import: `text`, `errors`.
- Start reading at `client.py`.

The files:

- `reply.py`: replies, of which nothing is trusted, because a server can send anything.
- `answer.py`: the bytes of an answer, as one value or as a stream.
- `stream.py`, `streamed_calls.py`: replies and their tool calls that come in pieces.
- `failures.py`: what can go wrong, as one kind of error each, with what to do about it.
- `wordings.py`: how servers word their errors.
- `prices.py`: what tokens cost.
- `client.py`: the client, with its retries, budgets and log.

The package `openai` makes the calls; it is imported at the first one.
"""

from mlrcbench.llm.client import ChatModel, Endpoint
from mlrcbench.llm.prices import Price, read_prices
from mlrcbench.llm.reply import Reply, ToolCall, Usage, estimate_tokens

__all__ = ["ChatModel", "Endpoint", "Price", "Reply", "ToolCall", "Usage", "estimate_tokens", "read_prices"]
