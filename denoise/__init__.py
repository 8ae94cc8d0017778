"""Clean noisy images, audio recordings and sensor logs.

>>> import denoise
>>> cleaner = denoise.load("median", "sensor")
>>> cleaner.clean([0, 0, 9, 0, 0]).tolist()
[0, 0, 0, 0, 0]

Importing it is light: each name (listed in `__init__.pyi`) loads its module at first use.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
