"""Guesses how many tokens a call will take before it is sent, and learns from every answer.

The number of tokens is nearly linear in figures that are cheap to count in a text: its characters, extra UTF-8 bytes,
digits and white space. The weights differ by tokenizer. Recursive least squares (Plackett 1950) finds them from the
``usage`` of each answer, one small matrix update at a time. No vocabulary is downloaded.

An image or a file counts as a fixed guess, whatever its size in bytes. The factor by which the true count differs from
the guess is learnt apart, so that pictures do not distort the weights of texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from flatout.policies.pacing.exchange import Usual
from flatout.policies.schema_size import schema_size, tool_size
from flatout.values import Call, Usage
from flatout.values.attachments import File
from flatout.values.checks import is_count
from flatout.values.reply import NATIVE

FEATURES = 4
"""The figures of a text: characters, extra UTF-8 bytes, digits, white space."""

PRIOR = (0.24, 0.30, 0.30, 0.0)
"""Tokens per character, extra byte, digit and white space before anything is learnt: usual for English."""

MARGIN = 1.3
"""The factor by which a guess is raised until `TRUSTED` answers came."""

TRUSTED = 50
"""Answers after which a guess is used as it is."""

FORGET = 0.999
"""The factor by which an answer counts less with each later one, in the least squares."""

USUAL_OUTPUT = 256.0
"""Output tokens to expect before anything is learnt. It counts like one answer in the average of all shapes."""

ASSUMED_OUTPUT = 16_384
"""Most tokens to expect of an answer without ``max_tokens``: the cap of many hosted models (gpt-4o's). Other models may
write more, but hardly do."""

FRAME = 32
"""Most tokens that a chat format adds to one message."""

USUAL_PART = 1_000.0
"""Tokens to expect of a part other than text, such as an image, before anything is learnt. This is a guess: an image of
a megapixel takes 258 (Gemini) to 1,600 (Anthropic); for a PDF's pages there is no figure."""

PART = 4_000
"""Most tokens to expect of a part other than text, such as an image."""

FILE = 1_000_000
"""Most tokens to expect of a file: most models read no more at once."""

SHAPES = 256
"""Most shapes of prompts for which the output's length is learnt separately."""


class Need(Struct, eq=False, gc=False):
    """What one attempt takes, as estimated before it is sent. Pacer and health note their figures of it here.

    Attributes:
        costs: by axis, what was taken for it.
        marks: by axis, all that was taken up to then.
        axes: the axes that admitted it, by name; see `axes.Axes`.
        charged: see `charge.Charge`.
        search: the search for an unknown limit that admitted it.
        mark: how many that search had sent, including this one.
        ended: how many of them were over.
        number: its number among all calls to the target; see `failures.health`.
        at: calls in flight when it was sent, including this one.
        place: its number in the order of sending; see `backlog`.
        waited_for: what its queue waited for, up to its turn: a key of `flatout.events.WAITS`; "" if it went at once.
    """

    input: float = 0.0
    output: float = 0.0
    max_tokens: int | None = None
    features: tuple[float, ...] = ()
    media: float = 0.0
    shape: Any = None
    costs: dict[str, float] = {}
    marks: dict[str, float] = {}
    axes: dict[str, Any] = {}
    charged: tuple[int, tuple[float, float, float]] | None = None
    search: object = None
    mark: int = 0
    ended: int = 0
    number: int = 0
    at: int = 0
    place: int = 0
    waited_for: str = ""

    def __repr__(self) -> str:
        return f"Need(input={self.input:.0f}, output={self.output:.0f})"

    @property
    def tokens(self) -> float:
        """Input and output together."""
        return self.input + self.output


class Estimator:
    """Guesses the tokens of one target's calls, within a few per cent on mixed text after some dozen answers."""

    __slots__ = ("_answers", "_covariance", "_media", "_output", "_outputs", "_seen", "_weights")

    def __init__(self) -> None:
        self._weights = list(PRIOR)
        self._covariance = [[1e-3 if row == column else 0.0 for column in range(FEATURES)] for row in range(FEATURES)]
        self._outputs: dict[Any, tuple[float, int]] = {}
        self._seen = 0
        self._output, self._answers = USUAL_OUTPUT, 0  # tokens of an answer on average, and of how many
        self._media = (1.0, 0)  # the true count of parts other than text per guess, and from how many answers

    def __repr__(self) -> str:
        return f"Estimator(weights={[round(w, 4) for w in self._weights]}, seen={self._seen})"

    @property
    def learnt(self) -> tuple[tuple[float, float, float, float], int]:
        """The weights, and from how many answers they were learnt."""
        a, b, c, d = self._weights
        return (a, b, c, d), self._seen

    def recall(self, weights: tuple[float, float, float, float], seen: int) -> None:
        """Begin with what an earlier run learnt."""
        self._weights = list(weights)
        self._seen = min(seen, TRUSTED)

    @property
    def usual(self) -> Usual:
        """What is learnt, for other programs that call the same target."""
        a, b, c, d = self._weights
        return Usual((a, b, c, d), float(self._seen), self._output, float(self._answers))

    def hear(self, usual: Usual) -> None:
        """Go on from what another program has learnt from more answers."""
        self._output, self._answers = usual.output, int(usual.answers)
        if usual.seen > self._seen:
            self.recall(usual.weights, int(usual.seen))

    def need(self, call: Call) -> Need:
        """What the call will take."""
        need = Need()
        self.guess(need, call)
        return need

    def guess(self, need: Need, call: Call) -> None:
        """Guess what the call will take, from what is learnt by now. Only the first guess measures its text."""
        if not need.features:
            need.features = _features(call)
            need.media = _media(call) if call.messages is not None else 0.0
            need.max_tokens = call.max_tokens
            need.shape = (call.max_tokens, call.output is not None, int(need.features[0]).bit_length())
        tokens = self._text(need.features) * (MARGIN if self._seen < TRUSTED else 1.0)
        if need.media:
            share, seen = self._media
            tokens += need.media * share * (MARGIN if seen < TRUSTED else 1.0)
        known = self._outputs.get(need.shape)
        output = known[0] if known is not None else self._output
        need.input = max(1.0, tokens)
        need.output = min(output, float(call.max_tokens)) if call.max_tokens is not None else output

    def learn(self, need: Need, usage: Usage) -> None:
        """Learn from what the call really took."""
        if usage.output_tokens is not None:
            mean, count = self._outputs.get(need.shape, (0.0, 0))
            weight = 1.0 / min(count + 1, 50)
            self._answers = min(self._answers + 1, TRUSTED)
            self._output += (usage.output_tokens - self._output) / (self._answers + 1)
            if need.shape in self._outputs or len(self._outputs) < SHAPES:
                self._outputs[need.shape] = (mean + weight * (usage.output_tokens - mean), count + 1)
        if usage.input_tokens is None:
            return
        if need.media:
            share, count = self._media
            took = max(0.0, usage.input_tokens - self._text(need.features)) / need.media
            self._media = share + (took - share) / min(count + 1, 50), count + 1
        elif need.features and need.features[0]:
            self._update(need.features, float(usage.input_tokens))
            self._seen += 1

    def count(self, text: str) -> float:
        """The tokens of a text, from what is learnt by now."""
        return self._text(_figures(text))

    def _text(self, features: tuple[float, ...]) -> float:
        return sum(map(float.__mul__, self._weights, features)) if features and features[0] else 0.0

    def _update(self, x: tuple[float, ...], tokens: float) -> None:
        """One step of recursive least squares. Errors count relative to a text's length, else long texts dominate."""
        scale = 1.0 / x[0]
        x = tuple(value * scale for value in x)
        error = tokens * scale - sum(map(float.__mul__, self._weights, x))
        p = self._covariance
        px = [sum(map(float.__mul__, row, x)) for row in p]
        denominator = FORGET * 1e-3 + sum(map(float.__mul__, px, x))
        for i in range(FEATURES):
            gain = px[i] / denominator
            self._weights[i] += gain * error
            row = p[i]
            for j in range(FEATURES):
                row[j] = (row[j] - gain * px[j]) / FORGET if row[j] < 1.0 else row[j]


def most_output(call: Call, longest: int = 0, cap: int | None = None) -> int:
    """A bound on the tokens of a call's answer, to keep a budget: ``max_tokens``.

    Without ``max_tokens`` it is the target's own ``cap``, if that is known and lower than the assumption: else
    `ASSUMED_OUTPUT` (twice that with a ``reasoning_effort``). The ``longest`` answer so far corrects both. A call
    may ask for several answers (OpenAI's ``n``), and each may be that long.
    """
    if call.max_tokens is not None:
        return int(call.max_tokens) * _answers(call)
    assumed = assumed_output(call)
    return max(longest, (assumed if cap is None else min(assumed, cap)) * _answers(call))


def _answers(call: Call) -> int:
    """How many answers a call asks for."""
    asked = call.extra.get("n") if call.extra else None
    return int(asked) if asked is not None and is_count(asked) else 1


def assumed_output(call: Call) -> int:
    """The most tokens to expect of an answer if nothing says how long it may be."""
    return ASSUMED_OUTPUT * (1 if call.reasoning_effort is None else 2)


def most_input(call: Call) -> int:
    """A bound on the tokens of a call's input, to keep a budget: no tokenizer makes more than one token of a byte.

    An image counts `PART`. A file counts its bytes, but `FILE` at most: that surely bounds text, and most probably a
    PDF or a recording. A file at an address may have any size, and counts `FILE`.
    """
    size = 2 * FRAME
    if call.prompt is not None:
        size += _bytes(call.prompt)
    if call.system is not None:
        size += _bytes(call.system)
    if call.messages is not None:
        size += _most_of(call.messages)
    if call.extra:
        size += _bytes(str(call.extra))
    if call.output is not None:
        size += schema_size(call.output)
    if isinstance(call.tools, list | tuple):
        size += sum(map(tool_size, call.tools))
    return size


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _most_of(messages: Sequence[Any]) -> int:
    """The same for a conversation."""
    size = FRAME * len(messages)
    for message in messages:
        for part in _parts(message):
            text = _text_of(part)
            size += _most(part) if text is None else _bytes(text)
        size += sum(_bytes(str(made)) for made in _made(message))
    return size


def _features(call: Call) -> tuple[float, ...]:
    """Characters, extra UTF-8 bytes, digits and white space of all the text of a call."""
    if call.prompt is not None:
        text = call.prompt if call.system is None else f"{call.system}\n{call.prompt}"
    else:
        text = "\n".join(_texts(call))
    return _figures(text)


def _figures(text: str) -> tuple[float, ...]:
    characters = len(text)
    extra = 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - characters
    digits = sum(map(text.count, "0123456789"))
    spaces = text.count(" ") + text.count("\n")
    return float(characters), float(extra), float(digits), float(spaces)


def _texts(call: Call) -> list[str]:
    found: list[str] = [] if call.system is None else [call.system]
    for message in call.messages or ():
        found.extend(text for part in _parts(message) if (text := _text_of(part)) is not None)
    return found


def _others(call: Call) -> list[Any]:
    """The parts of a conversation other than text."""
    return [part for message in call.messages or () for part in _parts(message) if _text_of(part) is None]


def _media(call: Call) -> float:
    """Tokens to expect of all parts other than text, before anything is learnt."""
    return float(sum(map(_usual, _others(call))))


def _usual(part: Any) -> float:
    if isinstance(part, File) and part.size is not None and (part.media_type or "").startswith("text/"):
        return PRIOR[0] * part.size
    return USUAL_PART


def _most(part: Any) -> int:
    if not isinstance(part, File):
        return PART
    return FILE if part.size is None else min(FILE, max(PART, part.size))


def _made(message: Any) -> list[Any]:
    """What a model's turn holds beside its text: tool calls, and its reasoning in the provider's own form."""
    found = (message.get("tool_calls"), message.get(NATIVE)) if hasattr(message, "get") else ()
    return [made for made in found if made]


def _parts(message: Any) -> Sequence[Any]:
    content = message.get("content") if hasattr(message, "get") else None
    return content if isinstance(content, list | tuple) else () if content is None else (content,)


def _text_of(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else None
