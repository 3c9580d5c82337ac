"""The part of the build that `pyproject.toml` cannot say: the cffi module, and one abi3 wheel."""

from __future__ import annotations

import sysconfig

from setuptools import setup

# Free-threaded CPython has no limited API yet, so its wheels carry their own version tag.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
OPTIONS = {} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp310"}}

setup(cffi_modules=["build_ffi.py:builder"], options=OPTIONS)
