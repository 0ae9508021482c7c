"""From a model's name to a server, and whose key goes there."""

from __future__ import annotations

import pytest

from flatout import ConfigError, Limits
from flatout.config.file import Config, load
from flatout.providers import registry
from flatout.providers.targets import Targets

OPENAI = "https://api.openai.com/v1"
KEYS = ("OPENAI_API_KEY", "GROQ_API_KEY", "FLATOUT_API_KEY", "VLLM_API_KEY", "MINE_API_KEY")


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    """Each variable holds its own name, so that a key tells where it came from."""
    for name in KEYS:
        monkeypatch.setenv(name, f"from {name}")


def targets(model=None, base_url=None, api_key=None, headers=None, limits=None, **config) -> Targets:
    return Targets(model=model, base_url=base_url, api_key=api_key, headers=headers, limits=limits, config=load(config))


def key_of(made: Targets, model: str) -> str | None:
    secret = made.target(model).endpoint.api_key
    return None if secret is None else secret.reveal()


def test_a_model_names_its_provider():
    """``openai/gpt-5-mini`` would go somewhere else, or ask for another model."""
    target = targets("openai/gpt-5-mini").target("openai/gpt-5-mini")
    assert (target.endpoint.base_url, target.model, target.name) == (OPENAI, "gpt-5-mini", "openai/gpt-5-mini")
    assert targets().target("vllm/meta/llama").model == "meta/llama"


def test_each_provider_gets_its_own_key():
    """OpenAI's key would be sent to Groq."""
    made = targets("openai/a")
    assert key_of(made, "openai/a") == "from OPENAI_API_KEY"
    assert key_of(made, "groq/a") == "from GROQ_API_KEY"


def test_a_key_given_in_code_goes_to_the_default_models_endpoint_alone():
    """The key for one provider would be sent to another; or a second model of the same provider would have none."""
    made = targets("openai/a", api_key="mine")
    assert key_of(made, "openai/a") == "mine"
    assert key_of(made, "openai/b") == "mine"
    assert key_of(made, "groq/a") == "from GROQ_API_KEY"
    assert key_of(targets(api_key="mine"), "openai/a") == "from OPENAI_API_KEY"


def test_an_empty_variable_of_a_key_is_none():
    """A server of one's own would ask for a key from a variable without a name."""
    own = targets(endpoints={"mine": {"base_url": "http://10.0.0.1/v1", "key_env": ""}})
    assert key_of(own, "mine/gpt") is None


def test_base_url_gets_flatouts_own_key_and_no_providers(monkeypatch):
    """A provider's key would be sent to whatever server base_url names."""
    for model in ("any", "openai/gpt", "local", "x/y/z"):
        made = targets(model, base_url="http://127.0.0.1:9/v1/")
        target = made.target(model)
        assert (target.endpoint.base_url, target.model) == ("http://127.0.0.1:9/v1", model)
        assert key_of(made, model) == "from FLATOUT_API_KEY"
        assert not made.is_local(model)
    assert key_of(targets("m", base_url="http://x/v1", api_key="given"), "m") == "given"
    monkeypatch.delenv("FLATOUT_API_KEY")
    assert key_of(targets("m", base_url="http://x/v1"), "m") is None


@pytest.mark.parametrize(
    "url",
    [
        *("x", "ftp://x/v1", "http://", "http:///v1", "", "file:///etc/passwd", "http://[", "http://x:99999/v1"),
        *("//x/v1", "http://x/v 1", "http://x\n/v1"),
    ],
)
def test_an_unusable_base_url_is_refused_before_anything_is_sent(url):
    """Every call would fail by itself, after retries, instead of one clear message at the start."""
    with pytest.raises(ConfigError, match="base URL"):
        targets("m", base_url=url)
    if url:
        with pytest.raises(ConfigError, match="base URL"):
            targets("mine/m", endpoints={"mine": {"base_url": url}})


