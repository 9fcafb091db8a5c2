"""Finds models, data sets and routers: in this package, in installed ones, and in plain files.

Importing a component's file changes nothing in the world; the registry looks for its `SPEC`.
A component is known by a name (`moe`), or, for an idea that is an hour old, by a file and a name
in it (`./my_model.py:MyModel`), relative to the configuration that mentions it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeGuard, TypeVar

from research_eval.errors import ConfigError, PluginError, did_you_mean
from research_eval.spec import DatasetSpec, ModelSpec, RouterSpec, TransformerParams

Spec = TypeVar("Spec", bound=ModelSpec | DatasetSpec | RouterSpec)


class SpecMap(Mapping[str, Spec], Generic[Spec]):
    """A read-only mapping from names to specs; names are listed without importing anything.

    Args:
        kind: What it holds, in one word for messages and as the name of the entry-point group
            (`research_eval.<kind>s`).
        spec_type: Class that every `SPEC` must have.
        from_class: Makes a spec of a plain class that a plug-in file names.
    """

    def __init__(
        self, kind: str, spec_type: type[Spec], from_class: Callable[[type], Spec] | None
    ) -> None:
        self.kind = kind
        self.package = f"research_eval.{kind}s"
        self._spec_type = spec_type
        self._from_class = from_class
        self._loaded: dict[str, Spec] = {}

    @cached_property
    def _sources(self) -> dict[str, str | EntryPoint]:
        folder = importlib.import_module(self.package)
        found: dict[str, str | EntryPoint] = {
            public_name(module.name): module.name
            for module in pkgutil.iter_modules(folder.__path__)
            if not module.name.startswith("_")
        }
        return found | self._plugins(found)

    def _plugins(self, own: Mapping[str, object]) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.package):
            other = found.get(point.name, self.package if point.name in own else None)
            if other is not None:
                first = other.value if isinstance(other, EntryPoint) else other
                raise PluginError(
                    f"two {self.kind}s are called '{point.name}': {first} and {point.value}; "
                    "uninstall one or rename its entry point"
                )
            found[point.name] = point
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._sources))

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, name: str) -> Spec:
        if name not in self._loaded:
            self._loaded[name] = self._load(self._sources[name])
        return self._loaded[name]

    def _load(self, source: str | EntryPoint) -> Spec:
        if isinstance(source, str):
            where = f"{self.package}.{source}"
            try:
                spec = importlib.import_module(where).SPEC
            except ModuleNotFoundError as error:
                if (error.name or "").startswith("research_eval"):
                    raise  # not a missing extra but a mistake of ours
                raise ConfigError(
                    f"{self.kind}s need {error.name}, which is not installed: "
                    "pip install 'research-eval[train]'"
                ) from error
        else:
            where = source.value
            try:
                spec = source.load()
            except Exception as error:  # a plug-in may fail in any way; the user is told which
                raise PluginError(
                    f"{self.kind} plug-in {where} does not import: {error}"
                ) from error
        return self._accept(spec, where)

    def _accept(self, found: object, where: str) -> Spec:
        if isinstance(found, self._spec_type):
            return found
        if self._from_class is not None and _is_module_class(found):
            return self._from_class(found)
        kind = "a class" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise PluginError(
            f"{where} is {kind}, but a {self.kind} must be a {self._spec_type.__name__}"
            + (" or a class derived from torch.nn.Module" if self._from_class else "")
        )

    def find(self, name: str, base_dir: Path) -> Spec:
        """Return the spec of a registered name or of a plug-in file.

        Args:
            name: A name of this map, or `./file.py:Name`.
            base_dir: Folder that a relative file starts from.

        Raises:
            ConfigError: If there is no such name; the message lists those there are.
            PluginError: If the file cannot be used.
        """
        reference = plugin_reference(name, base_dir)
        if reference is not None:
            return self._accept(reference.load(), str(reference))
        if name not in self._sources:
            raise ConfigError(f"unknown {self.kind} '{name}'; {did_you_mean(name, self)}")
        return self[name]

    def source_file(self, name: str, base_dir: Path) -> Path:
        """Return the file that a component found by `find` is written in."""
        reference = plugin_reference(name, base_dir)
        if reference is not None:
            return reference.file
        source = self._sources[name]
        module = source.module if isinstance(source, EntryPoint) else f"{self.package}.{source}"
        return Path(str(importlib.import_module(module).__file__))


def public_name(stem: str) -> str:
    """Return the name of the component in a file: the stem, with a dash before a number.

    A module cannot have a dash in its name, so `wikitext_2.py` holds `wikitext-2`, while
    `ag_news.py` holds `ag_news` and `sst2.py` holds `sst2`.
    """
    return re.sub(r"_(?=\d)", "-", stem)


@dataclass(frozen=True, slots=True)
class PluginReference:
    """A component in a plain file.

    Attributes:
        file: Absolute path of the Python file.
        attribute: Name of the object in it.
    """

    file: Path
    attribute: str

    def __str__(self) -> str:
        return f"{self.file}:{self.attribute}"

    def load(self) -> object:
        """Import the file and return the object.

        Raises:
            PluginError: If the file is missing, fails to import, or lacks the name.
        """
        module = _import_file(self.file)
        try:
            found: object = getattr(module, self.attribute)
        except AttributeError:
            public = [name for name, each in vars(module).items() if _is_offered(each, module)]
            raise PluginError(
                f"{self.file} has no '{self.attribute}'; {did_you_mean(self.attribute, public)}"
            ) from None
        return found


def plugin_reference(name: str, base_dir: Path) -> PluginReference | None:
    """Read `./file.py:Name`; return None if `name` is an ordinary registered name."""
    path, separator, attribute = name.rpartition(":")
    if not separator or not path.endswith(".py"):
        if name.endswith(".py"):
            raise PluginError(f"'{name}' names a file but nothing in it; write {name}:Name")
        return None
    return PluginReference((base_dir / Path(path).expanduser()).resolve(), attribute)


def _is_offered(value: object, module: ModuleType) -> bool:
    """Return whether a name of a plug-in file is worth suggesting: its own classes and specs."""
    is_own = isinstance(value, type) and value.__module__ == module.__name__
    return is_own or isinstance(value, ModelSpec | DatasetSpec | RouterSpec)


def _import_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise PluginError(f"there is no plug-in file {file}")
    try:
        content = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise PluginError(f"cannot read plug-in file {file}: {error.strerror}") from None
    name = f"research_eval_plugin_{file.stem}_{content}"
    if name in sys.modules:
        return sys.modules[name]
    module_spec = importlib.util.spec_from_file_location(name, file)
    if module_spec is None or module_spec.loader is None:
        raise PluginError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # a plug-in may fail in any way; the user is told which
        del sys.modules[name]
        raise PluginError(
            f"plug-in file {file} does not import: {type(error).__name__}: {error}"
        ) from error
    return module


def _is_module_class(found: object) -> TypeGuard[type]:
    """Return whether this is a class of torch modules, without loading torch to find out."""
    return isinstance(found, type) and any(
        (base.__module__, base.__qualname__) == ("torch.nn.modules.module", "Module")
        for base in found.__mro__
    )


def _model_of(found: type) -> ModelSpec:
    params: Any = getattr(found, "Params", TransformerParams)
    if not (isinstance(params, type) and issubclass(params, TransformerParams)):
        raise PluginError(f"{found.__name__}.Params must be a class derived from TransformerParams")
    return ModelSpec(name=found.__name__, params=params, build=found)


def _router_of(found: type) -> RouterSpec:
    return RouterSpec(name=found.__name__, build=found)


MODELS_MAP: SpecMap[ModelSpec] = SpecMap("model", ModelSpec, _model_of)
DATASETS_MAP: SpecMap[DatasetSpec] = SpecMap("dataset", DatasetSpec, None)
ROUTERS_MAP: SpecMap[RouterSpec] = SpecMap("router", RouterSpec, _router_of)

MAPS: Mapping[str, SpecMap[Any]] = {m.kind: m for m in (MODELS_MAP, DATASETS_MAP, ROUTERS_MAP)}
"""Every registry by the kind that a `Pluggable` field names."""
