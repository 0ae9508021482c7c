"""From rows to calls: which values go into the prompt, which are parameters, and which are only the user's data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from flatout.durable.records import digest
from flatout.edge.variants import variant_of
from flatout.errors import ConfigError, InvalidRequest
from flatout.providers.schemas.structured import schema_of
from flatout.runs.input.rows import JSON_FORMATS, Row, Variant
from flatout.runs.input.variants import Variants
from flatout.text.redact import mask
from flatout.values import Call
from flatout.values.attachments import Image

from .template import Nulls, Template, check_is_no_file, check_varies, compiled, listed


class Parameters(Struct):
    """The parameters that files and command lines may give, with their names and types as in Call."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: bool | int | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


class _RowParameters(Parameters):
    """The parameters that a JSONL row may hold beside its prompt."""

    system: str | None = None
    timeout: float | None = None
    deadline: float | None = None


ROW_PARAMETERS = frozenset(_RowParameters.__struct_fields__)
"""The keys that are parameters of the call when they appear beside ``prompt`` or ``messages`` in JSONL."""

_BATCH_PARAMETERS = frozenset(Parameters.__struct_fields__)
_RECIPE_PARAMETERS = frozenset(Call.__struct_fields__) - {"prompt", "messages", "system", "model", "id", "sample"}
_BATCH_URL = "/chat/completions"


