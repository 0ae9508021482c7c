"""Signatures of msgspec structs for the API reference.

A struct has no ``__init__`` in its source: its fields are its parameters. griffe, which reads the source, knows this of
dataclasses alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe

STRUCT = "msgspec.Struct"


class Structs(griffe.Extension):
    """Gives each msgspec struct the parameters of its fields."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """After a package was read: look at every class in it, and only then change any."""
        made = {each: _fields(each) for each in _classes(pkg) if _is_struct(each)}
        for struct, fields in made.items():
            struct.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*fields.values())))
            for name in fields.keys() & struct.members.keys():  # told as a parameter, it need not be told again
                struct.del_member(name)


def _classes(place: griffe.Module | griffe.Class) -> Iterator[griffe.Class]:
    for member in place.members.values():
        if not member.is_alias and (member.is_class or member.is_module):
            if member.is_class:
                yield member
            yield from _classes(member)


def _lineage(made: griffe.Class) -> list[griffe.Class]:
    return [*reversed(made.mro()), made]


def _is_struct(made: griffe.Class) -> bool:
    bases = (base for each in _lineage(made) for base in each.bases if not isinstance(base, str))
    return "__init__" not in made.members and any(base.canonical_path == STRUCT for base in bases)


def _fields(struct: griffe.Class) -> dict[str, griffe.Parameter]:
    """By place first, by name then, as msgspec has them; each as the last class has it that names it."""
    found = {field.name: field for each in _lineage(struct) for field in _own(each)}
    return dict(sorted(found.items(), key=lambda item: item[1].kind is griffe.ParameterKind.keyword_only))


def _own(struct: griffe.Class) -> Iterator[griffe.Parameter]:
    by_name, by_place = griffe.ParameterKind.keyword_only, griffe.ParameterKind.positional_or_keyword
    kind = by_name if struct.keywords.get("kw_only") == "True" else by_place
    for name, each in struct.members.items():
        if each.is_attribute and each.annotation is not None and "property" not in each.labels:
            yield griffe.Parameter(name, annotation=each.annotation, kind=kind, default=each.value)
