"""The working parts of ``examples/stdlib_atlas.py``: plain functions that know nothing of nerv.

``discover`` finds the modules, ``scan`` reads their imports fast, ``graph`` orders them, ``analyse`` and ``native``
describe one module each (these two run in worker processes), ``search`` builds the index, ``page`` writes the page.
"""