class Recipe(Struct, frozen=True, kw_only=True):
    """How a row becomes a call. It is plain data, so that the recipes of two runs can be compared.

    Without ``prompt``, a row brings its own question in its column ``prompt`` or ``messages``, or it is an OpenAI batch
    line (``custom_id``, ``url``, ``body``). In JSONL, the keys in `ROW_PARAMETERS` beside ``prompt`` or ``messages``
    are parameters of that call. A batch line's body is used whole; parameters that flatout does not know go into
    ``extra``. The recipe overrides the row.

    Every other column is the user's own data and is never sent. With ``prompt``, or in CSV, TSV, text and Parquet, that
    is every column. In every format ``id``, or else ``custom_id``, is the call's id.

    Args:
        prompt: the template of the prompt.
        system: the template of the system prompt.
        images: templates of the pictures to send with the prompt: each a path or a URL.
        params: parameters of every call, named as in Call.
        model: the model of every call; None for the row's own, or else the client's.
        variants: the models and samples to ask every row with; each row of the input names its own.
        nulls: what a template does with a null. It is not part of the job's identity, since it shows in the rows.

    Raises:
        ConfigError: a template does not compile, a parameter does not exist, or its value cannot be right.
    """

    prompt: str | None = None
    system: str | None = None
    images: Sequence[str] = ()
    params: Mapping[str, Any] = {}
    model: str | None = None
    variants: Variants = Variants()
    nulls: Nulls = "error"

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.params) - _RECIPE_PARAMETERS):
            raise ConfigError(
                f"{unknown[0]!r} is not a parameter for every call; put parameters unknown to flatout into extra"
            )
        self.common()  # wrong values are wrong for every row
        self._templates()

    def describe(self) -> dict[str, Any]:
        """The recipe as JSON values, equal for equal recipes. The run file keeps it to tell jobs apart."""
        params = {name: value for name, value in sorted(self.params.items()) if value is not None}
        return {
            "prompt": self.prompt,
            "system": self.system,
            "params": mask(msgspec.to_builtins(params, str_keys=True, enc_hook=_plain), digest),
            "model": self.model,
            **({"images": list(self.images)} if self.images else {}),
            **({} if self.variants == Variants() else msgspec.to_builtins(self.variants)),
        }

    def call(self, row: Row) -> Call:
        """The call for a row.

        Raises:
            ConfigError: the row has no prompt, or unusable values; the message names its line.
        """
        given: dict[str, Any]
        given = (
            {"prompt": self._rendered(self.prompt, "--prompt", row)} if self.prompt is not None else _own_question(row)
        )
        if not self.images and not _has_content(given):
            raise ConfigError(f"{row.at}: the prompt is empty")
        if self.system is not None:
            given["system"] = self._rendered(self.system, "--system", row)
        given["id"] = row_id(row)
        try:
            if self.images:
                self._illustrate(given, row)
            return self._call_of(given, row.variant)
        except ConfigError as error:
            raise row.naming(error) from None

    def _rendered(self, text: str, option: str, row: Row) -> str:
        return compiled(text, option, self.nulls).render(row)

    def _illustrate(self, given: dict[str, Any], row: Row) -> None:
        """Put the pictures beside the prompt."""
        if "prompt" not in given:
            raise ConfigError("--image goes with a prompt; this row has messages")
        shown = [Image(self._rendered(image, "--image", row)) for image in self.images]
        given["messages"] = [{"role": "user", "content": [given.pop("prompt"), *shown]}]

    def _call_of(self, given: dict[str, Any], variant: Variant | None) -> Call:
        if self.params:
            extra = {**(given.get("extra") or {}), **(self.params.get("extra") or {})}
            given.update({name: value for name, value in self.params.items() if value is not None})
            given["extra"] = extra or None
        if self.model is not None:
            given["model"] = self.model
        call = Call(**given)
        return call if variant is None else variant_of(call, variant.model, variant.sample)

    def check_columns(self, columns: Collection[str]) -> None:
        """Check that columns known in advance suffice.

        Raises:
            ConfigError: a template uses another column, or nothing says what to ask.
        """
        for template in self._templates():
            if missing := template.missing(columns):
                raise ConfigError(template.about_missing(missing, columns))
        if self.prompt is None and "prompt" not in columns and "messages" not in columns:
            raise ConfigError(_nothing_to_ask("the input", columns))

    def check_varies(self) -> None:
        """Check that the rows get different prompts.

        Raises:
            ConfigError: they all get the same prompt, or the name of a file instead of its text.
        """
        templates = self._templates()
        for template in templates:
            if template.option != "--image":
                check_is_no_file(template)
        if self.prompt is not None and all(template.constant for template in templates):
            check_varies(templates[0])

    def common(self) -> Call:
        """A call with everything that all calls share: the model and the parameters."""
        return Call("", model=self.model, **self.params)

    def commons(self) -> list[Call]:
        """One such call for every model that is asked."""
        common = self.common()
        return [msgspec.structs.replace(common, model=model) for model in self.variants.models or (self.model,)]

    def rows_decide(self, format: str) -> bool:
        """Whether rows of this format can choose their calls' model and parameters."""
        return self.prompt is None and format in JSON_FORMATS

    def check(self, row: Row) -> Call | None:
        """Check that `call` will work for a row, without making the call if possible.

        Returns:
            The call, if the check had to make it.

        Raises:
            ConfigError: as `call`.
        """
        if self.prompt is None:
            return self.call(row)
        templates = self._templates()
        if self.images or not templates[0].wordy or not all(template.plain for template in templates):
            return self.call(row)
        for template in templates:
            if template.puts_in_null(row.columns):
                return self.call(row)
            if missing := template.missing(row.columns):
                raise ConfigError(f"{row.at}: {template.about_missing(missing, row.columns, 'this row')}")
        return None

    def _templates(self) -> list[Template]:
        given = ((self.prompt, "--prompt"), (self.system, "--system"), *((image, "--image") for image in self.images))
        return [compiled(text, option, self.nulls) for text, option in given if text is not None]


def row_id(row: Row) -> str | None:
    """The id that a row gives its call: its ``id``, else its ``custom_id``; None if both are missing or empty.

    Raises:
        ConfigError: the id is a list or an object.
    """
    columns = row.columns
    value = columns.get("id")
    if value is None or value == "":
        value = columns.get("custom_id")
        if value is None or value == "":
            return None
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        raise ConfigError(f"{row.at}: an id is a string or a number, not a {_json_type(value)}")
    return str(value)


def _has_content(given: dict[str, Any]) -> bool:
    """Whether a prompt or messages contain anything."""
    if "prompt" in given:
        return bool(given["prompt"].strip())
    contents = [message.get("content") or message.get("tool_calls") for message in given["messages"]]
    return any(content.strip() if isinstance(content, str) else content for content in contents)


