"""`generate`: text from a recorded language model."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._batch import OneRun
from research_eval.cli._options import DbOption
from research_eval.cli._progress import display
from research_eval.cli._render import note, number, printable, to_json, write
from research_eval.cli.evaluate import DeviceOption, WeightsChoice, WeightsOption
from research_eval.cli.runs import RunArgument
from research_eval.errors import ConfigError
from research_eval.generation.decoding import Decoding

if TYPE_CHECKING:
    from research_eval.generation.writing import Continuation, Writer


class TextFormat(StrEnum):
    """How continuations are printed."""

    TEXT = "text"
    JSON = "json"


def _explained(field: str, flag: str) -> Any:
    """Return the option of a field of `Decoding`, which says what it means."""
    return typer.Option(flag, help=Decoding.model_fields[field].description)


PromptOption = Annotated[
    list[str] | None,
    typer.Option("--prompt", help="What to continue; for synthetic data, numbers. Repeatable."),
]
BatchFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help='One prompt a line: plain, or for .jsonl an object with "prompt".'
    ),
]
MaxNewTokensOption = Annotated[int, _explained("max_new_tokens", "--max-new-tokens")]
TemperatureOption = Annotated[float, _explained("temperature", "--temperature")]
TopKOption = Annotated[int | None, _explained("top_k", "--top-k")]
TopPOption = Annotated[float, _explained("top_p", "--top-p")]
SeedOption = Annotated[int, _explained("seed", "--seed")]
StopOption = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="End before this text. Repeatable."),
]
CacheOption = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Keep keys and values of earlier positions.")
]
TextFormatOption = Annotated[TextFormat, typer.Option("--format", help="How to print.")]

_DEFAULTS = Decoding()


def generate(
    run: RunArgument,
    prompt: PromptOption = None,
    batch_file: BatchFileOption = None,
    max_new_tokens: MaxNewTokensOption = _DEFAULTS.max_new_tokens,
    temperature: TemperatureOption = _DEFAULTS.temperature,
    top_k: TopKOption = _DEFAULTS.top_k,
    top_p: TopPOption = _DEFAULTS.top_p,
    seed: SeedOption = _DEFAULTS.seed,
    stop: StopOption = None,
    weights: WeightsOption = WeightsChoice.SELECTED,
    device: DeviceOption = "auto",
    cache: CacheOption = True,
    database: DbOption = None,
    form: TextFormatOption = TextFormat.TEXT,
) -> None:
    """Continue text with a recorded language model.

    One prompt appears as it is written; several are written on together and printed in their order.
    With --temperature 0 the same prompt always gives the same text, else with the same --seed.
    """
    prompts = _prompts(prompt, batch_file)
    how = _decoding(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    from research_eval.generation.writing import Writer

    with display() as shown:
        writer = Writer(
            run,
            weights=weights.value,
            device=device,
            db=database,
            watcher=OneRun(f"loading {run}", shown),
        )
    _write(writer, prompts, how, stop or (), cache, form)
    note(f"next: research-eval evaluate {writer.record.experiment_id}")


def _write(
    writer: Writer,
    prompts: list[str],
    how: Decoding,
    stops: Sequence[str],
    cache: bool,
    form: TextFormat,
) -> None:
    """Write, show what is written, and say how fast."""
    live = len(prompts) == 1 and form is TextFormat.TEXT
    began = time.perf_counter()
    found = writer.write(
        prompts,
        how,
        stops=stops,
        cached=cache,
        tell=lambda _place, text: _stream(text) if live else None,
    )
    seconds = time.perf_counter() - began
    _finish(found, form, live)
    tokens = sum(len(each.ids) for each in found)
    note(f"{tokens:,} tokens in {seconds:.1f} s, {number(tokens / seconds)} tokens/s")


def _prompts(prompts: list[str] | None, file: Path | None) -> list[str]:
    if (prompts is None) == (file is None):
        raise ConfigError(
            'give what to continue: either --prompt "TEXT", once or more, or --batch-file FILE'
        )
    if prompts is not None:
        return prompts
    assert file is not None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{file} cannot be read: {reason}") from error
    found = [_prompt_of(line, file, row) for row, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ConfigError(f"{file} holds no prompt; write one a line")
    return found


def _prompt_of(line: str, file: Path, row: int) -> str:
    if file.suffix != ".jsonl":
        return line
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str):
        raise ConfigError(f'{file}, line {row}: expected {{"prompt": "TEXT"}}, not {line[:60]!r}')
    return prompt


def _decoding(**settings: Any) -> Decoding:
    from pydantic import ValidationError

    try:
        return Decoding(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"{flag}: {first['msg']}, not {first['input']}") from error


def _stream(text: str) -> None:
    """Write at once; line ends stay, everything else that a terminal would act on does not."""
    sys.stdout.write("\n".join(printable(part) for part in text.split("\n")))
    sys.stdout.flush()


def _finish(found: list[Continuation], form: TextFormat, live: bool) -> None:
    if form is TextFormat.JSON:
        write(to_json([asdict(each) for each in found]))
        return
    if live:
        _stream("\n")
    else:
        for each in found:
            _stream(f"{each.prompt}{each.text}\n\n")
    ended = {each.ended for each in found}
    if "positions" in ended:
        note("the model has no more positions; a shorter prompt leaves more for the text")
