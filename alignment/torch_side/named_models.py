"""Models of packages by their short names, `timm:NAME`, `torchvision:NAME` and `transformers:CLASS`, without weights.

The packages are optional, so each is imported where a model of it is made.
"""

import difflib
import importlib
from collections.abc import Callable, Iterable
from functools import partial

from torch import nn

from alignment.user_code import UserCodeError

MAX_NEAR = 4  # names in a message about one that does not exist


def named_model(spec: str) -> Callable[..., nn.Module] | None:
    """The constructor of a model that is named `package:name`; None for a name of another form.

    The arguments are those of `timm.create_model`, of the function of torchvision, or of the configuration class of
    transformers. No weights are loaded unless an argument asks for them.

    Raises:
        ModuleNotFoundError: the package is missing.
        UserCodeError: the package has no such model; the message has the nearest names.
    """
    package, _, name = spec.rpartition(":")
    return MAKERS[package](name) if package in MAKERS else None


def _of_timm(name: str) -> Callable[..., nn.Module]:
    timm = importlib.import_module("timm")
    if timm.is_model(name):
        return partial(timm.create_model, name)
    if name == "create_model":
        return timm.create_model
    raise _unknown("timm", name, timm.list_models())


def _of_torchvision(name: str) -> Callable[..., nn.Module]:
    models = importlib.import_module("torchvision.models")
    known = models.list_models()
    if name not in known:
        raise _unknown("torchvision", name, known)
    return models.get_model_builder(name)


def _of_transformers(name: str) -> Callable[..., nn.Module]:
    """The constructor of a model class, or of the plain model of a kind, from arguments of its configuration."""
    transformers = importlib.import_module("transformers")
    configs = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if name in configs:
        return partial(_configured, transformers.AutoModel.from_config, configs[name])
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module) and getattr(found, "config_class", None)):
        words = ("Model", "For", "Backbone")
        classes = [known for known in dir(transformers) if known[:1].isupper() and any(word in known for word in words)]
        raise _unknown("transformers", name, [*configs, *classes])
    return partial(_configured, found, found.config_class)


def _configured(make: Callable, config_class: type, **arguments: object) -> nn.Module:
    """A model of a configuration.

    Raises:
        UserCodeError: the configuration has no such setting; transformers itself would keep it without a word.
    """
    known = config_class()
    for key in arguments:
        if not hasattr(known, key):
            near = _near(key, known.to_dict())
            raise UserCodeError(f"{config_class.__name__} of transformers has no setting {key}{near}")
    return make(config_class(**arguments))


def _unknown(package: str, name: str, known: Iterable[str]) -> UserCodeError:
    return UserCodeError(f"{package} has no model {name}{_near(name, known)}")


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=MAX_NEAR)
    return f"; the nearest names: {', '.join(near)}" if near else ""


MAKERS: dict[str, Callable[[str], Callable[..., nn.Module]]] = {
    "timm": _of_timm,
    "torchvision": _of_torchvision,
    "transformers": _of_transformers,
}