def _own_question(row: Row) -> dict[str, Any]:
    """The question that a row brings itself."""
    columns = row.columns
    prompt, messages = columns.get("prompt"), columns.get("messages")
    if prompt is None and messages is None:
        if row.source.format in JSON_FORMATS and isinstance(columns.get("body"), dict):
            return _batch_line(row, columns["body"])
        raise ConfigError(f"{row.at}: {_nothing_to_ask('this row', columns)}")
    if prompt is not None and messages is not None:
        raise ConfigError(f"{row.at}: a row has a prompt or messages; this one has both")
    given: dict[str, Any]
    if messages is not None:
        given = {"messages": _checked_messages(row, messages)}
    elif isinstance(prompt, str):
        given = {"prompt": prompt}
    else:
        raise ConfigError(f"{row.at}: a prompt is a string, not a {_json_type(prompt)}")
    if row.source.format in JSON_FORMATS and not ROW_PARAMETERS.isdisjoint(columns):
        try:
            msgspec.convert(columns, _RowParameters)
        except msgspec.ValidationError as error:
            way_out = "; beside a prompt this key is the call's parameter: rename it if it is your data"
            raise ConfigError(f"{row.at}: {_readable(error)}{way_out}") from None
        given |= {name: value for name, value in columns.items() if value is not None and name in ROW_PARAMETERS}
    return given


def _batch_line(row: Row, body: dict[str, Any]) -> dict[str, Any]:
    url = row.columns.get("url", _BATCH_URL)
    if not isinstance(url, str) or not url.rstrip("/").endswith(_BATCH_URL):
        raise ConfigError(f"{row.at}: a batch line for {url!r}; flatout reads only those for /v1{_BATCH_URL}")
    if body.get("messages") is None:
        raise ConfigError(f"{row.at}: the batch line's body has no messages")
    if body.get("stream"):
        raise ConfigError(f"{row.at}: a batch line cannot ask for a stream")
    asked = {key: value for key, value in body.items() if value is not None and key not in ("messages", "stream")}
    if (most := asked.pop("max_completion_tokens", None)) is not None:
        asked["max_tokens"] = most
    try:
        msgspec.convert(asked, Parameters)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{row.at}: the batch line's {_readable(error)}") from None
    given = {key: value for key, value in asked.items() if key in _BATCH_PARAMETERS}
    if len(given) < len(asked):
        given["extra"] = {key: value for key, value in asked.items() if key not in _BATCH_PARAMETERS}
    given["messages"] = _checked_messages(row, body["messages"])
    return given


def _readable(error: msgspec.ValidationError) -> str:
    """Rewrites ``Expected `int | null`, got `str` - at `$.seed` `` as ``seed: expected int, got str``."""
    what, _, path = str(error).partition(" - at ")
    what = what.replace("`", "").replace(" | null", "")
    return f"{path.strip('`').removeprefix('$.')}: {what[:1].lower()}{what[1:]}"


def _checked_messages(row: Row, messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise ConfigError(f"{row.at}: messages is a list of objects with role and content, not {_shown(messages)}")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ConfigError(f"{row.at}: a message is an object with role and content, not {_shown(message)}")
    return messages


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _nothing_to_ask(where: str, columns: Collection[str]) -> str:
    example = next((name for name in columns if name.isidentifier()), "text")
    return (
        f"{where} has no column prompt or messages; it has: {listed(columns)}; "
        f"say what to ask, such as --prompt 'Summarise: {{{{ {example} }}}}'"
    )


def _json_type(value: Any) -> str:
    names: dict[type, str] = {dict: "JSON object", list: "list", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), type(value).__name__)


def _plain(value: Any) -> Any:
    """A type (in ``output``) as its JSON schema."""
    try:
        return schema_of(value, None).schema
    except InvalidRequest:
        raise ConfigError(f"a parameter cannot be a {type(value).__name__}") from None
