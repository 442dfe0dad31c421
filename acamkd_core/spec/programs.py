"""Lineage of a student whose teacher was a program: which file, and that its code was run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, Field


class TeacherProgram(BaseModel):
    """A teacher that is a program (`.pt2`)."""

    file: str = Field(description="Name of the file, without its folder.")
    sha256: str | None = Field(default=None, description="Digest of the file; null before a run has read it.")
    ran_code: bool | None = Field(
        description="Whether its code has been run; null of a run that ended before training: its log says whether."
    )


def program_of(spec: Mapping[str, Any], *, ran: bool | None) -> TeacherProgram | None:
    """The program in a spec as plain data; None where the teacher is none, or there is no teacher.

    Args:
        spec: of any version: a stored one is shown, never validated again.
        ran: whether a run has come far enough to load its teacher; None where that is not known.
    """
    teacher = spec.get("teacher")
    if not isinstance(teacher, Mapping) or not teacher.get("allow_code"):
        return None
    file = (teacher.get("weights") or {}).get("file")
    return TeacherProgram(file=PurePath(str(file)).name, sha256=(teacher.get("pt2") or {}).get("sha256"), ran_code=ran)
