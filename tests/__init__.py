"""nerv's tests. A package, so that worker processes import what is in it and no installed `tests` hides it."""
