"""Results that are kept between executions: `Cache`, what a task says of it, and what stands behind it.

- `policy`: `Cache`, the value in a TaskDef.
- `contents`: a digest of any value's content, by joblib's hasher.
- `keys`: the key of one call: its function, and the arguments that it is given.
- `stores`, `sqlite`: where results are kept, in memory and in a file that several processes share.
- `desk`: asks a store, and sees that of several who miss the same thing one computes it.
"""

from __future__ import annotations
