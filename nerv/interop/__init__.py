"""Other people's graphs and schedulers: how they become nerv's, and nerv's theirs. Each is loaded when asked for."""
