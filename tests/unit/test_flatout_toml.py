"""flatout.toml, from the file to one value."""

from __future__ import annotations

import pytest

from flatout import Client, Config, ConfigError, Limits
from flatout.config.file import load

WHOLE = """
model = "mine/llama"
timeout = 60
retries = 2
[endpoints.mine]
base_url = "http://127.0.0.1:8000/v1"
provider = "vllm"
headers = { "x-team" = "a" }
[limits.mine]
rpm = 60
tpm = 1_000
[limits."mine/llama"]
rpm = 600
[prices."mine/llama"]
input = 0.1
output = 0.4
"""


def test_a_file_becomes_one_value(tmp_path):
    """A setting in flatout.toml would have no effect."""
    path = tmp_path / "any.toml"
    path.write_text(WHOLE)
    config = load(path)
    assert load(str(path)) == config
    assert (config.model, config.timeout, config.retries, config.budget) == ("mine/llama", 60, 2, None)
    assert config.endpoints["mine"].provider == "vllm"
    assert config.prices["mine/llama"].output == 0.4
    assert config.limits_for("mine", "llama") == Limits(rpm=600, tpm=1_000)
    assert config.limits_for("mine", "other") == Limits(rpm=60, tpm=1_000)
    assert config.limits_for("other", "llama") == Limits()


def test_the_file_is_found_from_a_folder_below(tmp_path, monkeypatch):
    """A project's settings would hold only in its top folder."""
    (tmp_path / "flatout.toml").write_text('model = "local"')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert load().model == "local"
    assert load({}).model is None


def test_no_file_is_no_settings(tmp_path, monkeypatch):
    """flatout would ask for a file that nobody needs."""
    monkeypatch.chdir(tmp_path)
    assert load() == Config()


def test_settings_may_be_given_in_code():
    """Tests and services would have to write a file."""
    config = Config(model="local")
    assert load(config) is config
    assert load({"limits": {"openai": {"rpm": 5}}}).limits_for("openai", "x") == Limits(rpm=5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle = 'x'", "modle"),
        ("[limits.openai]\nrmp = 5", "rmp"),
        ("[limits.openai]\nrpm = -5", "rpm"),
        ("[prices.x]\ninput = 1", "output"),
        ("[endpoints.x]\napi_key = 'sk'", "api_key"),
        ("timeout = 'long'", "timeout"),
        ("this is no toml", "any.toml"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, said):
    """A misspelt limit would be ignored, and the real one overrun."""
    path = tmp_path / "any.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load(path)
    assert "any.toml" in str(caught.value)


def test_a_missing_or_unreadable_file_is_a_config_error(tmp_path):
    """``--config typo.toml`` would end in a traceback, or in no settings at all."""
    with pytest.raises(ConfigError, match=r"typo\.toml"):
        load(tmp_path / "typo.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.toml"):
        load(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("modle = 'x'", "no setting is named 'modle'; did you mean model? (there are: model, timeout, "),
        ("[limits.a]\nrmp = 5", "no setting is named 'rmp'; did you mean rpm? ([limits.a] may have: rpm, tpm, "),
        ("[endpoints.a]\nurl = 'x'", "no setting is named 'url' ([endpoints.a] may have: base_url, provider, "),
        (
            "[prices.'a/b']\ninput = 1\noutput = 1\ncached = 1",
            "mean cache_read? ([prices.a/b] may have: input, output, cache_read, cache_write)",
        ),
    ],
)
def test_an_unknown_setting_is_told_with_those_there_are(tmp_path, content, why):
    """A user would have to look for the right name in the documents."""
    path = tmp_path / "flatout.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("timeout = 'long'", "timeout is a number, not 'long'"),
        ("timeout = true", "timeout is a number, not True"),
        ("retries = 2.5", "retries is a whole number, not 2.5"),
        ("model = 5", "model is a text, not 5"),
        ("prompt_cache = 'on'", "prompt_cache is 'auto' or 'off', not 'on'"),
        ("cache = 5", "cache is true or false or a text, not 5"),
        ("budget = 'much'", "budget is a number or a table with usd, per, scope, not 'much'"),
        ("[budget]\nusd = 5\nper = 'week'", "budget.per is 'day', 'month' or 'run', not 'week'"),
        ("[budget]\nper = 'day'", "[budget] lacks usd: give a number"),
        ("limits = 5", "limits is a table, not 5"),
        ("limits.openai = 5", "limits.openai is a table with rpm, tpm, itpm, "),
        ("[limits.openai]\nrpm = 'ten'", "[limits.openai]: rpm is a number, not 'ten'"),
        ("[limits.openai]\nrpm = -5", "[limits.openai]: the limit rpm is a number above 0, not -5"),
        ("[limits.openai]\nadaptive = 'both'", "[limits.openai]: adaptive is 'concurrency' or 'rate', not 'both'"),
        ("[prices.'a/b']\ninput = 1", "[prices.a/b] lacks output: give a number"),
        ("[prices.'a/b']\ninput = '1 $'\noutput = 1", "[prices.a/b]: input is a number, not '1 $'"),
        (
            "[endpoints.good]\nprovider = 'vllm'\n[endpoints.bad]\nsystem = 5",
            "[endpoints.bad]: system is a text, not a wh",
        ),
        ("[endpoints.a.headers]\nX-Key = 73", "[endpoints.a]: headers.X-Key is a text, not a whole number"),
        ("[routes.a]\ntargets = 'a/b'", "[routes.a]: targets is a list of texts, not 'a/b'"),
        ("[routes.a]\ntargets = ['a/b']\norder = 'fast'", "[routes.a]: order is 'spill' or 'spread', not 'fast'"),
        (
            "[routes.a]\ntargets = ['a/b']\nfallback = { dawn = 'a/b' }",
            "[routes.a]: fallback has 'context', 'down', 'quota', 'rate', 'refusal', 'schema' or 'silence', not 'dawn'",
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_may_stand_there(tmp_path, content, why):
    """A user would read the words of a library that they do not know, about types that TOML does not have."""
    path = tmp_path / "flatout.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {why}")


def test_limits_are_written_as_on_the_command_line():
    """``--rpm 10k`` would have to be written as another number in the file."""
    limits = {"rpm": "10k", "tpm": "2.5M", "rpd": "1_000", "concurrency": "64", "shared": "5k"}
    given = load({"limits": {"openai": limits}}).limits["openai"]
    assert given == Limits(rpm=10_000, tpm=2_500_000, rpd=1_000, concurrency=64, shared="5k")


def test_limits_of_an_endpoint_that_does_not_exist_are_refused():
    """A slip of the pen would leave the endpoint that was meant without limits, and without a word."""
    tables = {"endpoints": {"east": {"base_url": "http://a.test/v1"}}, "limits": {"eats": {"rpm": 60}}}
    with pytest.raises(ConfigError, match=r"\[limits.eats\]: no endpoint is named 'eats'; did you mean east"):
        Client("east/m", config=tables)
    for name in ("east", "east/m", "openai", "local", "127.0.0.1:8000", "my.host"):
        Client("east/m", config={**tables, "limits": {name: {"rpm": 60}}})
