"""nerv: dependency-graph workflows inside your Python program."""

__version__ = "0.1.0"
