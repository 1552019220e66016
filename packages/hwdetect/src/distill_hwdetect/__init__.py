"""Describe a machine, decide how a language model should run on it, and explain each decision.

Importing this package loads nothing heavy: each public name, listed in ``__init__.pyi``, is imported when it
is first used (PEP 562).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
