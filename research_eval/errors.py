"""Everything a user can be told, as one tree.

    ResearchEvalError
    ├── ConfigError          exit 2   a configuration or a command that is not legal
    │   ├── PluginError      exit 2   a plug-in file or entry point that cannot be used
    │   ├── FilterError      exit 2   a filter, sort key or list of columns that cannot be read
    │   └── NoMatchError     exit 2   a cost that an architecture cannot have
    ├── DataError            exit 3   data that cannot be had or cannot be used
    ├── StoreError           exit 4   a database that cannot be opened, read or written
    ├── RunError             exit 5   a run that failed
    │   ├── DivergedError    exit 5   a run whose loss stopped being finite
    │   ├── CollapsedError   exit 5   a run that was ended because its experts collapsed
    │   ├── PrunedError      exit 5   a run that its study ended
    │   └── LostProcessError exit 5   a run one of whose processes was killed
    ├── IncompleteError      exit 6   fewer results than were asked for
    └── StoppedError         exit 128 + signal   a run that was interrupted, with a resume point

A message says what was asked, what is true, and what to do. The command line prints it as one
line and exits with the code above; a traceback always means a defect of this program. Errors
travel between processes: `args` holds what made them, and the message is built when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class ResearchEvalError(Exception):
    """Root of all errors that are shown to a user without a traceback."""

    exit_code: int = 1


@dataclass(frozen=True, slots=True)
class Issue:
    """One mistake in a configuration.

    Attributes:
        path: Dotted path of the field, empty when it concerns the whole file.
        message: What is wrong and, where it is known, what would be right.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(ResearchEvalError):
    """A configuration or command that is not legal; carries all mistakes at once."""

    exit_code = 2

    def __init__(self, message: str, issues: Iterable[Issue] = ()) -> None:
        self.issues = tuple(issues)
        super().__init__(message, self.issues)

    def __str__(self) -> str:
        return "; ".join([str(self.args[0]), *map(str, self.issues)])


class PluginError(ConfigError):
    """A plug-in file or entry point that cannot be used."""


class FilterError(ConfigError):
    """A filter, sort key or list of columns that cannot be read.

    Args:
        message: What is wrong at the place.
        text: All that was given.
        position: Where in it, from 0.
    """

    shown_characters = 60

    def __init__(self, message: str, text: str, position: int) -> None:
        super().__init__(message)
        self.args = (message, text, position)
        self.text = text
        self.position = position

    def __str__(self) -> str:
        return f"at character {self.position + 1} of the filter: {self.args[0]}"

    def excerpt(self) -> tuple[str, int]:
        """Return the text around the place, and where the place is in that."""
        start = max(0, self.position - self.shown_characters // 2)
        return self.text[start : start + self.shown_characters], self.position - start


class NoMatchError(ConfigError):
    """A cost that an architecture cannot have; the message names the nearest that it can."""


class DataError(ResearchEvalError):
    """Data that cannot be had or cannot be used."""

    exit_code = 3


class StoreError(ResearchEvalError):
    """A database that cannot be opened, read or written."""

    exit_code = 4


class RunError(ResearchEvalError):
    """A run that failed."""

    exit_code = 5


class DivergedError(RunError):
    """A run whose loss stopped being finite.

    Args:
        step: The optimizer step at which the loss was first not finite.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(step)

    def __str__(self) -> str:
        return f"the training loss was not finite at step {self.step}"


class CollapsedError(RunError):
    """A run that was ended because its experts collapsed.

    Args:
        step: The optimizer step at which it was ended.
        flags: Reasons by the name of the rule.
    """

    def __init__(self, step: int, flags: Mapping[str, str]) -> None:
        super().__init__(step, flags)
        self.step = step
        self.flags = flags

    def __str__(self) -> str:
        return f"ended at step {self.step}: {'; '.join(self.flags.values())}"


class PrunedError(RunError):
    """A run that its study ended because others did better.

    Args:
        step: The optimizer step at which it was ended.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(step)

    def __str__(self) -> str:
        return f"ended at step {self.step}, since other trials did better there"


class LostProcessError(RunError):
    """A run one of whose processes was killed; it is interrupted.

    Args:
        told: Which process, and how.
        continuation: What the same command does: it "continues …" or "runs it anew".
    """

    def __init__(self, told: str, continuation: str) -> None:
        super().__init__(told, continuation)

    def __str__(self) -> str:
        told, continuation = self.args
        return f"{told}; the same command {continuation}"


class IncompleteError(ResearchEvalError):
    """Fewer results than were asked for."""

    exit_code = 6


class StoppedError(ResearchEvalError):
    """A run, or several, interrupted by a signal with resume points left.

    Args:
        signal_number: The signal received (2 = SIGINT, 15 = SIGTERM, 1 = SIGHUP).
        step: The last optimizer step that the resume point holds; None for several runs.
    """

    def __init__(self, signal_number: int, step: int | None = None) -> None:
        self.signal_number = signal_number
        self.step = step
        self.exit_code = 128 + signal_number
        super().__init__(signal_number, step)

    def __str__(self) -> str:
        where = "" if self.step is None else f" at step {self.step}"
        return f"stopped{where}; the same command continues from there"


def require_known(what: str, asked: Iterable[str | None], known: Iterable[str | None]) -> None:
    """Check names against those that the records have.

    Args:
        what: Of what they are names, as in "data set".
        asked: What was asked for.
        known: What there is; None and empty names are none.

    Raises:
        ConfigError: If no run has one of them.
    """
    names = {name for name in known if name}
    for name in asked:
        if name not in names:
            raise ConfigError(f"no run has the {what} '{name}'; {did_you_mean(f'{name}', names)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that points from a wrong name to the right ones.

    Args:
        name: What was asked for.
        known: What there is.
    """
    names = sorted(known)
    found = closest(name, names)
    return f"{found}{' ' if found else ''}known: {', '.join(names) or 'none'}"


def closest(name: str, known: Iterable[str]) -> str:
    """Return a question that names the most similar name, empty if none is similar."""
    import difflib  # noqa: PLC0415 - a script that is tracked need not wait for it

    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean '{by_lower[close[0]]}'?" if close else ""
