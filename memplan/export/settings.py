"""What another program is started with: settings by its own names, each with its value, reason and source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PlannedFact:
    """
    Something a plan or a budget decides, under memplan's own name for it: its value and why it is that.

    `usual` ones are as any consumer has them by default: nobody has to be told where there is no setting for them.
    """

    value: Any
    reason: str
    usual: bool = False


Facts = Mapping[str, PlannedFact]


@dataclass(frozen=True, slots=True)
class ConsumerSetting:
    """
    One setting: the file it stands in, its name there, its value, why it has it and where the name comes from.

    Where the file holds objects, dots in the name lead through them; `$NAME` is a variable of the environment, and
    `--flag[key.below]` a key of the JSON object that a flag takes.
    """

    file: str
    name: str
    value: Any
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """
    One file of settings: its name, its form (`command`, `environment`, `yaml`, `toml`, `json`, `conf`), and of a
    command the words that the settings follow.
    """

    name: str
    form: str
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """
    All that a consumer is told: for which version, about what, its files, settings and what it can't be told.

    `about` are lines that say what was planned; `figures` what must come out there.
    """

    consumer: str
    version: str
    about: tuple[str, ...]
    files: tuple[SettingsFile, ...]
    settings: tuple[ConsumerSetting, ...]
    notes: tuple[str, ...]
    figures: Mapping[str, int]

    @property
    def title(self) -> str:
        """Consumer and version."""
        return f"{self.consumer} {self.version}"

    def of(self, file: SettingsFile) -> tuple[ConsumerSetting, ...]:
        """The settings that stand in `file`."""
        return tuple(setting for setting in self.settings if setting.file == file.name)
