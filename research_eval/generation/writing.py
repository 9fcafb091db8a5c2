"""Lets a recorded language model write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from research_eval.errors import ConfigError
from research_eval.generation.decoding import Decoding
from research_eval.generation.numbers import Numbers
from research_eval.generation.sampling import Batch, most_positions, write_on
from research_eval.generation.transcript import Ending, Transcript
from research_eval.prepare import Prepared, cache_dir
from research_eval.recorded import Weights, recall
from research_eval.records import RunRecord
from research_eval.spec import LoadContext, Vocabulary
from research_eval.store import Store
from research_eval.store.location import locate
from research_eval.training.progress import Nobody, Watcher

ROWS = 32
"""Prompts that are written on together."""

Tell = Callable[[int, str], None]
"""Called with the index of a prompt and a piece of text."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What was written behind a prompt.

    Attributes:
        prompt: As it was given.
        text: What follows it.
        ids: The tokens of `text`, and those of a stop if one ended it.
        ended: Why no more was written: "end of text" (the model ended it), "stop" (a given text
            came, which is left out), "max_new_tokens", or "positions" (the model has no more).
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    ended: Ending


class Writer:
    """A recorded language model, ready to write.

    Args:
        run: A record, or what a person calls the run: an id, its beginning, a name, "last".
        weights: "selected" are those that the run's scores describe.
        device: Where to: auto, cpu, cuda, cuda:1 or mps.
        db: The store, by path or URL; by default the one that the commands would use.
        watcher: Told what is loaded, and how many prompts are done.

    Attributes:
        record: The run.

    Raises:
        StoreError: If there is no such run, or it kept no such weights.
        ConfigError: If it is no language model.
        DataError: If its data or its tokenizer cannot be had any more.
    """

    def __init__(
        self,
        run: str | RunRecord,
        *,
        weights: Weights = "selected",
        device: str = "auto",
        db: str | Path | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._watcher = watcher or Nobody()
        with Store.open(db or locate(create=False), mode="ro") as store:
            self.record = store.run(run) if isinstance(run, str) else run
            recalled = recall(
                self.record, store, weights=weights, device=device, watcher=self._watcher
            )
        if recalled.network.task != "language_modeling":
            run_id = self.record.experiment_id
            raise ConfigError(
                f"run {run_id} is a classifier and writes no text; `research-eval evaluate "
                f"{run_id}` shows what it says of its data"
            )
        self._network = recalled.network
        self._vocabulary = _vocabulary(recalled.prepared, self._watcher)

    def write(
        self,
        prompts: Sequence[str],
        how: Decoding,
        *,
        stops: Sequence[str] = (),
        cached: bool = True,
        tell: Tell = lambda _place, _text: None,
    ) -> list[Continuation]:
        """Continue prompts.

        Args:
            prompts: Text, or for synthetic data numbers with spaces between them.
            how: Length and choice of tokens.
            stops: Texts before which a continuation ends.
            cached: Whether keys and values of earlier positions are kept, where the body can
                use them. What is written does not change, but for rounding.
            tell: Told each prompt, and behind it each piece of text when it is certain.

        Raises:
            ConfigError: If a prompt cannot be continued.
        """
        if "" in stops:
            raise ConfigError("a stop must have at least one character")
        encoded = [self._encoded(prompt) for prompt in prompts]
        scripts = [Transcript(self._vocabulary, ids, stops, how.max_new_tokens) for ids in encoded]
        for start in range(0, len(prompts), ROWS):
            places = range(start, min(start + ROWS, len(prompts)))
            batch = Batch(prompts=[encoded[place] for place in places], places=places)
            for place in places:
                tell(place, prompts[place])
            self._fill(scripts, batch, how, cached, tell)
            if len(prompts) > ROWS:
                self._watcher.say(f"{places.stop:,} of {len(prompts):,} prompts")
        return [
            Continuation(prompt, script.text, tuple(script.ids), script.ended or "positions")
            for prompt, script in zip(prompts, scripts, strict=True)
        ]

    def _fill(
        self,
        scripts: Sequence[Transcript],
        batch: Batch,
        how: Decoding,
        cached: bool,
        tell: Tell,
    ) -> None:
        """Write the transcripts of a batch."""
        for step in write_on(self._network, batch, how, cached=cached):
            for row, token in step.items():
                place = batch.places[row]
                tell(place, scripts[place].add(token))
                if scripts[place].ended is not None:
                    batch.done.add(row)
        for place in batch.places:
            if scripts[place].ended is None:
                tell(place, scripts[place].end("positions"))

    def _encoded(self, prompt: str) -> list[int]:
        ids = self._vocabulary.prompt(prompt)
        if not ids:
            raise ConfigError("this model has not learned to begin a text; give a prompt")
        most = most_positions(self._network)
        if most is not None and len(ids) > most:
            raise ConfigError(
                f"the prompt has {len(ids)} tokens, but the model has {most} positions; shorten it"
            )
        return ids


def generate(
    run: str | RunRecord,
    prompts: Sequence[str],
    *,
    decoding: Decoding | None = None,
    stops: Sequence[str] = (),
    weights: Weights = "selected",
    device: str = "auto",
    db: str | Path | None = None,
) -> list[Continuation]:
    """Continue prompts with a recorded language model.

    Args:
        run: See `Writer`.
        prompts: Text, or for synthetic data numbers with spaces between them.
        decoding: Length and choice of tokens; by default those of `Decoding`.
        stops: Texts before which a continuation ends.
        weights: See `Writer`.
        device: See `Writer`.
        db: See `Writer`.

    Raises:
        StoreError: If there is no such run, or it kept no such weights.
        ConfigError: If it is no language model, or a prompt cannot be continued.
        DataError: If its data or its tokenizer cannot be had any more.
    """
    writer = Writer(run, weights=weights, device=device, db=db)
    return writer.write(prompts, decoding or Decoding(), stops=stops)


def _vocabulary(prepared: Prepared, watcher: Watcher) -> Vocabulary:
    experiment = prepared.experiment
    make = experiment.dataset.vocabulary
    if make is None:
        return Numbers(prepared.dataset.vocab_size)
    context = LoadContext(experiment.base_dir, cache_dir(), watcher.say)
    return make(experiment.config.dataset_params, context)