def test_a_blank_around_the_base_url_is_no_part_of_it():
    """A base URL that was copied with a blank behind it would send every call to a path that nobody serves."""
    assert targets("m", base_url=" http://x/v1/ \n").target("m").endpoint.base_url == "http://x/v1"


def test_a_key_in_an_unusable_base_url_is_not_shown():
    """It would stand in the terminal's history."""
    with pytest.raises(ConfigError) as caught:
        targets("m", base_url="htp://x/v1?key=hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_password_in_the_base_url_is_refused_and_not_shown():
    """It would stand in every log line that names the server."""
    for url in ("http://me:hunter2@host/v1", "ftp://me:hunter2@host/v1", "http://me:hunter2@[/v1"):
        with pytest.raises(ConfigError) as caught:
            targets("m", base_url=url)
        assert "hunter2" not in str(caught.value)


def test_a_server_of_ones_own_needs_no_key(monkeypatch):
    """A local vLLM could not be used without inventing a key."""
    monkeypatch.delenv("VLLM_API_KEY")
    assert key_of(targets(), "vllm/llama") is None
    assert key_of(targets(), "ollama/llama") is None


@pytest.mark.parametrize("empty", [None, "", "  \n"])
def test_a_missing_key_is_named(monkeypatch, empty):
    """A call would be sent without a key, and fail with a provider's 401 instead of a hint."""
    monkeypatch.delenv("OPENAI_API_KEY") if empty is None else monkeypatch.setenv("OPENAI_API_KEY", empty)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        targets("openai/a")


def test_white_space_around_a_key_is_dropped(monkeypatch):
    """A key from a file with a line break at its end would not work."""
    monkeypatch.setenv("OPENAI_API_KEY", " sk \n")
    monkeypatch.setenv("FLATOUT_API_KEY", "fk\n")
    assert key_of(targets(), "openai/a") == "sk"
    assert key_of(targets("m", base_url="http://x"), "m") == "fk"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gpt-5", "names no provider"),
        ("", "names no provider"),
        ("opnai/x", "did you mean openai"),
        ("openai/", "only"),
    ],
)
def test_a_name_that_is_no_model_says_why(model, said):
    """A typo would be sent, or end in a KeyError."""
    with pytest.raises(ConfigError, match=said):
        targets().target(model)


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("fats", "fast"),
        ("Fast", "fast"),
        ("locla", "local"),
        ("spare-ky", "spare-key/…"),
        ("openai", "openai/…"),
        ("opnai", "openai/…"),
        ("gpt-5-mini", "openai/gpt-5-mini"),
        ("opnai-gpt-5-mini", "openai/gpt-5-mini"),
        ("gpt", None),
        ("some-other-model", None),
    ],
)
def test_a_name_that_is_nearly_one_of_the_users_own_is_recognised(model, meant):
    """Somebody who mistypes a route would be told to write it as a provider and a model."""
    config = {
        "endpoints": {"spare-key": {"base_url": "http://x/v1"}},
        "routes": {"fast": {"targets": ["openai/gpt-5-mini", "spare-key/m"]}},
    }
    with pytest.raises(ConfigError) as caught:
        targets(**config).target(model)
    assert ("did you mean" in str(caught.value)) is (meant is not None)
    assert meant is None or f"did you mean {meant}?" in str(caught.value)


def test_the_embedded_model_is_called_local():
    """``local`` would look for a provider of that name; or a server that is called so could not be named."""
    assert targets("local").is_local("local")
    assert not targets(endpoints={"local": {"base_url": "http://x/v1"}}).is_local("local/any")


def test_no_other_model_is_taken_for_the_embedded_one():
    """``-m local/llama-70b`` would be answered by a model of 135 million parameters, and nobody told."""
    with pytest.raises(ConfigError, match="the only embedded model is named local, not 'local/llama-70b'"):
        targets("local/llama-70b")


