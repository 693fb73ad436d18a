"""Finds methods and wrappers by module name; each module has a function `make`."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from ssljax import options
from ssljax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Modules:
  """The methods, or the wrappers: the modules of a package that have a `make`.

  A `name` may also be the dotted name of a module outside the package.
  """

  package: str  # "ssljax.methods"
  path: Iterable[str]  # the folder of the package
  helpers: tuple[str, ...] = ()  # modules of the package that have no `make`

  @property
  def kind(self) -> str:
    """The config key: "method" for ssljax.methods."""
    return self.package.rpartition(".")[2].removesuffix("s")

  def names(self) -> list[str]:
    """The names of all methods or wrappers in the package."""
    modules = {module.name for module in pkgutil.iter_modules(self.path)}
    return sorted(modules.difference(self.helpers))

  def describe(self, name: str) -> dict[str, options.Option]:
    """The keywords of `make` with types, ranges and defaults; {} if `name` is empty."""
    return options.describe(self.module(name).make) if name else {}

  def defaults(self, name: str) -> dict[str, Any]:
    """The keywords of `make` with their defaults; {} if `name` is empty."""
    return {key: option.default for key, option in self.describe(name).items()}

  def complete(self, config: Mapping[str, Any], preset: str = "") -> dict[str, Any]:
    """Returns `config`, plus the values of keywords that it leaves out.

    Args:
      preset: "": these are the defaults. "published": these are the values of the
        method's authors. If `config` has all keywords, as a `ConfigDict` has, nobody
        can tell which of them were set on purpose. Then keywords with their default
        get the authors' value as well. If `config` leaves some out, the others were
        set on purpose, and keep their values.
    """
    described = self.describe(config["name"])
    if preset != "published":
      return {**self.defaults(config["name"]), **config}
    full = described.keys() <= config.keys()
    chosen = {
      key: value
      for key, value in config.items()
      if not (full and key in described and value == described[key].default)
    }
    return {**config, **options.published(described, chosen)}

  def module(self, name: str) -> ModuleType:
    """Imports the module `name`.

    Raises:
      UserError: the module doesn't exist, can't be imported or has no `make`.
    """
    kind = self.kind
    if "." not in name:
      if name not in self.names():
        hint = options.nearest(name, self.names())
        raise UserError(
          f"unknown {kind} {name!r} (--config.{kind}.name){hint}"
          f"{'' if hint.endswith('?') else '.'} For a module of your own, give its "
          f"dotted name, such as my_package.my_{kind}"
        )
      return importlib.import_module(f"{self.package}.{name}")
    try:
      imported = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module raises
      raise UserError(
        f"--config.{kind}.name={name}: cannot import it "
        f"({type(error).__name__}: {error}); check the name, and make sure that its "
        "folder is installed or on PYTHONPATH"
      ) from error
    if not callable(getattr(imported, "make", None)):
      raise UserError(
        f"--config.{kind}.name={name}: {imported.__file__} defines no function make "
        "(see docs/adding-a-method.md)"
      )
    return imported

  def bind(self, config: Mapping[str, Any]) -> partial:
    """Returns `make` of the module `config["name"]`, with the other items as keywords.

    A keyword is a parameter of `make` that has a default.

    Raises:
      UserError: an unknown name or keyword, or a value out of a keyword's range.
    """
    kind, name = self.kind, config["name"]
    make = self.module(name).make
    keywords = {key: value for key, value in config.items() if key != "name"}
    accepted = options.describe(make)
    for key in keywords:
      if key not in accepted:
        raise UserError(
          f"{kind} {name} has no keyword {key!r} (--config.{kind}.{key})"
          f"{options.nearest(key, accepted) or '; it has no keywords'}"
        )
    try:
      options.check(accepted, keywords)
    except ValueError as error:
      raise UserError(f"--config.{kind}.{error} ({name})") from None
    return partial(make, **keywords)
