"""Explains wrong usage in one sentence, with an example if the command was given too little."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .terminal import clean, say

_EXAMPLE = re.compile(r"^\$ (flatout .*?(?<!\\))\n", re.MULTILINE | re.DOTALL)
_OTHERWISE = {
    "output": "--output names the file; answers of a form are asked for with --schema or --choices",
    "store": "--run-file names the run file",
    "api_key": "keys come from the environment, such as OPENAI_API_KEY",
    "strict": "rows without an answer are written with their errors, and the exit code is 1",
    "resume": "run the same command again: it goes on where it was",
}
"""What stands for an option of the library, or of other programs, in commands that ask rows."""

_PYDANTIC = re.compile(r"Value error, |, unable to parse[^;]*|Input(?= should)")


def explain(error: Any, arguments: Sequence[str]) -> None:
    """Explain what is wrong with a command line.

    Args:
        error: the command line library's own error.
        arguments: the command line.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        return  # making that error has printed the help
    path, command = _command(error, arguments)
    if type(error).__name__ == "MissingParameter":
        say(f"flatout: {_missing(error)}{_example(command)}\nSee all that it takes with: {path} --help")
        return
    if type(error).__name__ == "NoSuchOption" and (instead := _otherwise(error.option_name, command)):
        say(f"flatout: no such option: {clean(error.option_name)}; {instead}; see {path} --help")
        return
    message = _PYDANTIC.sub(lambda found: "it" if found[0] == "Input" else "", clean(str(error.format_message())))
    message = message.rstrip(".")
    say(f"flatout: {message[:1].lower()}{message[1:]}; see {path} --help")


def _command(error: Any, arguments: Sequence[str]) -> tuple[str, Any]:
    """The command that was meant, and its name with its parents'."""
    from .app import command

    if (context := getattr(error, "ctx", None)) is not None and context.parent is not None:
        return context.command_path, context.command
    path, found = "flatout", command()  # the parser's own errors do not know whose options they read
    for word in arguments:
        if word not in getattr(found, "commands", {}):
            break
        path, found = f"{path} {word}", found.commands[word]
    return path, found


def _otherwise(option: str, command: Any) -> str:
    """What to write instead of an option that a command has not; "" if nobody knows."""
    from flatout.edge.parameters import meant

    from .parse import CALL_PARAMETERS

    name, has = option.lstrip("-").replace("-", "_"), {other for param in command.params for other in param.opts}
    right = meant(name) or name
    if "--param" in has:  # it asks rows
        if right in _OTHERWISE:
            return _OTHERWISE[right]
        if right in CALL_PARAMETERS:
            return f"write --param {right}=…"
    written = f"--{right.replace('_', '-')}"
    return f"write {written}" if written in has else ""


def _missing(error: Any) -> str:
    param = error.param
    what = re.sub(r"\[/?bold\]", "", param.help or "").rstrip(".")
    name = param.metavar if param.param_type_name == "argument" else " ".join((param.opts[-1], param.metavar or ""))
    return f"{error.ctx.command.name} needs {name}. {what}."


def _example(command: Any) -> str:
    found = _EXAMPLE.search(command.epilog or "")
    return f"\nFor example:\n  {found[1]}" if found else ""
