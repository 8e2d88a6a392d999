"""What `help()` shows: words and arguments for all that is public."""

import importlib
import inspect

import pytest

import neozodb
from neozodb.testing import Cluster

MODULES = ["", ".config", ".errors", ".iterator", ".storage", ".testing", ".uri", "._neozodb"]


def public(module):
    """What a module defines, or gives from another of the package."""
    for name, value in vars(module).items():
        own = getattr(value, "__module__", "").startswith("neozodb")
        if not name.startswith("_") and own and callable(value):
            yield value


def described(value):
    return bool((value.__doc__ or "").strip())


def members(cls):
    """Public members of a class that this package defines, in it or in a class below it."""
    for base in cls.__mro__:
        if base.__module__.startswith("neozodb"):
            for name, member in vars(base).items():
                if not name.startswith("_"):
                    yield name, getattr(cls, name), member


@pytest.mark.parametrize("suffix", MODULES)
def test_all_that_is_public_says_what_it_is_and_takes(suffix):
    module = importlib.import_module("neozodb" + suffix)
    assert described(module) or suffix == "._neozodb"
    found = list(public(module))
    assert found
    for value in found:
        assert described(value), value
        if not inspect.isclass(value):
            assert inspect.signature(value)
            continue
        for name, member, defined in members(value):
            assert described(member) or not callable(member), f"{value.__name__}.{name}"
            if inspect.isroutine(member):
                assert inspect.signature(member), f"{value.__name__}.{name}"
            elif inspect.isdatadescriptor(defined) and not issubclass(value, tuple):
                assert described(defined), f"{value.__name__}.{name}"


@pytest.mark.parametrize("cls", [neozodb.Storage, Cluster])
def test_each_option_is_explained(cls):
    for name in inspect.signature(cls).parameters:
        assert f":param {name}:" in cls.__doc__


def test_names_that_are_exported_are_there():
    for name in neozodb.__all__:
        assert getattr(neozodb, name) is not None
    assert neozodb.__version__.count(".") == 2
