"""The options of a run on the command line, and what they ask for. Other commands take the same options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from . import options
from .parse import (
    CACHE_FOLDER,
    as_run,
    budget_of,
    command_line,
    given,
    headers,
    number,
    output_of,
    params,
    port,
    text_or_file,
)

if TYPE_CHECKING:
    from flatout.runs.client_options import ClientOptions
    from flatout.runs.job import RunOptions


class Asked(NamedTuple):
    """What a command line asks for.

    Attributes:
        job: what to run.
        made_with: what the client is made with.
        earlier: the run whose answers are used again.
        reuse: its name, as it was given.
        fail_truncated: whether an answer that was cut off counts as a failure.
        quiet: whether to print only errors.
        plain: whether to print plain lines of progress.
        verbose: how many events to print.
    """

    job: RunOptions
    made_with: ClientOptions
    earlier: Path | None
    reuse: str | None
    fail_truncated: bool
    quiet: bool
    plain: bool
    verbose: int


def asked(
    context: typer.Context,
    source: options.Source,
    output: options.Output = None,
    model: options.Model = None,
    prompt: options.Prompt = None,
    system: options.System = None,
    image: options.Image = None,
    nulls: options.Nulls = "error",
    same_prompt: options.SamePrompt = False,
    format: options.Format = None,
    encoding: options.Encoding = "utf-8",
    delimiter: options.Delimiter = None,
    limit: options.Limit = None,
    param: options.Param = None,
    schema: options.Schema = None,
    choices: options.Choices = None,
    reasks: options.Reasks = None,
    fail_truncated: options.FailTruncated = False,
    samples: options.Samples = None,
    base_url: options.BaseUrl = None,
    header: options.Header = None,
    trust_env: options.TrustEnv = False,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    itpm: options.Itpm = None,
    otpm: options.Otpm = None,
    rpd: options.Rpd = None,
    burst: options.Burst = None,
    concurrency: options.Concurrency = None,
    adaptive: options.Adaptive = None,
    shared: options.Shared = None,
    wait_for_quota: options.WaitForQuota = False,
    budget: options.Budget = None,
    allow_unknown_price: options.AllowUnknownPrice = False,
    timeout: options.Timeout = None,
    first_byte: options.FirstByte = None,
    between_bytes: options.BetweenBytes = None,
    deadline: options.Deadline = None,
    retries: options.Retries = None,
    give_up: options.GiveUp = None,
    retry_share: options.RetryShare = None,
    repeats: options.Repeats = None,
    retry_failed: options.RetryFailed = False,
    cache: options.Cache = None,
    cache_max_age: options.CacheMaxAge = None,
    reuse: options.Reuse = None,
    prompt_cache: options.PromptCache = None,
    fresh: options.Fresh = False,
    run_file: options.RunFile = None,
    no_prompts: options.NoPrompts = False,
    overwrite: options.Overwrite = False,
    neutralise: options.Neutralise = False,
    workers: options.Workers = 1,
    otlp: options.Otlp = None,
    metrics: options.Metrics = None,
    config: options.Config = None,
    quiet: options.Quiet = False,
    plain: options.Plain = False,
    verbose: options.Verbose = 0,
) -> Asked:
    """What the options ask for. Every command that takes them is made by `taking`.

    Raises:
        ConfigError: a value is wrong.
    """
    from flatout.runs.job import RunOptions
    from flatout.values.secret import conceal

    from .run_names import find

    models = tuple(model or ())
    job = RunOptions(
        source=source,
        output=output,
        run_file=run_file,
        format=format,
        encoding=encoding,
        delimiter=delimiter,
        prompt=text_or_file("--prompt", prompt),
        system=text_or_file("--system", system),
        images=tuple(image or ()),
        nulls=nulls,
        same_prompt=same_prompt,
        params={**params(param or ()), **output_of(schema, choices)},
        model=models[0] if len(models) == 1 else None,
        models=models if len(models) > 1 else None,
        samples=samples,
        limit=limit,
        fresh=fresh,
        retry_failed=retry_failed,
        keep_prompts=not no_prompts,
        overwrite=overwrite,
        neutralise=neutralise,
        command=command_line(as_run(context.obj or ())),
        otlp=conceal(otlp),
        metrics=port("--metrics", metrics),
        workers=workers,
    )
    earlier = None if reuse is None else find(reuse)
    made_with = _client_options(
        limits=given(
            {
                "rpm": number("--rpm", rpm),
                "tpm": number("--tpm", tpm),
                "itpm": number("--itpm", itpm),
                "otpm": number("--otpm", otpm),
                "rpd": number("--rpd", rpd),
                "burst": burst,
                "concurrency": concurrency,
                "adaptive": adaptive,
                "shared": shared,
            }
        ),
        options=given(
            {
                "model": models[0] if models else None,
                "base_url": base_url,
                "timeout": timeout,
                "first_byte": first_byte,
                "between_bytes": between_bytes,
                "deadline": deadline,
                "retries": retries,
                "give_up": give_up,
                "retry_share": retry_share,
                "repeats": repeats,
                "reasks": reasks,
                "budget": budget_of(budget),
                "allow_unknown_price": allow_unknown_price or None,
                "headers": headers(header or ()) or None,
                "config": config,
                "trust_env": trust_env,
                "wait_for_quota": wait_for_quota or None,
                "fail_truncated": fail_truncated or None,
                "cache": cache if cache != CACHE_FOLDER else True,
                "cache_max_age": cache_max_age,
                "reuse": earlier and str(earlier),
                "prompt_cache": prompt_cache,
            }
        ),
    )
    return Asked(job, made_with, earlier, reuse, fail_truncated, quiet, plain, verbose)


def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A further option of a command that `taking` makes."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def taking(does: Callable[..., int], more: Sequence[inspect.Parameter] = ()) -> Callable[..., int]:
    """A command that takes the options of a run.

    Args:
        does: receives what they ask for, and the values of ``more`` by their names. Its docstring is the help.
        more: further options.
    """

    def command(context: typer.Context, **given: Any) -> int:
        others = {each.name: given.pop(each.name) for each in more}
        return does(asked(context, **given), **others)

    own = inspect.signature(asked, eval_str=True)
    setattr(command, "__signature__", own.replace(parameters=[*own.parameters.values(), *more], return_annotation=int))  # noqa: B010
    command.__doc__ = does.__doc__
    return command


def _client_options(limits: dict[str, Any], options: dict[str, Any]) -> ClientOptions:
    """The options of the client, and of each worker's."""
    from flatout.runs.client_options import ClientOptions
    from flatout.values import Limits

    return ClientOptions(options, Limits(**limits) if limits else None)