def test_flatout_toml_makes_endpoints():
    """A server of one's own would have no name."""
    table = {"base_url": "http://10.0.0.1/v1/", "key_env": "MINE_API_KEY", "headers": {"x-a": "1"}, "system": "be"}
    endpoint = targets(endpoints={"mine": table}).target("mine/llama").endpoint
    assert (endpoint.name, endpoint.base_url, endpoint.system) == ("mine", "http://10.0.0.1/v1", "be")
    assert endpoint.headers == {"x-a": "1"}
    assert endpoint.api_key.reveal() == "from MINE_API_KEY"


def test_an_endpoint_takes_the_rest_from_its_provider():
    """Another name for a provider would speak another dialect."""
    endpoint = targets(endpoints={"work": {"provider": "openai"}}).target("work/gpt").endpoint
    assert (endpoint.base_url, endpoint.limit_headers) == (OPENAI, "openai")
    assert endpoint.api_key.reveal() == "from OPENAI_API_KEY"


def test_an_endpoint_without_an_address_is_refused():
    """Its calls would go nowhere."""
    with pytest.raises(ConfigError, match="neither a base_url nor a provider"):
        targets("mine/x", endpoints={"mine": {"system": "x"}})


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/v1",
        "https://api.openai.com.evil.example/v1",
        "http://api.openai.com/v1",
        "https://api.openai.com:444/v1",
        "https://evil.example/https://api.openai.com/v1",
    ],
)
def test_a_providers_key_never_goes_to_another_origin(url):
    """A flatout.toml in a cloned repository would send the user's OpenAI key to its author."""
    for table in ({"base_url": url}, {"base_url": url, "provider": "openai"}):
        for name in ("openai", "mine"):
            made = targets(endpoints={name: table})
            assert key_of(made, f"{name}/gpt") is None
        with pytest.raises(ConfigError, match="belongs to"):
            targets(endpoints={"mine": {**table, "key_env": "OPENAI_API_KEY"}}).target("mine/gpt")


@pytest.mark.parametrize("url", ["http+unix://%2Frun%2Fllm.sock/v1", "http+unix://%2frun%2fllm.sock/v1/"])
def test_a_server_may_be_at_a_unix_socket(url):
    """A local server that listens at no port could not be used."""
    made = Targets(model="m", base_url=url, api_key=None, headers=None, limits=None, config=Config())
    assert made.target("m").endpoint.base_url == url.rstrip("/")
    assert registry.origin(url) == "http+unix://%2Frun%2Fllm.sock"


def test_two_sockets_are_two_origins():
    """A flatout.toml in a cloned repository could send a key to its author's socket."""
    assert registry.origin("http+unix://%2Frun%2Fa/v1") != registry.origin("http+unix://%2Frun%2Fb/v1")
    for url in ("http+unix://%2Frun%2Fa/v1", "http+unix://api.openai.com/v1"):
        with pytest.raises(ConfigError, match=r"belongs to|not an http"):
            targets(endpoints={"mine": {"base_url": url, "key_env": "OPENAI_API_KEY"}}).target("mine/gpt")


@pytest.mark.parametrize("url", ["http+unix:///v1", "http+unix://run%2Fx/v1", "http+unix://%2Frun%00/v1", "unix:///x"])
def test_an_address_of_no_socket_is_refused(url):
    """Each call would fail, and none say why."""
    with pytest.raises(ConfigError, match="not an http"):
        Targets(model="m", base_url=url, api_key=None, headers=None, limits=None, config=Config())


def test_the_same_origin_keeps_the_key():
    """Another path of the same provider could not be reached."""
    made = targets(endpoints={"openai": {"base_url": "https://api.openai.com/v2"}})
    assert key_of(made, "openai/gpt") == "from OPENAI_API_KEY"


def test_headers_go_with_every_request():
    """An organisation's header would be missing, or would wipe out those in flatout.toml."""
    made = targets(
        headers={"x-b": "2"}, endpoints={"mine": {"base_url": "http://x", "headers": {"x-a": "1", "x-b": "0"}}}
    )
    assert made.target("mine/m").endpoint.headers == {"x-a": "1", "x-b": "2"}
    assert targets("m", base_url="http://x", headers={"x-b": "2"}).target("m").endpoint.headers == {"x-b": "2"}


@pytest.mark.parametrize(
    ("model", "host"),
    [
        ("openai/gpt", ""),
        ("ollama/llama", ""),
        ("local", ""),
        ("groq/moved", "10.0.0.1:8000"),
        ("mine/llama", "10.0.0.2"),
        ("azure/gpt", "mine.openai.azure.com"),
    ],
)
def test_the_host_is_told_where_the_name_does_not_tell_it(azure, model, host):
    """A user would read ``groq/…`` and not know that their prompts go to another server."""
    azure("https://mine.openai.azure.com")
    endpoints = {
        "openai": {"base_url": f"{OPENAI}/", "headers": {"x-team": "a"}},
        "groq": {"base_url": "http://10.0.0.1:8000/v1"},
        "mine": {"base_url": "http://10.0.0.2/v1"},
    }
    assert targets(endpoints=endpoints).elsewhere(model) == host
    assert targets("any", base_url="http://10.0.0.3:1/v1").elsewhere("any") == "10.0.0.3:1"


def test_blanks_around_a_base_url_do_not_count():
    """A base URL that was pasted with a blank behind it would be answered with a 404 for every call."""
    assert targets("m", base_url=" http://127.0.0.1:9/v1/ ").target("m").endpoint.base_url == "http://127.0.0.1:9/v1"


def test_limits_come_from_the_nearest_place():
    """A limit given by name would be overruled by flatout.toml, or the file's be forgotten."""
    tables = {"openai": {"rpm": 1, "tpm": 1}, "openai/gpt": {"tpm": 2}}
    settings = load({"limits": tables})
    made = Targets(model="openai/gpt", base_url=None, api_key=None, headers=None, limits=Limits(rpm=3), config=settings)
    assert made.limits_of(made.target("openai/gpt")) == Limits(rpm=3, tpm=2)
    assert made.client_limits == Limits(rpm=3, tpm=2)


def test_no_key_shows_in_a_repr():
    """A log line with a target would hold the key."""
    for made, model in ((targets(), "openai/a"), (targets("m", base_url="http://x"), "m")):
        assert "API_KEY" not in repr(made.target(model)).replace("key_env='OPENAI_API_KEY'", "").replace(
            "key_env='FLATOUT_API_KEY'", ""
        )


AZURE = "from AZURE_OPENAI_API_KEY"


@pytest.fixture
def azure(monkeypatch):
    """Sets Azure's key, and the address that the environment gives."""
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", AZURE)
    return lambda address: monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", address)


@pytest.mark.parametrize(
    "address",
    [
        "https://mine.openai.azure.com/",
        "https://mine.services.ai.azure.com/openai/v1",
        "https://mine.cognitiveservices.azure.com",
        "http://127.0.0.1:8000/v1",
        "http://localhost:1",
        "http://[::1]:1",
    ],
)
def test_azures_key_goes_to_azure(azure, address):
    """Users of Azure could not reach their resource, or would have to name its key in two places."""
    azure(address)
    assert key_of(targets(), "azure/m") == AZURE
    assert key_of(targets(endpoints={"work": {"provider": "azure"}}), "work/m") == AZURE
    assert key_of(targets(endpoints={"work": {"provider": "azure", "base_url": address}}), "work/m") == AZURE


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/openai.azure.com",
        "https://mine.openai.azure.com.evil.example",
        "https://evilopenai.azure.com",
        "http://mine.openai.azure.com",
    ],
)
def test_azures_key_goes_nowhere_else(azure, address):
    """A slip in the address would hand the key to a stranger."""
    azure(address)
    with pytest.raises(ConfigError, match="would send AZURE_OPENAI_API_KEY to"):
        targets().target("azure/m")
    assert key_of(targets(endpoints={"azure": {"base_url": address}}), "azure/m") is None
    for table in ({"base_url": address}, {}):
        named = {"provider": "azure", "key_env": "AZURE_OPENAI_API_KEY", **table}
        assert key_of(targets(endpoints={"azure": named}), "azure/m") == AZURE
